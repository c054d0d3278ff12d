// The guest under test: each path tries one thing.
package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

var origin = &http.Client{Transport: edge.Backend("origin")}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "Hello, edge!\n") })
	mux.HandleFunc("/request", request)
	mux.HandleFunc("/stream", stream)
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 40<<10)) })
	mux.HandleFunc("/two", two)
	mux.HandleFunc("/cancel", cancel)
	mux.HandleFunc("/timer", timer)
	mux.HandleFunc("/upload", upload)
	mux.HandleFunc("/proxy", proxy)
	mux.HandleFunc("/forward", forward)
	mux.HandleFunc("/reverse", reverse)
	mux.HandleFunc("/failure", failure)
	mux.HandleFunc("/panic", func(w http.ResponseWriter, r *http.Request) { panic("oops") })
	mux.HandleFunc("/hints", hints)
	mux.HandleFunc("/trailers", trailers)
	mux.HandleFunc("/kv", kv)
	mux.HandleFunc("/none", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if len(os.Args) > 1 && os.Args[1] == "many" {
		edge.ServeMany(mux, edge.Reuse{Max: 5, Idle: time.Second})
		return
	}
	edge.Serve(mux)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func request(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	check(err)
	w.Header().Set("X-Saw", strings.Join([]string{r.Method, r.Host, r.URL.Path, r.URL.RawQuery, r.RemoteAddr,
		strconv.FormatBool(r.TLS != nil), r.Header.Get("X-Two"), strconv.Itoa(len(r.Header["X-Two"])), strconv.FormatInt(r.ContentLength, 10)}, " "))
	w.WriteHeader(201)
	w.Write(body)
}

func stream(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	for i := range 3 {
		io.WriteString(w, "part "+strconv.Itoa(i)+"\n")
		check(rc.Flush())
	}
}

// two fetches at once: the origin lets neither go before both are there.
func two(w http.ResponseWriter, r *http.Request) {
	var wg sync.WaitGroup
	var out [2]string
	for i := range out {
		wg.Go(func() {
			resp, err := origin.Get("http://origin.test/meet?" + strconv.Itoa(i))
			check(err)
			b, err := io.ReadAll(resp.Body)
			check(err)
			out[i] = string(b)
		})
	}
	wg.Wait()
	io.WriteString(w, out[0]+out[1])
}

func cancel(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), 30*time.Millisecond)
	defer stop()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://origin.test/never", nil)
	start := time.Now()
	_, err := origin.Do(req)
	late := time.Since(start) > 500*time.Millisecond
	io.WriteString(w, strconv.FormatBool(errors.Is(err, context.DeadlineExceeded))+" "+strconv.FormatBool(late))
}

// timer has a goroutine tick while another waits for the origin.
func timer(w http.ResponseWriter, r *http.Request) {
	ticks, done := 0, make(chan bool)
	go func() {
		_, err := origin.Get("http://origin.test/slow")
		check(err)
		close(done)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	for {
		select {
		case <-tick.C:
			ticks++
		case <-done:
			io.WriteString(w, strconv.FormatBool(ticks >= 5))
			return
		}
	}
}

func upload(w http.ResponseWriter, r *http.Request) {
	pr, pw := io.Pipe()
	go func() {
		for range 3 {
			io.WriteString(pw, "up")
			time.Sleep(2 * time.Millisecond)
		}
		pw.Close()
	}()
	resp, err := origin.Post("http://origin.test/echo", "text/plain", pr)
	check(err)
	streamed, err := io.ReadAll(resp.Body)
	check(err)
	resp, err = origin.Post("http://origin.test/echo", "text/plain", strings.NewReader("whole"))
	check(err)
	whole, err := io.ReadAll(resp.Body)
	check(err)
	io.WriteString(w, string(streamed)+" "+string(whole))
}

func proxy(w http.ResponseWriter, r *http.Request) {
	out, _ := http.NewRequest(r.Method, "http://origin.test/echo", r.Body)
	resp, err := origin.Do(out)
	check(err)
	w.Header().Set("Content-Length", resp.Header.Get("Content-Length"))
	n, err := io.Copy(w, resp.Body)
	check(err)
	os.Stderr.WriteString("copied " + strconv.FormatInt(n, 10) + "\n")
}

func forward(w http.ResponseWriter, r *http.Request) {
	resp, err := origin.Get("http://origin.test/chunks")
	check(err)
	w.Header().Set("X-By", "edge")
	check(edge.Forward(w, resp))
}

func reverse(w http.ResponseWriter, r *http.Request) {
	p := httputil.ReverseProxy{
		Transport: edge.Backend("origin"),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: "origin.test"})
			pr.Out.URL.Path = "/echo"
		},
	}
	p.ServeHTTP(w, r)
}

func failure(w http.ResponseWriter, r *http.Request) {
	_, err := origin.Get("http://origin.test/fail")
	var e *edge.FetchError
	io.WriteString(w, strconv.FormatBool(errors.As(err, &e) && e.Reason == edge.ConnectionRefused)+" "+err.Error())
}

func hints(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	io.WriteString(w, "done")
}

func trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	io.WriteString(w, "body")
	w.Header().Set("X-Sum", "42")
	w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
}

func kv(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	store, err := edge.OpenKV("visits")
	check(err)
	_, err = store.Get(ctx, "absent")
	io.WriteString(w, strconv.FormatBool(errors.Is(err, fs.ErrNotExist)))
	check(store.Put(ctx, "k", []byte("value"), &edge.KVPut{Metadata: "meta", TTL: time.Minute}))
	v, err := store.Get(ctx, "k")
	check(err)
	b, err := v.Bytes()
	check(err)
	io.WriteString(w, " "+string(b)+" "+v.Metadata+" "+strconv.FormatUint(v.Generation, 10))
	err = store.Put(ctx, "k", []byte("x"), &edge.KVPut{Mode: edge.Add})
	io.WriteString(w, " "+strconv.FormatBool(errors.Is(err, fs.ErrExist)))
	_, err = edge.OpenConfig("nope")
	io.WriteString(w, " "+strconv.FormatBool(errors.Is(err, fs.ErrNotExist)))
	for k, err := range store.Keys(ctx, "k") {
		check(err)
		io.WriteString(w, " key "+k)
	}
}
