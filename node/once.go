package node

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
)

// Once gives the app's guest one request, GET http://example.com/ from 127.0.0.1, without a
// listener, passes on what it prints and returns how it ended: nil, a compute.ExitCode, or
// the error. It is the form in which SDKs run their test programs.
func Once(ctx context.Context, cfg Config) error {
	n, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer n.close()
	n.printing = true
	n.console.raw = true
	apps, err := n.cfg.Load(ctx)
	if err != nil {
		return err
	}
	app := apps[0]
	app.Version.Number = 1
	var mu sync.Mutex
	var failed error
	n.console.onGuestError = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failed = err
	}
	d, err := n.prepare(ctx, app)
	if err != nil {
		return err
	}
	n.fetch.Watch(app.Version.Backends)
	client := &wedge.Client{RequestID: "00000000000000000000000000000001",
		Remote: netip.MustParseAddrPort("127.0.0.1:50000"), Local: netip.MustParseAddrPort("127.0.0.1:7676")}
	r, err := http.NewRequestWithContext(wedge.WithClient(ctx, client), http.MethodGet, "http://example.com/", http.NoBody)
	if err != nil {
		return err
	}
	r.RequestURI, r.RemoteAddr = "/", client.Remote.String()
	w := discardWriter{http.Header{}}
	func() {
		defer func() { // a cut response is no matter here; why it was cut is in failed
			if r := recover(); r != nil && r != http.ErrAbortHandler {
				panic(r)
			}
		}()
		d.handler.ServeHTTP(w, r)
	}()
	d.retire(ctx)
	mu.Lock()
	defer mu.Unlock()
	var code compute.ExitCode
	if errors.As(failed, &code) {
		return code
	}
	return failed
}

// discardWriter is an http.ResponseWriter without a client.
type discardWriter struct{ header http.Header }

func (w discardWriter) Header() http.Header         { return w.header }
func (w discardWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w discardWriter) WriteHeader(int)             {}
func (w discardWriter) Flush()                      {}
