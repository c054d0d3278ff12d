// The Go guest under test: each path tries one thing that the SDK offers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

var origin = &http.Client{Transport: edge.Backend("origin")}

var routes = map[string]http.HandlerFunc{
	"/hello":      func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "Hello, edge!\n") },
	"/request":    request,
	"/client":     client,
	"/env":        env,
	"/stream":     stream,
	"/endless":    endless,
	"/cut":        cut,
	"/proxy":      func(w http.ResponseWriter, r *http.Request) { forward(w, r, "/hello") },
	"/big":        func(w http.ResponseWriter, r *http.Request) { forward(w, r, "/big?"+r.URL.RawQuery) },
	"/copy":       copyBig,
	"/echo":       echo,
	"/duplex":     duplex,
	"/fail":       fail,
	"/hints":      hints,
	"/trailers":   trailers,
	"/after-exit": afterExit,
	"/kv":         kv,
	"/keep":       keep,
	"/stores":     stores,
	"/dynamic":    dynamic,
	"/logs":       logs,
	"/twice":      twice,
	"/none":       func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
	"/panic":      func(w http.ResponseWriter, r *http.Request) { panic("oops: a secret of the guest") },
	"/exit":       func(w http.ResponseWriter, r *http.Request) { os.Exit(7) },
	"/loop":       func(w http.ResponseWriter, r *http.Request) { loop() },
	"/recurse":    func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, recurse(0)) },
	"/memory":     memory,
	"/headers":    headerBomb,
	"/sleep":      func(w http.ResponseWriter, r *http.Request) { nap(r); io.WriteString(w, "rested\n") },
	"/served":     served,
	"/nothing":    func(w http.ResponseWriter, r *http.Request) {},
}

func main() {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := routes[r.URL.Path]; f != nil {
			f(w, r)
			return
		}
		http.Error(w, "no route", http.StatusNotFound)
	})
	if len(os.Args) > 1 && os.Args[1] == "many" {
		edge.ServeMany(h, edge.Reuse{Max: 3, Idle: 2 * time.Second})
		return
	}
	edge.Serve(h)
	// What a guest does once the client has its answer.
	if note := os.Getenv("AFTER"); note != "" {
		store, err := edge.OpenKV("visits")
		check(err)
		time.Sleep(50 * time.Millisecond)
		check(store.Put(context.Background(), "after", []byte(note), nil))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	check(json.NewEncoder(w).Encode(v))
}

func request(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	check(err)
	show(w, map[string]any{"method": r.Method, "host": r.Host, "uri": r.URL.RequestURI(), "remote": r.RemoteAddr, "tls": r.TLS != nil,
		"header": r.Header, "length": r.ContentLength, "body": string(body), "trailer": r.Trailer})
}

func client(w http.ResponseWriter, r *http.Request) {
	c := edge.ClientInfo(r)
	show(w, map[string]any{"id": c.RequestID(), "ip": c.IP(), "server": c.ServerIP(), "proto": c.Proto(), "tls": c.TLSProtocol(),
		"cipher": c.TLSCipher(), "sni": c.TLSServerName(), "hello": len(c.TLSHello()), "ja3": fmt.Sprintf("%x", c.JA3()), "ja4": c.JA4(),
		"cert": len(c.TLSCertificate()), "h2": c.H2Fingerprint(), "oh": c.HeaderFingerprint(), "names": c.HeaderNames()})
}

func env(w http.ResponseWriter, r *http.Request) {
	out := map[string]string{}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	out["args"] = strings.Join(os.Args, " ")
	show(w, out)
}

