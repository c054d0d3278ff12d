package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/state"
)

// testSinks has one service, whose sink takes what take says.
func testSinks(t *testing.T, kv *state.KV, rule *wedge.Collect, take func(*rawBatch) error) *sinks {
	t.Helper()
	return &sinks{pop: "fra", writer: "fra.1", kv: kv, log: slog.New(slog.DiscardHandler), queues: map[string]*sinkQueue{}, news: make(chan struct{}, 1),
		find: func(string, string) (*wedge.Version, *wedge.Collect, func()) {
			return &wedge.Version{Service: "shop"}, rule, func() {}
		},
		send: func(_ context.Context, _ *wedge.Version, _ *wedge.CollectSink, b *rawBatch) error { return take(b) }}
}

func sinkRule() *wedge.Collect {
	return &wedge.Collect{Name: "raw", Window: time.Second, Sample: 1, Series: 10, Sink: wedge.CollectSink{Name: "lake"}}
}

func memoryKV(t *testing.T) *state.KV {
	t.Helper()
	kv, err := state.Open(t.TempDir(), state.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

// TestSinkQueue: what a sink does not take waits, and is the same when it is sent again, by a process that follows, too. What is too much is dropped.
func TestSinkQueue(t *testing.T) {
	kv, rule := memoryKV(t), sinkRule()
	fails, batches := true, []rawBatch{}
	take := func(b *rawBatch) error {
		if batches = append(batches, *b); fails {
			return errors.New("not now")
		}
		return nil
	}
	s := testSinks(t, kv, rule, take)
	for i := range sinkWaiting + 7 {
		s.add("shop", rule, []collect.Event{{"n": fmt.Sprint(i)}}, time.Unix(1_800_000_000, 0))
	}
	if s.waiting() != sinkWaiting || s.dropped.Load() != 7 {
		t.Fatalf("%d wait, %d dropped", s.waiting(), s.dropped.Load())
	}
	work := func(s *sinks) (err error) {
		q, err := s.open("shop", "raw")
		for b := (*rawBatch)(nil); err == nil; {
			if b, err = q.next(); b == nil {
				return err
			}
			err = q.deliver(t.Context(), b)
		}
		return err
	}
	if err := work(s); err == nil {
		t.Fatal("a batch that was not taken counts as taken")
	}
	fails = false
	s = testSinks(t, kv, rule, take)
	if err := work(s); err != nil {
		t.Fatal(err)
	}
	if batches[0].ID != batches[1].ID || string(batches[0].Lines) != string(batches[1].Lines) {
		t.Errorf("another batch is sent again: %s, %s", batches[0].ID, batches[1].ID)
	}
	ids := map[string]bool{}
	for _, b := range batches[1:] {
		for line := range strings.Lines(string(b.Lines)) {
			id, _, _ := strings.Cut(line, ",")
			ids[id] = true
		}
	}
	if want := `{"id":"fra.1/shop/raw/1-0","at":"2027-01-15T08:00:00Z","pop":"fra","service":"shop","name":"raw","weight":1,"event":{"n":"0"}}` + "\n"; !strings.HasPrefix(string(batches[1].Lines), want) {
		t.Errorf("%.300s", batches[1].Lines)
	}
	if len(ids) != sinkWaiting || s.sent.Load() != sinkWaiting || s.waiting() != 0 {
		t.Errorf("%d lines, %d sent, %d wait", len(ids), s.sent.Load(), s.waiting())
	}
	if s = testSinks(t, kv, rule, take); work(s) != nil || s.sent.Load() != 0 {
		t.Errorf("%d are sent again", s.sent.Load())
	}
	if q, err := s.open("shop", "raw"); err != nil || q.bytes.Load() != 0 {
		t.Errorf("%d bytes wait, %v", q.bytes.Load(), err)
	}
	large := []collect.Event{{"n": strings.Repeat("x", sinkSize)}}
	s.add("shop", rule, large, time.Now())
	s = testSinks(t, kv, rule, take)
	if s.add("shop", rule, large, time.Now()); s.dropped.Load() != 1 || s.waiting() != 1 {
		t.Errorf("%d dropped, %d wait", s.dropped.Load(), s.waiting())
	}
	if err := work(s); err != nil {
		t.Fatal(err)
	}
	s.dropped.Store(0)
	rule.Sink = wedge.CollectSink{}
	s.add("shop", rule, []collect.Event{{}, {}}, time.Now())
	if err := work(s); err != nil || s.dropped.Load() != 2 {
		t.Errorf("for a sink that is gone: %v, %d dropped", err, s.dropped.Load())
	}
}

// TestSinkFile: lines are whole, whatever a crash has left, and a large file makes room for the next.
func TestSinkFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "raw")
	f := &sinkFile{name: name, most: 29}
	if err := os.WriteFile(name, []byte("{\"a\":1}\n{\"to"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.put(t.Context(), &rawBatch{Lines: []byte("{\"b\":2}\n")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.put(t.Context(), &rawBatch{Lines: []byte("{\"c\":3}\n")}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{name + ".1": "{\"a\":1}\n{\"to\n{\"b\":2}\n{\"b\":2}\n", name: "{\"c\":3}\n"} {
		if b, err := os.ReadFile(file); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	f.name = filepath.Join(name, "below")
	if err := f.put(t.Context(), &rawBatch{}); wedge.KindOf(err) != wedge.Unavailable {
		t.Error(err)
	}
}

// TestSinkNames: a service reaches the sinks only that the operator lets it have.
func TestSinkNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "raw")
	targets, err := openSinkTargets(nil, map[string]SinkConfig{"lake": {File: file, Services: []string{"shop"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer targets.close()
	for _, test := range []struct {
		service, sink string
		kind          wedge.Kind
	}{{"shop", "lake", 0}, {"other", "lake", wedge.NotExist}, {"shop", file, wedge.NotExist}} {
		err := targets.send(t.Context(), &wedge.Version{Service: test.service}, &wedge.CollectSink{Name: test.sink}, &rawBatch{Lines: []byte("{}\n")})
		if (err == nil) != (test.service == "shop" && test.sink == "lake") || err != nil && wedge.KindOf(err) != test.kind {
			t.Errorf("%s, %s: %v", test.service, test.sink, err)
		}
	}
	for _, sink := range []wedge.CollectSink{{Backend: "none", Path: "/"}, {Backend: "files", Path: "/"}} {
		v := &wedge.Version{Service: "shop", Backends: []wedge.Backend{{Name: "files", Dir: "."}}}
		if err := targets.send(t.Context(), v, &sink, &rawBatch{}); wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("%s: %v", sink.Backend, err)
		}
	}
}
