package front

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// TestWriter: what a handler can do with its ResponseWriter.
func TestWriter(t *testing.T) {
	f := run(t, Config{}, everything(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.SetReadDeadline(time.Now().Add(time.Minute)), rc.SetWriteDeadline(time.Now().Add(time.Minute)), rc.EnableFullDuplex()); err != nil {
			t.Error(err)
		}
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, "first ")
		if err := rc.Flush(); err != nil {
			t.Error(err)
		}
		io.Copy(w, r.Body)
		if _, ok := w.(http.Hijacker); ok != (r.ProtoMajor == 1) {
			t.Errorf("Hijacker on %s: %v", r.Proto, ok)
		}
	}))
	for _, proto := range []string{"1", "h2c"} {
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == 103 && h.Get("Link") != "" {
				hints++
			}
			return nil
		}})
		body, send := io.Pipe()
		r, _ := http.NewRequestWithContext(ctx, "POST", "http://a/", body)
		resp, err := client(t, f.http, proto, nil).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(resp.Body, make([]byte, 6))
		io.WriteString(send, "second") // only now: both directions are open
		send.Close()
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || hints != 2 || resp.StatusCode != 202 || string(b) != "second" {
			t.Errorf("%s: %d hints, %d %q %v", proto, hints, resp.StatusCode, b, err)
		}
	}
}

// TestUpgrade talks another protocol over a hijacked connection, plain and TLS. The client
// speaks before it is asked, in bytes that are no HTTP.
func TestUpgrade(t *testing.T) {
	ca := newAuthority(t)
	f := run(t, Config{Certificates: []CertificateFiles{ca.issue(t, "a", "a.example")}}, everything(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, io.LimitReader(rw, 13))
	}))
	for _, early := range []string{"", "\n\x00\r\n\r\n\x81"} {
		rest := "\n\x00\r\n\r\n\x81 echo."[len(early):]
		plain := dial(t, f.http)
		secure := tls.Client(dial(t, f.https), &tls.Config{ServerName: "a.example", RootCAs: ca.pool})
		for _, c := range []net.Conn{plain, secure} {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"+early)
			br := bufio.NewReader(c)
			if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
				t.Fatal(resp, err)
			}
			io.WriteString(c, rest)
			if b, err := io.ReadAll(br); err != nil || string(b) != early+rest {
				t.Errorf("got %q, %v, want %q", b, err, early+rest)
			}
		}
	}
	waitFor(t, "all to end", func() bool { return f.Stats().InFlight == 0 })
	if s := f.Stats(); s.Hijacked != 4 || s.Status[1] != 4 {
		t.Errorf("%+v", s)
	}
}

func TestH2CUpgradeIsNotPassedOn(t *testing.T) {
	f := run(t, Config{}, everything(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["Upgrade"], r.Header["Http2-Settings"])
	}))
	got := talk(t, f.http, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: websocket, h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
	if !strings.HasSuffix(got, "\r\n\r\n[] []") {
		t.Errorf("got %q", got)
	}
}

func TestPanics(t *testing.T) {
	var log bytes.Buffer
	f := run(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, everything(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.Header().Set("Set-Cookie", "half=made")
			w.WriteHeader(http.StatusEarlyHints)
			panic("early")
		case "/late":
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			panic("late")
		}
		panic(http.ErrAbortHandler)
	}))
	for _, proto := range []string{"1", "h2c"} {
		c := client(t, f.http, proto, nil)
		resp, body := get(t, c, "http://a/early")
		id := resp.Header.Get("X-Request-Id")
		if resp.StatusCode != 500 || resp.Header["Set-Cookie"] != nil || body != "internal error (request "+id+")\n" {
			t.Errorf("early: %d %v %q", resp.StatusCode, resp.Header, body)
		}
		if !strings.Contains(log.String(), "request="+id) {
			t.Errorf("log lacks request %s: %s", id, log.String())
		}
		resp, err := c.Get("http://a/late")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("late: got %q as if whole", b)
		}
		resp.Body.Close()
		if resp, err := c.Get("http://a/abort"); err == nil {
			t.Errorf("abort: got %v", resp.Status)
		}
	}
	waitFor(t, "all to end", func() bool { return f.Stats().InFlight == 0 })
	if s := f.Stats(); s.Panics != 4 || s.Status[5] != 2 || s.Status[2] != 2 || s.Status[0] < 2 {
		t.Errorf("%+v", s)
	}
}

// TestStall: a client that takes nothing of its response does not hold a handler for ever.
func TestStall(t *testing.T) {
	failed := make(chan error, 1)
	f := run(t, Config{StallTimeout: time.Millisecond}, everything(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				failed <- err
				return
			}
		}
	}))
	c := dial(t, f.http)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case err := <-failed:
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still writing")
	}
}

// TestUnreadBody: what a handler left of a body is nobody's request, and does not end the connection where the next request can be found.
func TestUnreadBody(t *testing.T) {
	f := run(t, Config{}, everything(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/some":
			_, _ = io.ReadFull(r.Body, make([]byte, 2))
		case "/fails":
			panic("oh")
		case "/all":
			_, _ = io.Copy(io.Discard, r.Body)
		case "/closed":
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
			r.Body.Close()
		case "/interrupted": // as of a guest that reads when it has answered
			if err := http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Error(err)
			}
		}
		io.WriteString(w, r.Method+" "+r.URL.Path)
	}))
	const next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, c := range []struct {
		head, early, late string // late is sent when the answer has begun
		next              bool   // whether the next request is answered
	}{
		{"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n", "theirs", "", true},
		{"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n", "the", "irs", true},
		{"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "6\r\ntheirs\r\n0\r\n\r\n", "", true},
		{"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "6\r\nthe", "irs\r\n0\r\n\r\n", true},
		{"POST /some HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n", "theirs", "", true},
		{"POST /fails HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n", "theirs", "", true},
		{"GET /none HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n", "theirs", "", true},
		{"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n", "theirs", "", false},
		{"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n", "", "", false},
		{"POST /interrupted HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n", "", "", false},
		{"POST /interrupted HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc", "", false},
		{"POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 62\r\n\r\n", "", "", false},
		{"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nbad\r\n", "", false},
		{"POST /all HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nbad\r\n", "", false},
		{"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nb\x01d: x\r\n\r\n", "", false},
		{"POST /all HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nb\x01d: x\r\n\r\n", "", false},
		{"POST /all HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nX: " + strings.Repeat("x", 4100) + "\r\n\r\n", "", false},
		{"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nX: " + strings.Repeat("x", 4100) + "\r\n\r\n", "", false},
		{"POST /all HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nab\r\n0\r\nX: y\r\n\r\n", "", true},
	} {
		conn, err := net.Dial("tcp", f.http)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, c.head+c.early)
		br := bufio.NewReader(conn)
		first, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Errorf("%q: %v", c.head, err)
			conn.Close()
			continue
		}
		for range 3 {
			io.WriteString(conn, c.late+next)
			if c.late = ""; c.next {
				_, _ = io.Copy(io.Discard, first.Body)
				if first, err = http.ReadResponse(br, nil); err != nil {
					break
				}
			}
		}
		if !c.next {
			_, _ = io.Copy(io.Discard, first.Body)
			if rest, _ := io.ReadAll(br); len(rest) > 0 {
				t.Errorf("%q: more was answered: %q", c.head, rest)
			}
		} else if err != nil {
			t.Errorf("%q: then %v", c.head, err)
		} else if b, _ := io.ReadAll(first.Body); string(b) != "GET /next" {
			t.Errorf("%q: then %d %q", c.head, first.StatusCode, b)
		}
		conn.Close()
	}
}