func stream(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	for i := range 3 {
		fmt.Fprintf(w, "part %d\n", i)
		check(rc.Flush())
		time.Sleep(20 * time.Millisecond)
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	piece := []byte(strings.Repeat("x", 16<<10))
	for {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

// cut begins an answer that it does not end.
func cut(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, "half of ")
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func fetch(r *http.Request, backend, path string, body io.Reader) (*http.Response, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(r.Context(), method, "http://origin.test"+path, body)
	check(err)
	return (&http.Client{Transport: edge.Backend(backend)}).Do(req)
}

// forward answers with the origin's response, which goes on after this guest has ended.
func forward(w http.ResponseWriter, r *http.Request, path string) {
	resp, err := fetch(r, "origin", path, nil)
	check(err)
	check(edge.Forward(w, resp))
}

// copyBig moves a body through the guest's memory.
func copyBig(w http.ResponseWriter, r *http.Request) {
	resp, err := fetch(r, "origin", "/big?"+r.URL.RawQuery, nil)
	check(err)
	_, err = io.Copy(w, resp.Body)
	check(err)
}

func echo(w http.ResponseWriter, r *http.Request) {
	resp, err := fetch(r, "origin", "/echo", r.Body)
	check(err)
	w.Header().Set("X-Origin-Length", resp.Header.Get("X-Length"))
	_, err = io.Copy(w, resp.Body)
	check(err)
}

// duplex answers each line as it comes in.
func duplex(w http.ResponseWriter, r *http.Request) {
	buf := make([]byte, 256)
	rc := http.NewResponseController(w)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			io.WriteString(w, strings.ToUpper(string(buf[:n])))
			check(rc.Flush())
		}
		if err != nil {
			return
		}
	}
}

// fail fetches what cannot be had and says what the SDK made of it.
func fail(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	resp, err := fetch(r, q.Get("backend"), q.Get("path"), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	var fe *edge.FetchError
	switch {
	case errors.As(err, &fe):
		fmt.Fprintf(w, "%d", fe.Reason)
	case err != nil:
		fmt.Fprintf(w, "body: %v", errors.Is(err, io.ErrUnexpectedEOF))
	default:
		fmt.Fprintf(w, "ok %d", resp.StatusCode)
	}
}

func hints(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Set("Link", "</b.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	nap(r)
	io.WriteString(w, "done")
}

func trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	io.WriteString(w, "body")
	w.Header().Set("X-Sum", "42")
}

func afterExit(w http.ResponseWriter, r *http.Request) {
	store, err := edge.OpenKV("visits")
	check(err)
	v, err := store.Get(r.Context(), "after")
	if err != nil {
		io.WriteString(w, "nothing yet")
		return
	}
	b, err := v.Bytes()
	check(err)
	w.Write(b)
}

// keep writes a value that the URL has, or shows what was written.
func keep(w http.ResponseWriter, r *http.Request) {
	store, err := edge.OpenKV("visits")
	check(err)
	if key := r.FormValue("key"); r.FormValue("value") != "" {
		check(store.Put(r.Context(), key, []byte(r.FormValue("value")), nil))
	} else {
		v, err := store.Get(r.Context(), key)
		check(err)
		b, err := v.Bytes()
		check(err)
		w.Write(b)
	}
}

func kv(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	s, err := edge.OpenKV("visits")
	check(err)
	check(s.Put(ctx, "go", []byte("one"), &edge.KVPut{Metadata: "meta", TTL: time.Minute}))
	v, err := s.Get(ctx, "go")
	check(err)
	b, err := v.Bytes()
	check(err)
	check(s.Put(ctx, "go", []byte("+two"), &edge.KVPut{Mode: edge.Append}))
	v2, err := s.Get(ctx, "go")
	check(err)
	b2, err := v2.Bytes()
	check(err)
	errAdd := s.Put(ctx, "go", []byte("x"), &edge.KVPut{Mode: edge.Add})
	check(s.Delete(ctx, "go"))
	_, errGone := s.Get(ctx, "go")
	_, errStore := edge.OpenKV("nope")
	show(w, []any{string(b), v.Metadata, string(b2), v2.Generation != v.Generation, errAdd != nil, errGone != nil, errStore != nil})
}

func stores(w http.ResponseWriter, r *http.Request) {
	cfg, err := edge.OpenConfig("settings")
	check(err)
	greeting, err := cfg.Get("greeting")
	check(err)
	secrets, err := edge.OpenSecrets("keys")
	check(err)
	secret, err := secrets.Get("token")
	check(err)
	plain, err := secret.Plaintext()
	check(err)
	acl, err := edge.OpenACL("office")
	check(err)
	match, err := acl.Lookup(netip.MustParseAddr("10.9.9.9"))
	check(err)
	_, errMiss := acl.Lookup(netip.MustParseAddr("192.0.2.1"))
	place, err := edge.Geo(netip.MustParseAddr("127.0.0.1"))
	check(err)
	dev, err := edge.Device("test-phone")
	check(err)
	show(w, []any{greeting, string(plain), match.Action, errMiss != nil, place.City, dev.Name})
}

func dynamic(w http.ResponseWriter, r *http.Request) {
	rt, err := edge.DynamicBackend("dyn", r.URL.Query().Get("target"), edge.HostHeader("dyn.test"))
	if err != nil {
		fmt.Fprintf(w, "register: %v", errors.Is(err, errors.ErrUnsupported))
		return
	}
	resp, err := (&http.Client{Transport: rt}).Get("http://dyn.test/hello")
	var fe *edge.FetchError
	if errors.As(err, &fe) {
		fmt.Fprintf(w, "fetch: %d", fe.Reason)
		return
	}
	check(err)
	io.Copy(w, resp.Body)
}

func logs(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(edge.Log("audit"), "line from go")
	fmt.Println("to stdout")
	fmt.Fprintln(os.Stderr, "to stderr")
	io.WriteString(w, "logged")
}

// twice answers twice, of which the second is refused.
func twice(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusAccepted)
	w.WriteHeader(http.StatusTeapot)
	io.WriteString(w, "once")
}

func loop() {
	for i := 0; ; i++ {
		sink = i
	}
}

var (
	sink int
	hold [][]byte
	runs int
)

func recurse(n int) int { return recurse(n+1) + 1 }

func memory(w http.ResponseWriter, r *http.Request) {
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		hold = append(hold, b)
		runtime.KeepAlive(hold)
	}
}

func headerBomb(w http.ResponseWriter, r *http.Request) {
	for i := range 5000 {
		w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("y", 1000))
	}
	io.WriteString(w, "x")
}

func nap(r *http.Request) {
	d, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err == nil {
		time.Sleep(d)
	}
}

func served(w http.ResponseWriter, r *http.Request) {
	runs++
	fmt.Fprintf(w, "%d %s", runs, edge.ClientInfo(r).RequestID())
}
