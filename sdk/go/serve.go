package edge

import (
	"net/http"
	"os"
	"runtime/debug"
	"time"
)

// Reuse says how long a sandbox goes on serving requests after its first. The host's own
// limits apply as well.
type Reuse struct {
	Max  int           // requests in all; 0: as many as the host gives
	Idle time.Duration // how long to wait for the next one; 0: as long as the host likes
}

// Serve answers the request that this sandbox was made for, and returns. A nil handler is
// http.DefaultServeMux. If the handler panics, the client gets a 500, or if part of the
// answer is out, a connection cut short; the stack goes to stderr.
//
// Outside of Wasm, Serve runs an http.Server and does not return.
func Serve(h http.Handler) { serve(h, Reuse{Max: 1}) }

// ServeMany is Serve for one request after another in the same sandbox, with the program's
// variables kept: faster, but what one request leaves behind the next one sees.
func ServeMany(h http.Handler, reuse Reuse) { serve(h, reuse) }

// fatal ends a guest that cannot serve.
func fatal(err error) {
	os.Stderr.WriteString("edge: " + err.Error() + "\n")
	os.Exit(1)
}

// run calls the handler, and cut if it panics.
func run(h http.Handler, w http.ResponseWriter, r *http.Request, cut func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v != http.ErrAbortHandler {
			os.Stderr.WriteString("edge: panic serving " + r.Method + " " + r.URL.Path + ": " + text(v) + "\n")
			os.Stderr.Write(debug.Stack())
		}
		cut()
	}()
	h.ServeHTTP(w, r)
}

// text describes what a handler panicked with, without fmt.
func text(v any) string {
	switch v := v.(type) {
	case error:
		return v.Error()
	case string:
		return v
	case interface{ String() string }:
		return v.String()
	}
	return "(no text)"
}
