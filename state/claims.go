package state

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Units of a stock come to where they are spent. A PoP that has too few asks one that has some, and that one decides how many it
// gives: some of its account as a share for a time, or some of a share that it holds itself.

const (
	// ShareTime is how long a share is granted for. So long a PoP sells by itself what it holds, and so long what a PoP holds that
	// cannot be reached is sold by nobody else.
	ShareTime = 5 * time.Minute

	// returnBefore is how long before its end what is left of a share is given back.
	returnBefore = 3 * time.Second

	// againTime is how soon a PoP that asks again is taken for one that sells a lot.
	againTime = 10 * time.Second
	maxAgain  = 2
	maxAskers = 10_000

	// fewUnits is what is given to whoever needs it, as there is too little to keep some for others.
	fewUnits = 16

	// settleAfter is how many shares are done with before they go into the account while others are out.
	settleAfter = 16
)

// portion says how many of the units that a PoP has it gives to another that needs some more: what it needs, or an eighth of all, which
// becomes a quarter and a half for who asks again soon. No PoP comes to hold more than half of what both have, unless that is little. out is what the other
// holds already, as far as is known.
func portion(have, out, need int64, again int) int64 {
	most := have + out
	if most > fewUnits {
		most = (most + 1) / 2
	}
	return max(0, min(max(need, have>>(3-min(again, maxAgain))), most-out, have))
}

