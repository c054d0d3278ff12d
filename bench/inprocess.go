package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/compute/hostcall"
)

// subject is a guest behind a hostcall.Handler, run in one way or another.
type subject struct {
	handler *hostcall.Handler
	want    string // the body it answers with; "": any
}

// runner runs the guest of a sandbox to its end.
type runner func(context.Context, *compute.Sandbox) error

// endedKey finds the channel in a request's context that hears of its sandbox's end: the
// answer is out before the guest has ended, and the guest before its instance is back.
type endedKey struct{}

// newSubject serves v with run.
func newSubject(v *wedge.Version, want string, run runner) *subject {
	return &subject{want: want, handler: hostcall.New(hostcall.Config{Host: newHost(v),
		Run: func(ctx context.Context, sb *compute.Sandbox) error {
			err := run(ctx, sb)
			ctx.Value(endedKey{}).(chan error) <- err
			return err
		}})}
}

// newHost offers what a node's host does; guests here use nothing that leaves the process.
func newHost(v *wedge.Version) *compute.Host {
	began := time.Now()
	return &compute.Host{Version: v, Log: func(string, []byte) {}, Output: func(int, []byte) {},
		Now: time.Now, Monotonic: func() int64 { return int64(time.Since(began)) }, Rand: rand.Reader,
		Hostname: "bench", PoP: "local", Region: "local"}
}

func newEngine(cfg compute.Config) *compute.Engine {
	cfg.Funcs, cfg.ParkAt = hostcall.Table(), abi.Lookup("fastly_http_req", "body_downstream_get")
	return compute.New(cfg)
}

// deployed is a program that Wedge's engine made ready.
type deployed struct {
	*subject
	module *compute.Module
}

// deploy loads v into the engine as a node does.
func deploy(ctx context.Context, e *compute.Engine, v *wedge.Version, want string) (*deployed, error) {
	d := &deployed{}
	d.subject = newSubject(v, want, func(ctx context.Context, sb *compute.Sandbox) error { return d.module.Run(ctx, sb) })
	var err error
	d.module, err = e.Load(ctx, v.Guest, compute.Options{Name: v.Service, Limits: v.Limits, Start: v.Start, Template: d.handler.Template})
	return d, err
}

func (d *deployed) close() {
	d.handler.Close()
	_ = d.handler.Wait(context.Background())
	d.module.Close()
}

// client sends one request after the other to subjects, without a network.
type client struct {
	request *http.Request
	ended   chan error
	answer  answer
}

func newClient() *client {
	c := &client{ended: make(chan error, 1), answer: answer{header: http.Header{}}}
	from := &wedge.Client{RequestID: "0123456789abcdef0123456789abcdef", ConnRequestNum: 1, BytesIn: func() int64 { return 0 },
		Remote: netip.MustParseAddrPort("127.0.0.1:50000"), Local: netip.MustParseAddrPort("127.0.0.1:7676")}
	ctx := wedge.WithClient(context.WithValue(context.Background(), endedKey{}, c.ended), from)
	c.request, _ = http.NewRequestWithContext(ctx, http.MethodGet, "http://bench.example/", http.NoBody)
	c.request.RequestURI, c.request.RemoteAddr = "/", from.Remote.String()
	c.request.Header = http.Header{"User-Agent": {"bench"}, "Accept": {"*/*"}}
	return c
}

// took is how long a request took: until its answer was out, and until its sandbox was gone
// and everything ready for the next.
type took struct{ answer, cycle time.Duration }

// get sends one request to s.
func (c *client) get(s *subject) (t took, err error) {
	c.answer.reset()
	start := time.Now()
	s.handler.ServeHTTP(&c.answer, c.request)
	t.answer = time.Since(start)
	if at := c.answer.out; !at.IsZero() {
		t.answer = at.Sub(start) // on its way while the sandbox was still being tidied up
	}
	err = <-c.ended
	t.cycle = time.Since(start)
	if err != nil {
		return t, err
	}
	if c.answer.status != http.StatusOK || s.want != "" && c.answer.body.String() != s.want {
		return t, fmt.Errorf("answered %d %q", c.answer.status, c.answer.body.Bytes())
	}
	return t, nil
}

// answer is an http.ResponseWriter in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
	out    time.Time // when it was flushed
}

func (a *answer) reset() {
	clear(a.header)
	a.status, a.out = 0, time.Time{}
	a.body.Reset()
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(s int)   { a.status = s }
func (a *answer) Flush()              { a.out = time.Now() }

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		return 0, errors.New("body before head")
	}
	return a.body.Write(b)
}
