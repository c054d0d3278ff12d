package conformance

import (
	"bufio"
	"strings"
	"testing"
)

func TestReadResponse(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tc := range []struct {
		name, method, in string
		status           int
		body             string
		cut              bool
		err              string
	}{
		{"length", "GET", ok + "Content-Length: 4\r\n\r\nabcdef", 200, "abcd", false, ""},
		{"short", "GET", ok + "Content-Length: 8\r\n\r\nabcd", 200, "abcd", true, ""},
		{"chunked", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX-T: a\r\n\r\n", 200, "abcd", false, ""},
		{"no last chunk", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", 200, "abcd", true, ""},
		{"trailer cut", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: a", 200, "", true, ""},
		{"until close", "GET", ok + "\r\nabcd", 200, "abcd", false, ""},
		{"head", "HEAD", ok + "Content-Length: 4\r\n\r\n", 200, "", false, ""},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", 304, "", false, ""},
		{"interim", "GET", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n", 200, "", false, ""},
		{"no status", "GET", "hello\r\n\r\n", 0, "", false, "no status line"},
		{"nothing", "GET", "", 0, "", false, "EOF"},
		{"head cut", "GET", ok + "X-A: a\r\n", 0, "", false, "unexpected EOF"},
		{"no colon", "GET", ok + "X-A\r\n\r\n", 0, "", false, "no colon"},
		{"endless interim", "GET", strings.Repeat("HTTP/1.1 102 x\r\n\r\n", 30), 0, "", false, "more than 20 interim"},
		{"long head", "GET", ok + strings.Repeat("X-A: aaaaaaaaaaaa\r\n", 10000), 0, "", false, "bytes of header"},
		{"odd length", "GET", ok + "Content-Length: 4, 4\r\n\r\nabcd", 0, "", false, "not a length"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := readResponse(bufio.NewReader(strings.NewReader(tc.in)), tc.method, func() {})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v; want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if resp.status != tc.status || resp.body.text != tc.body || resp.body.cut != tc.cut {
				t.Errorf("got %+v", resp)
			}
		})
	}
}

// FuzzResponse: whatever a proxy sends, reading it ends, within bounds.
func FuzzResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX-T: a\r\n\r\n")
	f.Add("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
	f.Fuzz(func(t *testing.T, in string) {
		resp, err := readResponse(bufio.NewReader(strings.NewReader(in)), "GET", func() {})
		if err == nil && (resp.status < 101 || len(resp.body.text) > len(in)) {
			t.Errorf("got %+v", resp)
		}
	})
}
