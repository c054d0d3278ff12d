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
