package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
)

// collectReads answers guests what was collected, at every PoP: what the core has, as a PoP asked it last, and what this PoP has
// besides. Without the core it goes on with these, and says how old the core's part is.
type collectReads struct {
	pop string
	to  *collecting
	ask func(ctx context.Context, question []byte) ([]byte, error) // the core
	now func() time.Time

	asking chan struct{} // has room for questions that may be under way

	mu     sync.Mutex
	kept   map[string]*keptExtract // by query
	second int64                   // that asked is of
	asked  map[string]int          // by service
}

// keptExtract is what the core said of a query.
type keptExtract struct {
	mu      sync.Mutex // held while the core is asked: who asks the same meanwhile waits
	extract collect.Extract
	at      time.Time // when it was asked; zero: it has not answered yet
	tried   time.Time
	used    time.Time // guarded by collectReads.mu
}

const (
	extractSubject = "collect."      // and the name of the PoP that asks
	extractFresh   = time.Second     // how long what the core said is good
	extractWait    = time.Second     // for the core
	extractAsked   = 4               // questions at once
	extractEach    = 10              // questions of a service in a second: each is work for the core
	maxExtracts    = 32              // queries whose answers are kept
	maxExtract     = 500 << 10       // bytes of an answer, for the bus
	maxOwnItems    = 500             // items of this PoP that are added to it: an hour and more
	maxQuery       = 1 << 10         // bytes
	fieldCollected = "Wedge-Collect" // how old an answer is
)

// extractQuestion is what a PoP asks the core.
type extractQuestion struct {
	Writer string        `json:"writer"`
	Query  collect.Query `json:"query"`
}

func newCollectReads(f *fleet) *collectReads {
	return &collectReads{pop: f.cfg.PoP.Name, to: f.collect, now: f.now, asking: make(chan struct{}, extractAsked), kept: map[string]*keptExtract{},
		ask: func(ctx context.Context, question []byte) ([]byte, error) {
			return f.link.Ask(ctx, extractSubject+f.cfg.PoP.Name, question)
		}}
}

// serve answers a query about what a service collects under a name, as the control API does.
func (c *collectReads) serve(w http.ResponseWriter, r *http.Request, service, name string) error {
	if len(r.URL.RawQuery) > maxQuery {
		return &wedge.Error{Op: "read query", Kind: wedge.Invalid, Err: errors.New("it is too long")}
	}
	v := r.URL.Query()
	q, err := collect.ParseQuery(service, name, v, c.now())
	if err != nil {
		return err
	}
	x, at, err := c.fromCore(r.Context(), &q, v.Encode())
	if err != nil {
		return err
	}
	own, err := c.to.beyond(r.Context(), &q, x.Done)
	if err != nil {
		return err
	}
	age := "alone"
	if !at.IsZero() {
		age = fmt.Sprintf("age=%.3f", max(time.Since(at), 0).Seconds())
	}
	w.Header().Set(fieldCollected, fmt.Sprintf("pop=%q; %s", c.pop, age))
	return answerJSON(w, http.StatusOK, q.Answer(append(own, x.Windows...)))
}

// fromCore returns what the core has, or had; at: when it was asked for that, zero if it never answered.
func (c *collectReads) fromCore(ctx context.Context, q *collect.Query, text string) (x collect.Extract, at time.Time, err error) {
	k := c.keep(q.Service + "\x00" + q.Name + "\x00" + text)
	k.mu.Lock()
	defer k.mu.Unlock()
	began := time.Now()
	if began.Sub(k.tried) < extractFresh {
		return k.extract, k.at, nil
	}
	if !c.may(q.Service, began) {
		if k.at.IsZero() {
			err = &wedge.Error{Op: "read what was collected", What: q.Name, Kind: wedge.Exhausted, Err: errors.New("too many different questions within a second"), Hint: "Ask the same ones again: their answers are kept."}
		}
		return k.extract, k.at, err
	}
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return x, at, context.Cause(ctx)
	}
	x, err = c.askCore(ctx, q)
	k.tried = time.Now()
	switch {
	case err == nil:
		k.extract, k.at = x, began
	case wedge.KindOf(err) == wedge.Exhausted:
		return x, at, err
	}
	return k.extract, k.at, nil
}

// may reports whether a service may ask the core now.
func (c *collectReads) may(service string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if second := now.Unix(); second != c.second {
		c.second, c.asked = second, map[string]int{}
	}
	c.asked[service]++
	return c.asked[service] <= extractEach
}

// keep returns what is kept of a query, and drops the one that was not asked for longest if there are too many.
func (c *collectReads) keep(query string) *keptExtract {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.kept[query]
	if k == nil {
		if len(c.kept) >= maxExtracts {
			delete(c.kept, slices.MinFunc(slices.Collect(maps.Keys(c.kept)), func(a, b string) int { return c.kept[a].used.Compare(c.kept[b].used) }))
		}
		k = &keptExtract{}
		c.kept[query] = k
	}
	k.used = time.Now()
	return k
}

func (c *collectReads) askCore(ctx context.Context, q *collect.Query) (x collect.Extract, err error) {
	question, err := json.Marshal(extractQuestion{c.to.writer, *q})
	if err != nil {
		return x, err
	}
	ctx, cancel := context.WithTimeout(ctx, extractWait)
	defer cancel()
	b, err := c.ask(ctx, question)
	if err != nil {
		return x, err
	}
	if len(b) == 0 {
		return x, &wedge.Error{Op: "read what was collected", What: q.Name, Kind: wedge.Exhausted, Err: errors.New("the answer is too large"), Hint: "Ask for fewer dimensions, a longer step, or less time."}
	}
	return collect.DecodeExtract(b)
}

// extract answers a PoP; with nothing if that would be too much.
func (a *aggregator) extract(_ string, question []byte) []byte {
	var q extractQuestion
	if json.Unmarshal(question, &q) != nil || q.Query.Check() != nil {
		return nil
	}
	a.mu.Lock()
	x := a.results.Extract(&q.Query, q.Writer)
	a.mu.Unlock()
	if b := x.Encode(); len(b) <= maxExtract {
		return b
	}
	return nil
}

// own asks run for copies of the open windows that a query wants.
type own struct {
	query   *collect.Query
	windows []*collect.Window
	last    uint64 // item of the outbox; what is in it is not in the windows
	done    chan struct{}
}

// beyond returns what this PoP has that is not in its items up to done: those after it, the newest of them if there are many, and
// the open windows.
func (c *collecting) beyond(ctx context.Context, q *collect.Query, done uint64) ([]*collect.Window, error) {
	o := &own{query: q, done: make(chan struct{})}
	select {
	case c.looks <- o:
		<-o.done
	case <-c.ended:
		return nil, errNotCollecting
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if o.last <= done {
		return o.windows, nil
	}
	done = max(done, o.last-min(o.last, maxOwnItems))
	items, err := c.box.Next(done, int(o.last-done))
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		_, b, _ := collect.Unwrap(item)
		if w, err := collect.Decode(b); err == nil && q.Wants(w) {
			o.windows = append(o.windows, w)
		}
	}
	return o.windows, nil
}

// look answers it.
func (c *collecting) look(o *own) {
	for _, w := range c.open {
		if o.query.Wants(w) {
			copied := w.Empty()
			copied.Merge(w)
			o.windows = append(o.windows, copied)
		}
	}
	o.last = c.box.Last()
	close(o.done)
}
