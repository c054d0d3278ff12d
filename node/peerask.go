package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/rate"
)

// peerField says what a request to a peer is for, and in a response that the peer has no answer. It means something at
// the listener for peers only, where PoPs alone can speak; it gets no farther in either direction.
const peerField = "Wedge-Peer"

// errand is what one PoP asks of another.
type errand struct {
	Service string `json:"service"`           // that is called, or whose cache is asked
	Depth   int    `json:"depth,omitempty"`   // calls by name that led here
	Backend string `json:"backend,omitempty"` // shield: what is fetched from; "": it is a call
	State   bool   `json:"state,omitempty"`   // it is for the service's state API
	Scheme  string `json:"scheme,omitempty"`  // shield: of the URL
	Origin  string `json:"origin,omitempty"`  // shield: of who asks, see originOf

	// The fetch's wedge.Caching, as far as it does not follow from the version. Key may be any bytes.
	Pass      bool           `json:"pass,omitempty"`
	TTL       *time.Duration `json:"ttl,omitempty"`
	SWR       *time.Duration `json:"swr,omitempty"`
	Keys      []string       `json:"keys,omitempty"`
	Key       []byte         `json:"key,omitempty"`
	Space     string         `json:"space,omitempty"`
	Sensitive bool           `json:"sensitive,omitempty"`

	Session *sessionOp `json:"session,omitempty"` // it is about a session of the service, see sessions
	Claim   *claimAsk  `json:"claim,omitempty"`   // it is about a stock
	Home    *homeAsk   `json:"home,omitempty"`    // it is about keys of scope home
	Rate    *rate.Ask  `json:"rate,omitempty"`    // it is about a key that is counted

	Purges []wirePurge `json:"purges,omitempty"` // of the service, to be done before
}

// maxErrand bounds an errand on the wire, in bytes. Surrogate keys and purges beyond it make a fetch go without its shield.
const maxErrand = 32 << 10

// What a peer says in peerField of a response, if it is not an answer.
const (
	peerGone   = "gone"    // what was asked for is not here
	peerFailed = "failed " // and the number of a wedge.FetchFailure: the origin could not be asked
)

// maxPeerTries is how many PoPs are tried with one call.
const maxPeerTries = 3

// call has the nearest PoP that runs a service answer a request, and the next if that cannot be reached or breaks off what only reads.
func (p *peers) call(req *http.Request, near []wedge.PoP, e errand) (*http.Response, error) {
	err := nobodyRuns(e.Service)
	if req.Header["Upgrade"] != nil {
		return nil, &wedge.FetchError{Backend: e.Service, Failure: wedge.FailureUpgrade, Err: errors.New("the service is at another PoP, and connections are not handed over to these")}
	}
	body := req.Body
	for try := range maxPeerTries {
		if len(near) == 0 || try >= len(near) && isUnreached(err) {
			break
		}
		to := near[min(try, len(near)-1)] // the last again if the connection broke: it may have been an old one
		p.stats.calls.Add(1)
		resp, again, failed := p.ask(req, &to, e, patience{})
		if failed == nil {
			noteCall(resp.Header, to.Name)
			return resp, nil
		}
		if err = failed; !again {
			break
		}
	}
	if body != nil {
		body.Close()
	}
	return nil, err
}

// noteCall has the response's Cache-Status name the PoP, if no cache there has.
func noteCall(h http.Header, pop string) {
	if !strings.Contains(strings.Join(h["Cache-Status"], ","), cacheName(pop)+";") {
		h.Add("Cache-Status", cacheName(pop)+"; fwd=bypass; detail=peer")
	}
}

// cacheName is that of a PoP's cache in Cache-Status.
func cacheName(pop string) string { return "Wedge-" + pop }

// patience is how long a peer may take; 0: for ever, as long as it is there.
type patience struct{ first, gap time.Duration }

var (
	errPeerFirst = errors.New("the peer did not answer in time")
	errPeerGap   = errors.New("the peer stopped sending")
)

