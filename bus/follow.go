package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wedge-cloud/wedge"
)

// A Follower does something with each entry of a log.
type Follower struct {
	// Entry gets the entries one after the other. An error ends the following.
	Entry func(wedge.Entry) error
	// Lost is told that entries are gone which were not followed: they were too old, or the core has lost them.
	Lost func(next uint64) error
	// CaughtUp is told whenever nothing is missing any more that was there when the link came up.
	CaughtUp func()
	// Fresh is told, about once a second while the link is up, that nothing is missing of what the log had at that time, by both clocks of this machine.
	// nil: nobody is told.
	Fresh func(asOf time.Time)
}

const (
	firstPause   = 50 * time.Millisecond // before something that failed is tried again, twice as long each time
	headInterval = time.Second
	catchUpBatch = 512
)

// Follow calls f with the entries of a log from number next on, in order, each once, until ctx ends or f
// fails. It outlives cuts of any length.
func (l *Link) Follow(ctx context.Context, g *Log, next uint64, f Follower) error {
	t := &tail{link: l, log: g, next: max(next, 1), f: f, messages: make(chan *nats.Msg, 8<<10)}
	for _, subject := range []string{g.tail() + ".>", headSubject(g)} {
		stop, err := l.tap(subject, t.messages)
		if err != nil {
			return unavailable("follow log", g.Name, err)
		}
		defer stop()
	}
	for again := firstPause; ; {
		came := l.Came()
		if err := l.wait(ctx); err != nil {
			return err
		}
		err := t.catchUp(ctx)
		if err == nil {
			again = firstPause
			err = t.listen(ctx, came)
		}
		if err != nil && ctx.Err() == nil && t.failed == nil {
			l.cfg.Log.Debug("follow", "log", g.Name, "err", err)
			_ = pause(ctx, again)
			again = min(2*again, mostWait) // the core may not keep this log at all
		}
		if t.failed != nil {
			return t.failed
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// tap puts what is said about a subject into a channel. What that has no room for is dropped.
func (l *Link) tap(subject string, into chan *nats.Msg) (stop func(), err error) {
	if l.cfg.Twist != nil {
		return l.subscribe(subject, func(m *nats.Msg) {
			select {
			case into <- m:
			default:
			}
		})
	}
	s, err := l.nc.ChanSubscribe(subject, into)
	if err != nil {
		return nil, err
	}
	return func() { _ = s.Unsubscribe() }, nil
}

// tail is one following under way.
type tail struct {
	link     *Link
	log      *Log
	next     uint64
	f        Follower
	messages chan *nats.Msg
	failed   error     // the follower's own
	asked    time.Time // when it was last asked how far the log is
	answer   extent    // what came then
}

// A head says by the clock of the server that leads the log when the log was as far. What that is by the clock here is not known, but it is not
// earlier than by the last answer: what was answered had not been so before it was asked for. So nobody is told that less is missing than is,
// whatever the way of a head took.

// drift is how much one clock may run faster than another.
const drift = 1e-3

// asOf is the earliest time at which the log may have been where a head says that it was; not ok: it has to be asked. It is told from when the last
// question was asked, not from now: a head may have lain here while the machine slept.
func (t *tail) asOf(at time.Time, by string) (asOf time.Time, ok bool) {
	since := at.Sub(t.answer.at)
	asOf = t.asked.Add(since - time.Duration(drift*float64(since)))
	return asOf, by == t.answer.by && since >= 0 && since < askAgain && !asOf.After(time.Now())
}

// askAgain is after how long it is.
const askAgain = time.Minute

// listen takes what is said until something is missing, or the link comes up again.
func (t *tail) listen(ctx context.Context, came <-chan struct{}) error {
	for {
		select {
		case m := <-t.messages:
			if missing, err := t.hear(m); missing || err != nil {
				return err
			}
		case <-came:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hear takes one message and reports whether others before it are missing.
func (t *tail) hear(m *nats.Msg) (missing bool, err error) {
	if m.Subject == headSubject(t.log) {
		last, err := strconv.ParseUint(string(m.Data), 10, 64)
		if missing := err == nil && last >= t.next; err != nil || missing || t.f.Fresh == nil {
			return missing, nil
		}
		at, _ := time.Parse(time.RFC3339Nano, m.Header.Get(headAt))
		asOf, ok := t.asOf(at, m.Header.Get(headBy))
		if ok {
			t.f.Fresh(asOf)
		}
		return !ok, nil
	}
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil || seq < t.next {
		return false, nil
	}
	if seq > t.next {
		return true, nil
	}
	at, _ := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	return false, t.take(seq, m.Header.Get("Nats-Subject"), at, m)
}

// take passes an entry on. One that is damaged is left out, for no later reading would be better.
func (t *tail) take(seq uint64, subject string, at time.Time, m *nats.Msg) error {
	e, err := t.log.entry(seq, subject, at, m.Header, m.Data)
	if err != nil {
		t.link.cfg.Log.Error("an entry of a log is damaged and left out", "log", t.log.Name, "seq", seq, "writer", e.Writer)
	} else if err := t.f.Entry(e); err != nil {
		t.failed = err
		return err
	}
	t.next = seq + 1
	return nil
}

// catchUp reads what is missing.
func (t *tail) catchUp(ctx context.Context) error {
	asked := time.Now()
	e, err := t.link.extent(ctx, t.log)
	if err != nil {
		return err
	}
	t.asked, t.answer = asked, e
	first, last := e.first, e.last
	if t.next < first && t.log.Newest {
		t.next = first // what stood before was replaced
	}
	if t.next < first || t.next > last+1 {
		t.next = max(first, min(t.next, last+1))
		if t.f.Lost != nil {
			if t.failed = t.f.Lost(t.next); t.failed != nil {
				return t.failed
			}
		}
	}
	for t.next <= last {
		if err := t.read(ctx); err != nil {
			return err
		}
	}
	if t.f.CaughtUp != nil {
		t.f.CaughtUp()
	}
	if t.f.Fresh != nil {
		t.f.Fresh(asked)
	}
	return nil
}

// read reads the next few entries that are missing. It may be answered by a server that lags behind: then it
// is asked again.
func (t *tail) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	nc := t.link.nc
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	question, err := json.Marshal(map[string]any{"seq": t.next, "batch": catchUpBatch, "max_bytes": 8 << 20, "next_by_subj": t.log.subject(">")})
	if err != nil {
		return err
	}
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+t.log.Name, inbox, question); err != nil {
		return err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204": // the batch ends
			return nil
		default:
			return fmt.Errorf("read log %s: status %s %s", t.log.Name, status, m.Header.Get("Description"))
		}
		seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil || seq < t.next {
			continue
		}
		at, _ := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
		if err := t.take(seq, m.Header.Get("Nats-Subject"), at, m); err != nil {
			return err
		}
	}
}

func headSubject(g *Log) string { return "head." + g.Name }

// Fields of a head: see extent.
const (
	headAt = "At"
	headBy = "By"
)

// Herald says every second how far each log has got, until ctx ends: a follower whose last message was
// lost would not know otherwise. It is for a core's own link.
func (l *Link) Herald(ctx context.Context, logs ...*Log) error {
	t := time.NewTicker(headInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, g := range logs {
			if e, err := l.extent(ctx, g); err == nil {
				head := nats.NewMsg(headSubject(g))
				head.Data = strconv.AppendUint(nil, e.last, 10)
				head.Header.Set(headAt, e.at.Format(time.RFC3339Nano))
				head.Header.Set(headBy, e.by)
				_ = l.nc.PublishMsg(head) // the next one comes soon
			}
		}
	}
}
