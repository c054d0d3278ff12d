package front

import (
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// Answer is a whole response that a route has at hand. Its slices are the front's, to be
// appended to; what Body's pieces refer to must never change.
type Answer struct {
	Status int
	Head   []byte   // from the status line to the empty line
	Body   [][]byte // empty for HEAD
}

// The hit path. Between two requests net/http asks h1Conn for more bytes and does nothing else
// with the connection. Then the conn answers by itself what a route has at hand, as often as
// that goes, and gives net/http the first request that it cannot answer, whole. So there is one
// owner of the connection, a request can take either way at any time, and none needs a buffer,
// a goroutine or a timer of its own. Profiles of the long way said where the time went: about
// half in net/http and httputil (headers into maps and back, contexts, two writes, the byte read
// in the background while a handler runs), a third in the kernel; here nine tenths are the kernel's.

// readHits is Read at the beginning of a message, while no request is being served.
func (c *h1Conn) readHits(p []byte) (n int, err error) {
	f := c.info.raw.front
	var turn chan struct{}
	for idleSet := (time.Time{}); ; {
		if n, err = c.fill(p); n == 0 || err != nil {
			return n, err
		}
		used, now, err := c.answerHits(p[:n])
		if err != nil {
			return 0, io.EOF // the client is gone: net/http need not say anything more to it
		}
		if used < n {
			if !idleSet.IsZero() || used > 0 {
				c.Conn.SetReadDeadline(now.Add(f.cfg.ReadHeaderTimeout)) // net/http lifts it after the head
			}
			return copy(p, p[used:n]), nil
		}
		if slack := min(time.Second, f.cfg.IdleTimeout/8); now.Sub(idleSet) > slack {
			idleSet = now
			c.Conn.SetReadDeadline(now.Add(f.cfg.IdleTimeout + slack)) // dear enough to be rare
		}
		if f.turns.others(c, now) {
			if turn == nil {
				turn = make(chan struct{}, 1)
			}
			f.turns.pass(turn)
		}
	}
}

// answerHits answers the requests at p's beginning and returns how many bytes they were.
func (c *h1Conn) answerHits(p []byte) (used int, now time.Time, err error) {
	h := hitters.Get().(*hitter)
	defer h.done()
	for now = time.Now(); used < len(p) && err == nil; {
		n := h.req.parse(p[used:], &c.info.raw.front.cfg)
		if n == 0 {
			return used, now, nil
		}
		ok := false
		if ok, err = h.serve(c, now); !ok {
			return used, now, nil
		}
		used += n
	}
	return used, now, err
}

// hitter is what one request needs on the hit path. It also remembers the last route that it
// looked up, for hosts repeat.
type hitter struct {
	req    Plain
	out    Answer
	body   int64
	pieces [][]byte    // of head and body, to be written
	write  net.Buffers // of these, those that the next write takes

	table *Table
	tls   bool
	host  string
	route *Route
}

var hitters = sync.Pool{New: func() any { return new(hitter) }}

// done puts h by, without what it refers to.
func (h *hitter) done() {
	clear(h.out.Body[:cap(h.out.Body)])
	clear(h.pieces[:cap(h.pieces)])
	clear(h.req.fields)
	clear(h.req.found[:cap(h.req.found)])
	h.req.Host, h.req.Target = nil, nil
	hitters.Put(h)
}

// serve answers h.req, or reports that net/http has to.
func (h *hitter) serve(c *h1Conn, now time.Time) (ok bool, err error) {
	f := c.info.raw.front
	h.req.TLS = c.info.tls != nil
	// First count, then look: a drain does it the other way round.
	if n := f.stats.inFlight.Add(1); n <= int64(f.cfg.MaxRequests) && !f.draining.Load() {
		if gen := f.acquire(); gen != nil {
			if route := h.find(gen.table); route != nil && route.Hit != nil && !route.Bounds.lower(&f.cfg) && h.answer(route) {
				ok, err = true, h.send(c)
				h.report(c, route, now)
			}
			gen.release()
		}
	}
	f.stats.inFlight.Add(-1)
	return ok, err
}

// find returns the route for the request's host, nil also for one that is not in its normal form.
func (h *hitter) find(t *Table) *Route {
	if h.table != t || h.tls != h.req.TLS || h.host != string(h.req.Host) {
		h.table, h.tls, h.host, h.route = t, h.req.TLS, string(h.req.Host), nil
		if name := plainHost(h.host, h.tls); name != "" {
			h.route = t.find(name)
		}
	}
	return h.route
}

func (h *hitter) answer(route *Route) bool {
	h.out.Status, h.out.Head, h.out.Body = 0, h.out.Head[:0], h.out.Body[:0]
	return route.Hit(&h.req, &h.out)
}

// report counts the request as ServeHTTP does, and tells Done of it.
func (h *hitter) report(c *h1Conn, route *Route, start time.Time) {
	f := c.info.raw.front
	if class := h.out.Status / 100; class < len(f.stats.status) {
		f.stats.status[class].Add(1)
	}
	if f.cfg.Done == nil {
		return
	}
	method := "GET"
	if h.req.Head {
		method = "HEAD"
	}
	u, err := url.ParseRequestURI(string(h.req.Target))
	if err != nil { // it cannot be: see targetLen
		u = &url.URL{Path: string(h.req.Target)}
	}
	f.cfg.Done(Access{
		RequestID: newID(), Method: method, Host: cut(h.host, maxAccessHost), Path: cut(u.Path, maxAccessPath), Proto: "HTTP/1.1",
		Remote: c.info.remote.Addr().String(), Service: route.Service, Version: route.Version,
		Status: h.out.Status, Bytes: h.body, Start: start, Duration: time.Since(start),
	})
}

// Up to so many bytes of head and body are copied into one piece. One write of a small
// response costs less than a vector of two; and over TLS each write makes a record, of 16 KiB at most.
const (
	joinPlain = 4 << 10
	joinTLS   = 16 << 10
)

// send writes the response and counts its body.
func (h *hitter) send(c *h1Conn) error {
	c.info.raw.front.stats.requests.Add(1)
	c.info.raw.front.stats.hits.Add(1)
	c.info.requests.Add(1)
	c.frame.heads++ // the framer did not see it
	raw, plain := c.Conn.(*rawConn)
	h.gather(plain)
	if !plain {
		h.write = h.pieces
		_, err := h.write.WriteTo(c.Conn)
		return err
	}
	return h.writeTo(raw)
}

// gather lines up head and body, with the body's beginning joined to the head where that pays.
func (h *hitter) gather(plain bool) {
	h.body = 0
	for _, b := range h.out.Body {
		h.body += int64(len(b))
	}
	room := joinTLS - len(h.out.Head)
	if plain && int64(len(h.out.Head))+h.body > joinPlain {
		room = 0
	}
	h.pieces = append(h.pieces[:0], nil)
	for _, b := range h.out.Body {
		n := min(len(b), max(room, 0))
		h.out.Head = append(h.out.Head, b[:n]...)
		if room -= n; n < len(b) {
			h.pieces = append(h.pieces, b[n:])
		}
	}
	h.pieces[0] = h.out.Head
}

// writeTo writes the pieces with one call for each stall deadline.
func (h *hitter) writeTo(raw *rawConn) error {
	for rest := h.pieces; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && (n == 0 || size+len(rest[n]) <= writePiece+joinPlain) {
			size += len(rest[n])
			n++
		}
		raw.extend()
		if err := h.writeSome(raw, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (h *hitter) writeSome(raw *rawConn, some [][]byte) error {
	if len(some) == 1 {
		_, err := raw.Conn.Write(some[0])
		return err
	}
	h.write = some
	_, err := h.write.WriteTo(raw.Conn) // takes the pieces out of write as it goes, hence two slices
	return err
}
