package node

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/state"
)

// sinks takes raw events to where services want them. What a beacon brought is on disk, in a queue for each collection, before the client has its
// answer, and goes on to the sink in batches, each again until it was taken. So what is in a queue arrives at least once, however
// often a process is killed; every line has an id by which the receiver knows what it had. A queue has bounds: what comes while it is full
// is dropped, and counted.
type sinks struct {
	pop, writer string
	kv          *state.KV
	log         *slog.Logger
	find        func(service, name string) (*wedge.Version, *wedge.Collect, func()) // what is deployed, until the function is called; nil: not here
	send        func(context.Context, *wedge.Version, *wedge.CollectSink, *rawBatch) error

	mu     sync.Mutex
	queues map[string]*sinkQueue // by lane
	news   chan struct{}         // a queue was opened

	sent, dropped, failed atomic.Int64
}

// sinkQueue has the events of one collection.
type sinkQueue struct {
	sinks         *sinks
	service, name string
	box           *state.Outbox
	done          atomic.Uint64 // the last item that the sink has
	bytes         atomic.Int64  // of those that it has not
	works         bool          // guarded by sinks.mu
	full          atomic.Bool   // and has said so
}

// rawBatch is what a sink is sent at once.
type rawBatch struct {
	ID    string // the same, if the same is sent again
	Lines []byte // NDJSON
	n     int    // lines
	last  uint64 // item
	kept  int64  // bytes in the queue
}

const (
	sinkWaiting = 2000      // items of a queue: beacons
	sinkSize    = 16 << 20  // bytes of a queue, and a beacon more
	sinkItems   = 200       // of a batch
	sinkBytes   = 256 << 10 // of a batch, but for a beacon's alone
	sinkCut     = 256       // items that a sink has are dropped, so many at once
	sinkFirst   = 200 * time.Millisecond
	sinkMost    = 30 * time.Second
	sinkTimeout = 10 * time.Second
)

// openSinks has the services of a node send raw events.
func (n *Node) openSinks(f *fleet) *sinks {
	return &sinks{pop: f.cfg.PoP.Name, writer: f.writer, kv: n.kv, log: n.cfg.Log, send: f.targets.send, queues: map[string]*sinkQueue{}, news: make(chan struct{}, 1),
		find: func(service, name string) (*wedge.Version, *wedge.Collect, func()) {
			d, done := n.taken(service)
			if d == nil {
				return nil, nil, nil
			}
			for i := range d.version.Collect {
				if c := &d.version.Collect[i]; c.Name == name {
					return d.version, c, done
				}
			}
			return d.version, nil, done
		}}
}

func sinkLane(service, name string) string { return "sink." + service + "/" + name }

// open has a queue for a collection, and the work on it begin. What is in one that nobody wants any more stays, until somebody does.
func (s *sinks) open(service, name string) (*sinkQueue, error) {
	lane := sinkLane(service, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[lane]; q != nil {
		return q, nil
	}
	q := &sinkQueue{sinks: s, service: service, name: name}
	var err error
	if q.box, err = s.kv.Outbox(lane); err != nil {
		return nil, err
	}
	done, err := s.kv.Cursor(lane)
	if err != nil {
		return nil, err
	}
	q.done.Store(max(done, q.box.First()-1))
	waiting, err := q.box.Next(q.done.Load(), sinkWaiting)
	if err != nil {
		return nil, err
	}
	for _, item := range waiting {
		q.bytes.Add(int64(len(item)))
	}
	s.queues[lane] = q
	select {
	case s.news <- struct{}{}:
	default:
	}
	return q, nil
}

// wanted has the work go on on what waits for the sinks of a version.
func (s *sinks) wanted(v *wedge.Version) {
	for i := range v.Collect {
		if c := &v.Collect[i]; c.Sink.Wanted() {
			if _, err := s.open(v.Service, c.Name); err != nil {
				s.log.Error("raw events cannot be kept", "service", v.Service, "collection", c.Name, "err", err)
			}
		}
	}
}

// add keeps events for their sink. It does not fail: what cannot be kept is dropped.
func (s *sinks) add(service string, rule *wedge.Collect, events []collect.Event, at time.Time) {
	q, err := s.open(service, rule.Name)
	if err == nil && (q.waiting() >= sinkWaiting || q.bytes.Load() >= sinkSize) {
		err = errSinkFull
	}
	if err == nil {
		raw := collect.Raw(service, s.pop, rule, events, at)
		q.bytes.Add(int64(len(raw)))
		if _, err = q.box.Add(raw); err == nil {
			return
		}
		q.bytes.Add(-int64(len(raw)))
	}
	s.dropped.Add(int64(len(events)))
	if q == nil || !q.full.Swap(true) {
		s.log.Warn("raw events are dropped", "service", service, "collection", rule.Name, "err", err)
	}
}

var errSinkFull = errors.New("too many wait for their sink")

// run works on the queues until ctx ends.
func (s *sinks) run(ctx context.Context) error {
	var w sync.WaitGroup
	defer w.Wait()
	for {
		s.mu.Lock()
		for _, q := range s.queues {
			if !q.works {
				q.works = true
				w.Go(func() { q.run(ctx) })
			}
		}
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-ctx.Done():
			return nil
		}
	}
}

