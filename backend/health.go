package backend

import (
	"context"
	"io"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// health keeps what the health checks found.
type health struct {
	t       *Transport
	ask     func(context.Context, *check) error // probes once
	changed chan struct{}                       // holds a token when checks differ from what runs

	mu     sync.RWMutex
	checks map[checkKey]*check
}

// A checkKey names a check by what it does, so equal backends share one and a reload
// keeps the results of those that stay.
type checkKey struct {
	pool       poolKey
	path, host string
	probe      wedge.HealthCheck
}

// A check is the probing of one backend.
type check struct {
	backend wedge.Backend
	probe   wedge.HealthCheck // with defaults
	health  atomic.Uint32     // a wedge.Health
	cancel  context.CancelFunc
	past    window // owned by the goroutine that probes
}

// Bounds and defaults of a health check; the defaults are those of Fastly where it has any.
const (
	maxWindow      = 64
	minInterval    = time.Second
	defInterval    = time.Minute
	defTimeout     = 5 * time.Second
	maxProbeBody   = 64 << 10
	probeUserAgent = "wedge-health-check"
)

func withProbeDefaults(h wedge.HealthCheck) wedge.HealthCheck {
	if h.Method == "" {
		h.Method = http.MethodHead
	}
	if h.Path == "" {
		h.Path = "/"
	}
	if h.ExpectedStatus == 0 {
		h.ExpectedStatus = http.StatusOK
	}
	if h.Window <= 0 {
		h.Window, h.Threshold, h.Initial = 5, 3, 2
	}
	h.Window = min(h.Window, maxWindow)
	h.Threshold = min(max(h.Threshold, 1), h.Window)
	h.Initial = min(max(h.Initial, 0), h.Window)
	h.Interval = max(orDefault(h.Interval, defInterval), minInterval)
	h.Timeout = orDefault(h.Timeout, defTimeout)
	return h
}

// A window is the outcomes of the last probes, the newest in bit 0; 1 is a pass.
type window uint64

// newWindow returns the window of a check that has not probed yet: the initial passes
// count as the newest outcomes.
func newWindow(initial int) window { return window(1)<<initial - 1 }

// judge adds an outcome to past and says what it means. It is the whole decision.
func judge(past window, passed bool, size, threshold int) (window, wedge.Health) {
	past <<= 1
	if passed {
		past |= 1
	}
	if size < maxWindow {
		past &= window(1)<<size - 1
	}
	return past, verdict(past, threshold)
}

func verdict(past window, threshold int) wedge.Health {
	if bits.OnesCount64(uint64(past)) >= threshold {
		return wedge.Healthy
	}
	return wedge.Unhealthy
}

func newHealth(t *Transport) *health {
	h := &health{t: t, changed: make(chan struct{}, 1), checks: map[checkKey]*check{}}
	h.ask = h.probe
	return h
}

func checkKeyOf(b *wedge.Backend) checkKey {
	return checkKey{pool: keyOf(b), path: b.URL.Path, host: b.HostOverride, probe: *b.HealthCheck}
}

func (h *health) of(b *wedge.Backend) wedge.Health {
	if b.Health != wedge.HealthUnknown || b.HealthCheck == nil || b.URL == nil {
		return b.Health
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if c := h.checks[checkKeyOf(b)]; c != nil {
		return wedge.Health(c.health.Load())
	}
	return wedge.HealthUnknown
}

func (h *health) watch(backends []wedge.Backend) {
	next := map[checkKey]*check{}
	h.mu.Lock()
	for i := range backends {
		b := &backends[i]
		if b.HealthCheck == nil || b.URL == nil || b.Health != wedge.HealthUnknown {
			continue
		}
		k := checkKeyOf(b)
		if old := h.checks[k]; old != nil {
			next[k] = old
		} else if next[k] == nil {
			next[k] = newCheck(b)
		}
	}
	for k, c := range h.checks {
		if next[k] == nil && c.cancel != nil {
			c.cancel()
		}
	}
	h.checks = next
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func newCheck(b *wedge.Backend) *check {
	c := &check{backend: *b, probe: withProbeDefaults(*b.HealthCheck)}
	c.backend.DontPool = true // a probe proves that a connection can be made
	c.backend.FirstByteTimeout = c.probe.Timeout
	c.past = newWindow(c.probe.Initial)
	c.health.Store(uint32(verdict(c.past, c.probe.Threshold)))
	return c
}

// run keeps a goroutine probing for every check until ctx ends.
func (h *health) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		h.mu.Lock()
		for _, c := range h.checks {
			if c.cancel == nil {
				var cctx context.Context
				cctx, c.cancel = context.WithCancel(ctx)
				wg.Go(func() { h.loop(cctx, c) })
			}
		}
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			h.stopped()
			return
		case <-h.changed:
		}
	}
}

// stopped lets a later run begin anew.
func (h *health) stopped() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.checks {
		if c.cancel != nil {
			c.cancel()
			c.cancel = nil
		}
	}
}

// loop probes at once and then at the check's interval, a tenth of it more or less, so that
// the nodes of a fleet do not fall into step.
func (h *health) loop(ctx context.Context, c *check) {
	for {
		err := h.ask(ctx, c)
		if ctx.Err() != nil {
			return
		}
		h.note(c, err)
		spread := c.probe.Interval / 10
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.probe.Interval - spread + rand.N(2*spread+1)):
		}
	}
}

func (h *health) note(c *check, err error) {
	var now wedge.Health
	c.past, now = judge(c.past, err == nil, c.probe.Window, c.probe.Threshold)
	if was := wedge.Health(c.health.Swap(uint32(now))); was != now {
		h.t.cfg.Log.Info("backend health changed", "backend", c.backend.Name, "healthy", now == wedge.Healthy, "err", err)
	}
}

// probe asks the origin once. It uses the path of the check alone, without the prefix
// of the backend's URL.
func (h *health) probe(ctx context.Context, c *check) error {
	h.t.stats.probes.Add(1)
	ctx, cancel := context.WithTimeout(ctx, c.probe.Timeout)
	defer cancel()
	target := *c.backend.URL
	target.Path, target.RawPath = "", ""
	b := c.backend
	b.URL = &target
	u, err := url.ParseRequestURI(c.probe.Path)
	if err != nil {
		return failure(wedge.FailureURI, err)
	}
	req := &http.Request{
		Method: c.probe.Method, URL: u, Host: c.probe.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {probeUserAgent}},
	}
	if c.probe.Host != "" {
		b.HostOverride = ""
	}
	resp, err := h.t.RoundTrip(req.WithContext(wedge.WithBackend(ctx, &b)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != c.probe.ExpectedStatus {
		return failure(wedge.FailureUnavailable, errUnexpectedStatus(resp.StatusCode))
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeBody))
	return err
}

type errUnexpectedStatus int

func (s errUnexpectedStatus) Error() string {
	return "probe answered with status " + strconv.Itoa(int(s))
}