// ask sends a request to a PoP. If it fails, again says whether another may be asked: nothing of the body was sent, and either nobody
// saw the request, or it is one that does no harm when it is made twice. The body is the caller's if ask fails.
func (p *peers) ask(req *http.Request, to *wedge.PoP, e errand, wait patience) (resp *http.Response, again bool, err error) {
	word, err := json.Marshal(e)
	if err != nil || len(word) > maxErrand {
		return nil, true, &wedge.FetchError{Backend: to.Name, Failure: wedge.FailureHeaderTooLarge, Err: errors.New("there is too much to say to the peer")}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	out := req.Clone(ctx)
	for _, name := range []string{"Connection", "Proxy-Connection", "Keep-Alive", "Upgrade", "Transfer-Encoding"} {
		delete(out.Header, name)
	}
	if out.Host == "" {
		out.Host = req.URL.Host
	}
	out.URL.Scheme, out.URL.Host, out.RequestURI, out.Close, out.GetBody = "https", to.Name+peerDomain, "", false, nil
	out.Trailer = req.Trailer // filled while the body is read
	out.Header.Set(peerField, string(word))
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // net/http would send its own
	}
	var body *unsent
	if req.Body != nil && req.Body != http.NoBody {
		body = &unsent{rc: req.Body}
		out.Body = body
		if e.Session == nil && e.Home == nil { // or else it is short, and nothing is lost
			out.Header.Set("Expect", "100-continue") // so that a peer that has no answer gets nothing of it
			wait.first = 0                           // it may be long
		}
	}
	clock := newClock(wait.first, func() { cancel(errPeerFirst) })
	clock.set(wait.first)
	resp, err = p.transport.RoundTrip(out)
	clock.stop()
	if err != nil {
		err = p.failure(ctx, to, err)
		again = mayRepeat(req, err)
	} else if resp, err = p.answered(resp, to, e); err != nil {
		again = isUnreached(err)
	}
	if err != nil {
		p.stats.failed.Add(1)
		cancel(err)
		return nil, body.keep() && again, err
	}
	body.pass()
	resp.Request = req
	resp.Body = &peerBody{ReadCloser: resp.Body, p: p, ctx: ctx, cancel: cancel, to: to, clock: newClock(wait.gap, func() { cancel(errPeerGap) }), gap: wait.gap}
	return resp, false, nil
}

// consult asks a PoP for one answer, of at most so many bytes. p may be nil: then this PoP reaches no other.
func (p *peers) consult(ctx context.Context, pop string, e errand, question []byte, wait patience, most int64) ([]byte, error) {
	if p == nil {
		return nil, unreachable(pop, wedge.FailureNotFound, errors.New("this PoP reaches no other"))
	}
	to, known := p.pops.named(pop)
	if !known || !p.there(&to) {
		return nil, unreachable(pop, wedge.FailureUnavailable, errors.New("the PoP "+pop+" is away"))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+pop+internalSuffix+"/", bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	resp, _, err := p.ask(req, &to, e, wait)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("%s answers with status %d", pop, resp.StatusCode)
	case int64(len(b)) > most:
		err = fmt.Errorf("%s answers with more than %d bytes", pop, most)
	}
	return b, err
}

// answered looks whether a response is one.
func (p *peers) answered(resp *http.Response, to *wedge.PoP, e errand) (*http.Response, error) {
	word := resp.Header.Get(peerField)
	delete(resp.Header, peerField)
	if word == "" {
		return resp, nil
	}
	resp.Body.Close()
	if word == peerGone {
		return nil, unreachable(to.Name, wedge.FailureNotFound, errors.New(to.Name+" does not run "+e.Service))
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(word, peerFailed), 10, 8)
	if f := wedge.FetchFailure(n); err == nil && f.String() != wedge.FailureUnknown.String() {
		return nil, &wedge.FetchError{Backend: cmp.Or(e.Backend, e.Service), Failure: f, Err: errors.New("as " + to.Name + " says, which asked it")}
	}
	return nil, &wedge.FetchError{Backend: to.Name, Failure: wedge.FailureInternal, Err: errors.New("the peer makes no sense")}
}

// failure says why a request to a peer failed.
func (p *peers) failure(ctx context.Context, to *wedge.PoP, err error) error {
	if fe := (*wedge.FetchError)(nil); errors.As(err, &fe) {
		return err
	}
	why := wedge.FailureTerminated
	switch cause := context.Cause(ctx); {
	case cause == errPeerFirst || cause == errPeerGap:
		why, err = wedge.FailureResponseTimeout, cause
	case cause != nil:
		return cause
	}
	return &wedge.FetchError{Backend: to.Name, Failure: why, Err: err}
}

// mayRepeat reports whether a request that failed may be made again, elsewhere: nothing of it was sent, or the connection broke and
// it is one that only reads. What took too long no other is asked for.
func mayRepeat(req *http.Request, err error) bool {
	fe := (*wedge.FetchError)(nil)
	reads := req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodOptions
	return isUnreached(err) || reads && errors.As(err, &fe) && fe.Failure == wedge.FailureTerminated && req.Context().Err() == nil
}

func isUnreached(err error) bool {
	un := (*unreachedError)(nil)
	return errors.As(err, &un)
}

// unsent is a request's body, with which another PoP can be tried as long as nobody has read of it.
type unsent struct {
	rc io.ReadCloser

	mu                    sync.Mutex
	read, closed, settled bool // settled: it is the transport's, or not any more
}

// Read implements io.Reader.
func (b *unsent) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.settled && !b.read || b.closed {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.read = true
	b.mu.Unlock()
	return b.rc.Read(p)
}

// Close implements io.Closer.
func (b *unsent) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.read {
		return b.rc.Close()
	}
	return nil
}

// keep takes the body back from a transport that failed, and reports whether it is whole.
func (b *unsent) keep() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
	return !b.read
}