// run takes batches to the sink, one after the other.
func (q *sinkQueue) run(ctx context.Context) {
	wait := sinkFirst
	for ctx.Err() == nil {
		grown := q.box.Grown()
		b, err := q.next()
		if err == nil && b == nil {
			select {
			case <-grown:
			case <-ctx.Done():
			}
			continue
		}
		if err == nil {
			err = q.deliver(ctx, b)
		}
		if err == nil {
			wait = sinkFirst
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if q.sinks.failed.Add(1); wait == sinkFirst {
			q.sinks.log.Warn("a sink does not take raw events; they wait", "service", q.service, "collection", q.name, "err", err)
		}
		sleep(ctx, wait/2+rand.N(wait/2))
		wait = min(2*wait, sinkMost)
	}
}

// next returns what is to be sent next, nil if there is nothing.
func (q *sinkQueue) next() (*rawBatch, error) {
	first := q.done.Load() + 1
	items, err := q.box.Next(first-1, sinkItems)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	b := &rawBatch{}
	for i, item := range items {
		at := first + uint64(i)
		lines, n := collect.Lines(q.sinks.writer+"/"+q.service+"/"+q.name+"/"+strconv.FormatUint(at, 10), item)
		if i > 0 && len(b.Lines)+len(lines) > sinkBytes {
			break
		}
		b.Lines, b.n, b.last, b.kept = append(b.Lines, lines...), b.n+n, at, b.kept+int64(len(item))
	}
	b.ID = q.sinks.writer + "/" + q.service + "/" + q.name + "/" + strconv.FormatUint(first, 10) + "-" + strconv.FormatUint(b.last, 10)
	return b, nil
}

// deliver sends a batch, and notes that it was taken. What the receiver says it will never take is dropped, and what nobody wants any more.
func (q *sinkQueue) deliver(ctx context.Context, b *rawBatch) error {
	s := q.sinks
	version, rule, done := s.find(q.service, q.name)
	if version == nil {
		return &wedge.Error{Op: "send raw events", What: q.service, Kind: wedge.NotExist, Err: errors.New("the service is not here now")}
	}
	defer done()
	err := error(nil)
	if rule == nil || !rule.Sink.Wanted() {
		err = &wedge.Error{Op: "send raw events", What: q.name, Kind: wedge.Invalid, Err: errors.New("the service has no such sink any more")}
	} else {
		ctx, cancel := context.WithTimeout(ctx, sinkTimeout)
		defer cancel()
		err = s.send(ctx, version, &rule.Sink, b)
	}
	switch {
	case err == nil:
		s.sent.Add(int64(b.n))
	case wedge.KindOf(err) == wedge.Invalid:
		s.dropped.Add(int64(b.n))
		s.log.Warn("raw events are dropped", "service", q.service, "collection", q.name, "batch", b.ID, "err", err)
	default:
		return err
	}
	q.full.Store(false)
	q.done.Store(b.last)
	q.bytes.Add(-b.kept)
	if err := s.kv.SetCursor(sinkLane(q.service, q.name), b.last); err != nil {
		return err
	}
	if b.last < q.box.First()+sinkCut {
		return nil
	}
	return q.box.Cut(b.last)
}

// waiting is how many items the sink does not have.
func (q *sinkQueue) waiting() uint64 {
	last := q.box.Last()
	return last - min(last, q.done.Load())
}

// waiting is how many items there are that sinks do not have.
func (s *sinks) waiting() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		n += int64(q.waiting())
	}
	return n
}

func (s *sinks) metrics() []metric {
	return []metric{
		counter("collect_sink_events_total", "Raw events that sinks have taken.", s.sent.Load()),
		counter("collect_sink_dropped_total", "Raw events that did not get there: their queue was full, or the receiver refused them.", s.dropped.Load()),
		counter("collect_sink_failures_total", "Times that a sink did not take a batch, which is sent again.", s.failed.Load()),
		gauge("collect_sink_waiting", "Beacons whose raw events wait for their sink.", s.waiting()),
	}
}
