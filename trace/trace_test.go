package trace

import (
	"strings"
	"testing"
	"time"
)

func TestPrint(t *testing.T) {
	tr := &Trace{ID: "0123", Service: "shop", Version: 3}
	tr.Add(Step{Seq: 1, At: 1500, Took: 300, Name: "fastly_http_req.new", Result: "ok", Out: []Field{{"out_request_handle", "1"}}})
	tr.Add(Step{Seq: 2, At: 2 * time.Millisecond, Took: time.Second, Name: "fastly_http_req.send", Args: []Field{{"h", "1"}, {"backend", Text([]byte("origin"))}}, Result: "error"})
	tr.End("ok")
	var b strings.Builder
	if err := tr.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := `trace 0123  shop version 3
    1     1.5µs    +0.3µs  fastly_http_req.new() -> out_request_handle=1
    2    2.00ms    +1.00s  fastly_http_req.send(h=1, backend="origin") = error
      ended: ok
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestBounds(t *testing.T) {
	tr := &Trace{}
	for range MaxSteps + 5 {
		tr.Add(Step{})
	}
	if len(tr.Steps) != MaxSteps || tr.Dropped != 5 {
		t.Errorf("%d steps, %d dropped", len(tr.Steps), tr.Dropped)
	}
	if s := Text(make([]byte, 1000)); len(s) > 5*MaxValue {
		t.Errorf("a value of %d bytes is shown", len(s))
	}
}