// pass leaves the body to a transport that has an answer.
func (b *unsent) pass() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read = true; b.closed {
		b.rc.Close()
	}
}

// clock calls a function some time after it was set, if it is not stopped before; without a time it never does.
type clock struct{ t *time.Timer }

func newClock(d time.Duration, f func()) clock {
	if d == 0 {
		return clock{}
	}
	c := clock{time.AfterFunc(d, f)}
	c.stop()
	return c
}

func (c clock) stop() {
	if c.t != nil {
		c.t.Stop()
	}
}

func (c clock) set(d time.Duration) {
	if c.t != nil {
		c.t.Reset(d)
	}
}

// peerBody is a response's body. How it breaks off is told as a *wedge.FetchError.
type peerBody struct {
	io.ReadCloser
	p      *peers
	ctx    context.Context
	cancel context.CancelCauseFunc
	to     *wedge.PoP
	clock  clock
	gap    time.Duration
}

// Read implements io.Reader.
func (b *peerBody) Read(p []byte) (int, error) {
	b.clock.set(b.gap)
	n, err := b.ReadCloser.Read(p)
	b.clock.stop()
	if err != nil && err != io.EOF {
		err = b.p.failure(b.ctx, b.to, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *peerBody) Close() error {
	b.clock.stop()
	b.cancel(context.Canceled)
	return b.ReadCloser.Close()
}

// near returns the PoPs that are to run a service and can be asked, the nearest first.
func (p *peers) near(service string, catalog *control.Control) (list []wedge.PoP) {
	known := p.pops.known()
	catalog.See(func(s *control.State) {
		if svc := s.Services[service]; svc != nil {
			list = slices.DeleteFunc(known, func(q wedge.PoP) bool { v, _, _ := svc.At(q.Name); return v == nil })
		}
	})
	list = slices.DeleteFunc(list, func(q wedge.PoP) bool { return !q.Ready || !p.there(&q) })
	slices.SortStableFunc(list, func(a, b wedge.PoP) int { return cmp.Compare(p.own.Distance(&a), p.own.Distance(&b)) })
	return list
}

// callAway has another PoP answer for a service that is not here: the nearest that runs it, or the one named.
func (n *Node) callAway(req *http.Request, service, at string, depth int) (*http.Response, error) {
	p, e := n.fleet.peers, errand{Service: service, Depth: depth}
	if at == "" {
		return p.call(req, p.near(service, n.fleet.applier.catalog), e)
	}
	if at == p.own.Name {
		if handler, done := n.called(service); handler != nil {
			return inProcess(req, handler, done, depth, n.cfg.Now)
		}
	}
	to, known := p.pops.named(at)
	ok := false
	if e.Purges, ok = n.fleet.unconfirmed.carry(at, service); !ok || !known || !p.there(&to) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &wedge.FetchError{Backend: at, Failure: wedge.FailureUnavailable, Err: errors.New("the PoP " + at + " cannot be reached")}
	}
	return p.call(req, []wedge.PoP{to}, e)
}

// shielding fetches through the PoP that shields a backend. done is false if the fetch is to go to the origin instead: this PoP
// is the shield, or the shield is away, is to be brought too many purges, does not run the service or has no such backend, or the connection to it broke before there
// was an answer to a request that only reads. That the origin could not be asked, or took too long, the shield says; then the
// fetch has failed.
func (n *Node) shielding(req *http.Request, b *wedge.Backend) (resp *http.Response, done bool, err error) {
	p, c := n.fleet.peers, wedge.CachingFrom(req.Context())
	if c == nil || b.ShieldPoP == p.own.Name || req.Header["Upgrade"] != nil {
		return nil, false, nil // without a Caching it is not for any cache
	}
	e := errand{Service: c.Service, Backend: b.Name, Origin: originOf(b), Scheme: req.URL.Scheme,
		Pass: c.Pass, TTL: c.TTL, SWR: c.SWR, Keys: c.SurrogateKeys, Key: []byte(c.Key), Space: c.Space, Sensitive: c.Sensitive}
	to, known := p.pops.named(b.ShieldPoP)
	ok := false
	if e.Purges, ok = n.fleet.unconfirmed.carry(b.ShieldPoP, c.Service); !ok || !known || !p.there(&to) || !n.shieldedBy(c.Service, b.ShieldPoP) {
		p.stats.direct.Add(1)
		return nil, false, nil
	}
	p.stats.shielded.Add(1)
	gap := cmp.Or(b.BetweenBytesTimeout, wedge.DefaultBetweenBytesTimeout)
	resp, again, err := p.ask(req, &to, e, patience{first: 2 * max(b.FirstByteTimeout, wedge.DefaultFirstByteTimeout), gap: gap})
	if again {
		p.stats.direct.Add(1)
		return nil, false, nil
	}
	if err != nil && req.Body != nil {
		req.Body.Close()
	}
	return resp, true, err
}
