package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/cache"
)

// servePeer answers other PoPs. Each request is looked at anew: a connection outlives a membership.
func (n *Node) servePeer(w http.ResponseWriter, r *http.Request) {
	p := n.fleet.peers
	out := &peerWriter{ResponseWriter: w}
	from, ok := p.who(r.TLS)
	if !ok {
		out.refuse(http.StatusForbidden, peerGone)
		return
	}
	e, ok := readErrand(r.Header.Get(peerField))
	if !ok {
		out.refuse(http.StatusBadRequest, peerGone)
		return
	}
	delete(r.Header, peerField)
	if n.fleet.carried(e.Service, e.Purges) != nil {
		out.refuse(http.StatusBadRequest, peerGone)
		return
	}
	p.stats.served.Add(1)
	if e.Session != nil {
		n.sessions.servePeer(out, r, &e, from)
		return
	}
	if e.Rate != nil {
		n.rating.servePeer(out, from, e.Rate)
		return
	}
	d, done := n.taken(e.Service)
	if d == nil {
		out.refuse(http.StatusMisdirectedRequest, peerGone)
		return
	}
	defer done()
	if e.Claim != nil {
		n.serveClaim(out, r, from, d, e.Claim)
		return
	}
	if e.Home != nil {
		n.serveHome(out, r, from, d, e.Home)
		return
	}
	if e.State {
		d.state.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), remoteKey{}, true)))
		return
	}
	w.Header()["Content-Type"] = nil // net/http would guess one where there is none
	if e.Backend == "" {
		in := calling(r, e.Depth)
		d.byName().ServeHTTP(out, in)
		return
	}
	b, ok := d.version.Backend(e.Backend)
	if !ok || originOf(b) != e.Origin || e.Scheme != "http" && e.Scheme != "https" { // one of us does not run the newest version yet
		out.refuse(http.StatusMisdirectedRequest, peerGone)
		return
	}
	n.shieldFetch(out, r, d.version, b, &e)
}

// readErrand reads what a peer asks.
func readErrand(word string) (e errand, ok bool) {
	ok = len(word) <= maxErrand && json.Unmarshal([]byte(word), &e) == nil
	return e, ok && e.Service != "" && e.Depth >= 0 && len(e.Purges) <= maxCarried
}

// shieldFetch fetches for another PoP from a backend that this one shields: through the cache here, and never through a
// further shield. What is between origin and cache stays in the response.
func (n *Node) shieldFetch(w *peerWriter, r *http.Request, v *wedge.Version, b *wedge.Backend, e *errand) {
	caching := cachingOf(v)
	caching.Compress = false // who asks does that
	caching.Pass, caching.TTL, caching.SWR, caching.SurrogateKeys = e.Pass, e.TTL, e.SWR, e.Keys
	caching.Key, caching.Space, caching.Sensitive = string(e.Key), e.Space, e.Sensitive
	proxy := httputil.ReverseProxy{
		Transport: n.cache, FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			ctx := context.WithValue(p.Out.Context(), shieldKey{}, hop{marked: true})
			*p.Out = *p.Out.WithContext(wedge.WithCaching(wedge.WithBackend(ctx, b), caching))
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = e.Scheme, p.In.Host, p.In.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery // byte for byte
			for name, values := range p.In.Header {
				if strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded" {
					p.Out.Header[name] = values
				}
			}
			p.Out.Header.Add("Cdn-Loop", cdnLoop)
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if n.fleet.peers.over() {
				panic(http.ErrAbortHandler) // as if the connection had broken: who asks goes to the origin then
			}
			why, stale, fe := wedge.FailureInternal, (*cache.StaleError)(nil), (*wedge.FetchError)(nil)
			if errors.As(err, &stale) {
				err = stale.Err
			}
			if errors.As(err, &fe) {
				why = fe.Failure
			}
			w.refuse(http.StatusBadGateway, peerFailed+strconv.Itoa(int(why)))
		},
	}
	proxy.ServeHTTP(w, r)
}

// peerWriter is a peer's http.ResponseWriter. What it says in peerField nobody else can.
type peerWriter struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (w *peerWriter) WriteHeader(status int) {
	if !w.begun {
		delete(w.Header(), peerField)
		w.begun = status >= 200
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *peerWriter) Write(b []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *peerWriter) Flush() {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// refuse says that there is no answer.
func (w *peerWriter) refuse(status int, word string) {
	w.begun = true
	w.Header().Set(peerField, word)
	w.ResponseWriter.WriteHeader(status)
}
