package front

import (
	"sync/atomic"
	"time"
)

// Stats are a front's counts since it was made.
type Stats struct {
	Accepted           int64    // connections
	OpenConnections    int64    // now
	RefusedConnections int64    // over MaxConnections
	FailedHandshakes   int64    // of TLS
	Requests           int64    // all that reached the front's handler, refused ones included
	Hits               int64    // of these, those that a route's Hit answered
	InFlight           int64    // requests now, hijacked connections included
	Refused            int64    // requests the front answered itself with an error
	Overload           int64    // of these, those over MaxRequests
	Panics             int64    // of handlers
	Hijacked           int64    // connections that handlers took over
	Status             [6]int64 // requests by status class; 0: no answer, the connection was cut
}

type counters struct {
	accepted, refusedConns, handshakes, requests, hits, inFlight, refused, overload, panics, hijacked, taken atomic.Int64
	status                                                                                                   [6]atomic.Int64
}

// Stats returns the current counts. They are read one by one, so they may be a request apart.
func (f *Front) Stats() Stats {
	c := &f.stats
	s := Stats{
		Accepted: c.accepted.Load(), RefusedConnections: c.refusedConns.Load(), FailedHandshakes: c.handshakes.Load(),
		Requests: c.requests.Load(), Hits: c.hits.Load(), InFlight: c.inFlight.Load(), Refused: c.refused.Load(), Overload: c.overload.Load(),
		Panics: c.panics.Load(), Hijacked: c.hijacked.Load(),
	}
	for i := range s.Status {
		s.Status[i] = c.status[i].Load()
	}
	f.mu.Lock()
	s.OpenConnections = int64(len(f.conns))
	f.mu.Unlock()
	return s
}

// Access is what an access log wants to know of a request. Method, Host and Path come from
// the client: they are bounded, not cleaned.
type Access struct {
	RequestID string        `json:"request_id"`
	Method    string        `json:"method"`            // at most 32 bytes
	Host      string        `json:"host"`              // as sent; at most 255 bytes
	Path      string        `json:"path"`              // without query, which may hold secrets; at most 1,024 bytes
	Proto     string        `json:"proto"`             // "HTTP/1.1", "HTTP/2.0"
	Remote    string        `json:"remote"`            // the client's address, without port
	Service   string        `json:"service,omitempty"` // "" if no route was found
	Version   int           `json:"version,omitempty"`
	Status    int           `json:"status"` // of the final response, which may have been cut short; 0: none, the connection was cut
	Bytes     int64         `json:"bytes"`
	Start     time.Time     `json:"start"`
	Duration  time.Duration `json:"duration_ns"` // until the handler returned
	Hijacked  bool          `json:"hijacked,omitempty"`
	Refused   string        `json:"refused,omitempty"` // name of the rate by which it was
}

// Bounds of what Access takes from the client, in bytes.
const (
	maxAccessMethod = 32
	maxAccessHost   = 255
	maxAccessPath   = 1024
)

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// Draining reports whether Run is about to end: what is under way is finished, and nothing else begun.
func (f *Front) Draining() bool { return f.draining.Load() }
