package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// An Outbox keeps what a PoP has to say until the core has it, and for a while after, should the core lose it.
// Items have the numbers 1, 2, 3 and so on.
type Outbox interface {
	// Next returns up to max items that follow number after, in order.
	Next(after uint64, max int) ([][]byte, error)
	// Last returns the number of the newest item.
	Last() uint64
	// Grown returns a channel that is closed when there is a new item.
	Grown() <-chan struct{}
}

const (
	maxItems = 512
	maxBatch = 256 << 10 // bytes of an entry, but for a single item that is larger
)

// MaxItem is how large an item may be, in bytes.
const MaxItem = maxMessage - 64

// ErrForked is how a pump ends whose core knows of items that its outbox does not have: the disk is an older copy. What
// is said now would be taken for what has been said before; the PoP must write under another name.
var ErrForked = errors.New("the core has items that this outbox has not: it is an older copy")

// Pump carries what is in an outbox to a log, in order and once, until ctx ends. sent, if not nil, is told
// up to which item the core has everything, and the entry's number. However a message is lost, or its answer, the
// pump goes on from what the core has: each entry is accepted only behind the one that it follows.
func (l *Link) Pump(ctx context.Context, g *Log, writer string, box Outbox, sent func(item, seq uint64)) error {
	for again := firstPause; ; again = min(2*again, mostWait) {
		began := time.Now()
		err := l.pump(ctx, g, writer, box, sent)
		if time.Since(began) > 2*mostWait {
			again = firstPause // it has worked
		}
		if ctx.Err() != nil || errors.Is(err, ErrForked) {
			return err
		}
		l.cfg.Log.Debug("pump", "log", g.Name, "err", err)
		if err := pause(ctx, again); err != nil {
			return err
		}
	}
}

// pump is Pump until something fails.
func (l *Link) pump(ctx context.Context, g *Log, writer string, box Outbox, sent func(item, seq uint64)) error {
	if err := l.wait(ctx); err != nil {
		return err
	}
	e, err := l.Last(ctx, g, writer)
	if err != nil {
		return err
	}
	seq, have := e.Seq, uint64(0)
	if seq > 0 {
		have = e.First + uint64(len(e.Items)) - 1
	}
	if have > box.Last() {
		return fmt.Errorf("pump %s to %s: %d items, %d there: %w", writer, g.Name, box.Last(), have, ErrForked)
	}
	// It may have said new things already, so that the numbers fit again.
	if own, err := box.Next(max(have, 1)-1, 1); err == nil && have > 0 && len(own) > 0 && !bytes.Equal(own[0], e.Items[len(e.Items)-1]) {
		return fmt.Errorf("pump %s to %s: item %d is another there: %w", writer, g.Name, have, ErrForked)
	}
	for {
		if sent != nil {
			sent(have, seq)
		}
		grown := box.Grown()
		items, err := box.Next(have, maxItems)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		items = within(items)
		if seq, err = l.append(ctx, g, seq, g.message(writer, have+1, items)); err != nil {
			return err
		}
		have += uint64(len(items))
	}
}

// within returns as many of the items as one entry takes.
func within(items [][]byte) [][]byte {
	size := 0
	for i, it := range items {
		if size += len(it) + 4; size > maxBatch && i > 0 {
			return items[:i]
		}
	}
	return items
}