// Grant gives some units of a stock to a writer at another PoP, which needs so many more than it has; 0: it would like some. It returns how
// many. Whoever calls it tells the other what it gave: see [Stores.Part].
func (s *Stores) Grant(ctx context.Context, name, key string, to merge.Writer, need int64) (n int64, err error) {
	if to.PoP == s.kv.writer.PoP || need < 0 {
		return 0, &wedge.Error{Op: "grant share", What: to.String(), Kind: wedge.Invalid, Err: errors.New("not another PoP, or fewer than nothing")}
	}
	again := s.kv.askers.again(name+"\x00"+key+"\x00"+to.PoP, s.kv.opts.Now())
	_, err = s.changeBy(ctx, name, key, merge.Stock, func(v *merge.Value) (op merge.Op, ok bool) {
		var own, held, out int64
		for _, h := range v.Holdings(s.instant()) {
			switch {
			case h.Writer == s.kv.writer:
				own, held = h.Own, h.Held
			case h.Writer.PoP == to.PoP:
				out += h.Held
			}
		}
		if n = portion(own, out, need, again); n > 0 {
			return merge.Op{Op: "grant", By: n, To: to, For: ShareTime.Milliseconds()}, true
		}
		if need > 0 {
			n = portion(held, 0, need, 0)
		}
		return merge.Op{Op: "move", By: n, To: to}, n > 0
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (s *Stores) instant() merge.Instant { return s.kv.clock.Now(s.kv.opts.Now()).Instant }

// askers remembers who has asked for units of late.
type askers struct {
	mu   sync.Mutex
	last map[string]asker
}

type asker struct {
	at    time.Time
	again int
}

// again notes that somebody asks, and returns how often it did before without a long pause between.
func (a *askers) again(who string, now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.last) >= maxAskers || a.last == nil {
		a.last = map[string]asker{}
	}
	was, ok := a.last[who]
	next := asker{at: now}
	if ok && now.Sub(was.at) < againTime {
		next.again = min(was.again+1, maxAgain)
	}
	a.last[who] = next
	return next.again
}

// Part returns, encoded, what this PoP has done with a stock, and as which writer. The error is of kind NotExist if there is no stock.
func (s *Stores) Part(ctx context.Context, name, key string) (part []byte, writer merge.Writer, err error) {
	st, err := s.openMerged(ctx, "read stock", name, key)
	if err != nil {
		return nil, writer, err
	}
	defer s.kv.leave()
	id := st.id(key)
	defer s.kv.lock(id)() // a spend that is on its way to the disk must not be missing in what the granter is told
	v, err := readMerged(s.kv.db, id)
	if err != nil {
		return nil, writer, err
	}
	if v == nil || v.Kind() != merge.Stock {
		return nil, writer, absent("read stock", name, key)
	}
	return v.Part(s.kv.writer).Encode(), s.kv.writer, nil
}

// TakePart takes what another PoP says it has done with a stock that is known here, before the log brings it. The error is of kind Invalid or Denied if
// it may not say that.
func (s *Stores) TakePart(ctx context.Context, name, key string, from merge.Writer, part []byte) error {
	d, err := merge.Decode(part)
	if err == nil && (d.Kind() != merge.Stock || from == s.kv.writer) {
		err = errItem
	}
	if err != nil {
		return &wedge.Error{Op: "take from a PoP", What: from.String(), Kind: wedge.Invalid, Err: err}
	}
	if v, err := s.Value(ctx, name, key); err != nil || v.Kind() != merge.Stock {
		return cmp.Or(err, absent("take from a PoP", name, key))
	}
	st, err := s.openMerged(ctx, "take from a PoP", name, key)
	if err != nil {
		return err
	}
	defer s.kv.leave()
	if st.share == nil {
		return absent("take from a PoP", name, key)
	}
	return st.share.takeChange(from, &sharedChange{service: st.service, store: st.name, key: key, delta: d}, s.kv.opts.Now())
}

// Elsewhere returns which writers at other PoPs may spend something of a stock, those with the most first.
func (s *Stores) Elsewhere(v *merge.Value) []merge.Holding {
	all := slices.DeleteFunc(v.Holdings(s.instant()), func(h merge.Holding) bool { return h.Writer.PoP == s.kv.writer.PoP })
	slices.SortStableFunc(all, func(a, b merge.Holding) int { return cmp.Compare(b.Left(), a.Left()) })
	return all
}

// Chores are what a PoP has to do for a stock by and by.
type Chores struct {
	Return int64          // so many units of shares that end soon are given back
	Hear   []merge.Writer // holders to be asked for what they did with shares that have ended, which then can be reclaimed
	Settle bool           // shares that are done with go into the account
	Later  bool           // there are shares that will need something
}

// ChoresOf returns what there is to do for a stock now.
func (s *Stores) ChoresOf(v *merge.Value) Chores { return choresOf(v, s.kv.writer, s.instant()) }

func choresOf(v *merge.Value, own merge.Writer, at merge.Instant) (c Chores) {
	done, open := 0, 0
	now := time.UnixMilli(at.Wall)
	for _, share := range v.Shares() {
		if share.Holder == own && share.Left > 0 && now.Before(share.Until) {
			c.Later = true
			if now.After(share.Until.Add(-returnBefore)) {
				c.Return += share.Left
			}
		}
		if share.Granter != own {
			continue
		}
		switch waits := share.Left > 0 || share.Forced; {
		case !waits:
			done++
		case now.Before(share.Free):
			open++
		default:
			open++
			if !slices.Contains(c.Hear, share.Holder) {
				c.Hear = append(c.Hear, share.Holder)
			}
		}
	}
	c.Settle = done >= settleAfter || done > 0 && open == 0
	c.Later = c.Later || open > 0 || done > 0
	return c
}

// Reclaim takes back what is left of ended shares of a writer, whose part was taken after it had been asked at that time.
func (s *Stores) Reclaim(ctx context.Context, name, key string, from merge.Writer, asked time.Time) error {
	_, err := s.Change(ctx, name, key, merge.Stock, merge.Op{Op: "reclaim", From: from, Heard: asked})
	return err
}

func (kv *KV) noteStock(b *pebble.Batch, id []byte, v *merge.Value) error {
	if v.Kind() != merge.Stock {
		return nil
	}
	return b.Set(inSpace(stockSpace, id), nil, nil)
}

// Stocks calls f with up to limit stocks that are known here, after the one that last ended with, and returns where the next
// call is to go on; nil: there are no more.
func (kv *KV) Stocks(last []byte, limit int, f func(service, store, key string)) (next []byte, err error) {
	if err := kv.enter(context.Background(), "list stocks", ""); err != nil {
		return nil, err
	}
	defer kv.leave()
	lower := []byte{stockSpace}
	if last != nil {
		lower = append(bytes.Clone(last), 0)
	}
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{stockSpace + 1}})
	if err != nil {
		return nil, diskError("list stocks", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if limit--; limit < 0 {
			break
		}
		next = bytes.Clone(it.Key())
		if service, store, key, err := splitID(next[1:]); err == nil {
			_, name, _ := strings.Cut(service, "\x01") // without the jurisdiction, which the store's binding says
			f(cmp.Or(name, service), store, key)
		}
	}
	if limit >= 0 {
		next = nil
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, diskError("list stocks", err)
	}
	return next, nil
}

// Short says that there are too few units, and where others are.
func (s *Stores) Short(name, key string, here int64, elsewhere []string) error {
	e := &wedge.Error{Op: "spend", What: fmt.Sprintf("%q in store %s", key, name), Kind: wedge.Exhausted, Err: fmt.Errorf("%w: %d here", merge.ErrScarce, here),
		Hint: "It is sold out, as far as is known here."}
	if len(elsewhere) > 0 {
		e.Hint = "Try again when there is more at other PoPs to be had, or say that it is sold out here."
	}
	for i, where := range elsewhere {
		sep := "; "
		if i > 0 {
			sep = ", "
		}
		e.Err = fmt.Errorf("%w%s%s", e.Err, sep, where)
	}
	return e
}
