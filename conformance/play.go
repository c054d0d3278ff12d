package conformance

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"
)

// play is one case being run. The runner and the origin both write to it.
type play struct {
	c    *Case
	id   string // unguessable: nothing else asks for this path
	vars vars

	mu      sync.Mutex
	current int // the exchange under way, from 1
	seen    []*seen
	log     strings.Builder // what happened, for people
}

// seen is a request as it reached the origin.
type seen struct {
	n        int // the exchange it says it belongs to; a background request repeats that of its cause
	fields   []field
	answered bool // the origin has begun to answer
}

func newPlay(c *Case, base vars) *play {
	id := rand.Text()
	path := base.text["path"] + "/case/" + id
	v := base.with(map[string]string{"path": path, "url": "http://" + base.text["host"] + path})
	v.now = time.Now()
	return &play{c: c, id: id, vars: v}
}

func (p *play) path() string { return p.vars.text["path"] }

func (p *play) begin(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = n
}

// arrived notes a request at the origin.
func (p *play) arrived(s *seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.n == 0 {
		s.n = p.current
	}
	p.seen = append(p.seen, s)
	fmt.Fprintf(&p.log, "    origin saw, for exchange %d\n%s", s.n, dump(s.fields, "        "))
}

func (p *play) answering(s *seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.answered = true
}

// asked returns the requests of exchange n, and how many of them the origin has begun to answer.
func (p *play) asked(n int) (all []*seen, answered int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seen {
		if s.n == n {
			all = append(all, s)
			if s.answered {
				answered++
			}
		}
	}
	return all, answered
}

func (p *play) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(&p.log, format, args...)
}

func (p *play) transcript() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// conditional says whether s lets the origin answer 304.
func (s *seen) conditional() bool {
	_, tags := joined(s.fields, "If-None-Match")
	_, dates := joined(s.fields, "If-Modified-Since")
	return tags+dates > 0
}

func dump(fields []field, indent string) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s%s: %s\n", indent, f.name, f.value)
	}
	return b.String()
}
