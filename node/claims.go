package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Claims by themselves. A guest spends units of a stock; if this PoP has too few it asks others for some, which is one round trip over
// a connection that is open already. Once it has had some it asks ahead, so that most spends ask nobody. What is left of a share
// goes back before its end, and of one that has ended its granter asks the holder and takes back the rest.

const (
	claimTimeout   = 1500 * time.Millisecond // for one PoP's answer
	claimPatience  = 3 * time.Second         // for all that are asked at once
	claimPause     = 300 * time.Millisecond  // after nobody had any, before anybody is asked again
	hearPause      = 5 * time.Second         // after a holder could not be heard
	claimTick      = time.Second             // between looks at shares
	stockScan      = 60                      // ticks between looks at all stocks there are
	maxStocks      = 10_000                  // that are looked after at once; others have to wait for the next scan
	maxClaimPoPs   = 5                       // that are asked at once
	maxClaimPart   = 16 << 10                // bytes of its own that a PoP sends along
	maxClaimAnswer = 2 * merge.MaxSize
)

// claims gets units for spends, and looks after shares.
type claims struct {
	node *Node
	ctx  context.Context // ends when run does
	end  context.CancelFunc
	done sync.WaitGroup

	stats struct{ local, asked, short, granted, returned, reclaimed atomic.Int64 }

	mu      sync.Mutex
	over    bool // run has ended, and nothing is begun any more
	stocks  map[stockName]*claimed
	unheard map[string]time.Time // PoPs that could not be heard, until when they are left alone
}

type stockName struct{ service, store, key string }

// claimed is what is remembered of a stock while it is looked after.
type claimed struct {
	flight  chan struct{} // closed when the asking that is under way has ended; nil: none is
	waiting int64         // units that spends wait for
	pause   time.Time     // until then nobody is asked
	last    int64         // how many units the last asking has brought
}

// claimAsk is what one PoP asks another about a stock. With neither Need nor More it asks for the answer's Part only.
type claimAsk struct {
	Store  string `json:"store"`
	Key    []byte `json:"key"`
	Writer string `json:"writer"`         // who asks
	Part   []byte `json:"part,omitempty"` // what that has done with the stock; nothing if it is long
	Need   int64  `json:"need,omitempty"` // units that spends wait for
	More   bool   `json:"more,omitempty"` // some would be welcome
}

// claimAnswer is what it gets.
type claimAnswer struct {
	Writer  string `json:"writer"` // who answers
	Part    []byte `json:"part"`   // what that has done with the stock, what it gave included
	Granted int64  `json:"granted"`
}

func newClaims(n *Node) *claims {
	c := &claims{node: n, stocks: map[stockName]*claimed{}, unheard: map[string]time.Time{}}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c
}

// tended returns what is remembered of a stock, which is looked after from now on. The lock is held.
func (c *claims) tended(k stockName) *claimed {
	e := c.stocks[k]
	if e == nil && len(c.stocks) >= maxStocks {
		return &claimed{pause: time.Now().Add(time.Hour)} // nobody is asked for it
	}
	if e == nil {
		e = &claimed{}
		c.stocks[k] = e
	}
	return e
}

// touch has a stock looked after.
func (c *claims) touch(k stockName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tended(k)
}

// spend carries out a spend, with units of other PoPs if those here do not suffice: then asked is true.
func (c *claims) spend(ctx context.Context, stores *state.Stores, k stockName, op merge.Op) (v *merge.Value, asked bool, err error) {
	const rounds = 2 // one may have brought enough for those before in the queue only
	for round := 0; ; round++ {
		v, err = stores.Change(ctx, k.store, k.key, merge.Stock, op)
		if err == nil {
			c.spent(stores, k, v, asked)
			return v, asked, nil
		}
		if !errors.Is(err, merge.ErrScarce) {
			return nil, asked, err
		}
		if round == rounds || !c.await(ctx, stores, k, max(op.By, 1)) {
			break
		}
		asked = true
	}
	c.stats.short.Add(1)
	return nil, asked, c.short(ctx, stores, k)
}

// spent asks ahead if few units are left.
func (c *claims) spent(stores *state.Stores, k stockName, v *merge.Value, asked bool) {
	if asked {
		c.stats.asked.Add(1)
	} else {
		c.stats.local.Add(1)
	}
	left := stores.Left(v)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.tended(k); left < e.last/2 {
		c.fly(stores, k, e)
	}
}

// fly begins an asking, unless one is under way or just was in vain. The lock is held.
func (c *claims) fly(stores *state.Stores, k stockName, e *claimed) bool {
	if e.flight != nil {
		return true
	}
	if c.over || time.Now().Before(e.pause) || c.node.fleet.peers == nil {
		return false
	}
	landed := make(chan struct{})
	e.flight = landed
	c.done.Go(func() {
		gained := c.gather(stores, k, e)
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.flight = nil; gained > 0 {
			e.last = gained
		} else {
			e.last, e.pause = 0, time.Now().Add(claimPause)
		}
		close(landed)
	})
	return true
}

// await has others asked for units that a spend lacks, and returns when they have answered; false: it is of no use.
func (c *claims) await(ctx context.Context, stores *state.Stores, k stockName, by int64) bool {
	c.mu.Lock()
	e := c.tended(k)
	e.waiting += by
	ok := c.fly(stores, k, e)
	landed := e.flight
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		e.waiting -= by
		c.mu.Unlock()
	}()
	if !ok {
		return false
	}
	select {
	case <-landed:
		return true
	case <-ctx.Done():
		return false
	}
}

// gather asks those PoPs that have units, as far as is known, until there are as many as are waited for.
func (c *claims) gather(stores *state.Stores, k stockName, e *claimed) (gained int64) {
	ctx, cancel := context.WithTimeout(c.ctx, claimPatience)
	defer cancel()
	v, err := stores.Value(ctx, k.store, k.key)
	if err != nil {
		return 0
	}
	tried := 0
	for _, h := range stores.Elsewhere(v) {
		c.mu.Lock()
		need := e.waiting - stores.Left(v)
		c.mu.Unlock()
		if need <= 0 && gained > 0 || tried == maxClaimPoPs || ctx.Err() != nil {
			break
		}
		if !c.reaches(h.Writer.PoP) {
			continue
		}
		tried++
		before := stores.Left(v)
		if _, err := c.ask(ctx, stores, h.Writer.PoP, k, claimAsk{Need: max(need, 0), More: true}); err != nil {
			c.node.cfg.Log.Debug("ask a PoP for units", "pop", h.Writer.PoP, "err", err)
		}
		if v, err = stores.Value(ctx, k.store, k.key); err != nil {
			break
		}
		gained += max(stores.Left(v)-before, 0)
	}
	return gained
}

// reaches reports whether it makes sense to ask a PoP.
func (c *claims) reaches(pop string) bool {
	p := c.node.fleet.peers
	if p == nil {
		return false
	}
	to, known := p.pops.named(pop)
	return known && p.there(&to)
}

// short says that there are not enough units, and who has some.
func (c *claims) short(ctx context.Context, stores *state.Stores, k stockName) error {
	v, err := stores.Value(ctx, k.store, k.key)
	if err != nil {
		return err
	}
	var where []string
	for _, h := range stores.Elsewhere(v) {
		text := fmt.Sprintf("%d at %s", h.Left(), h.Writer.PoP)
		if !c.reaches(h.Writer.PoP) {
			text += ", which cannot be reached"
		}
		if where = append(where, text); len(where) == maxClaimPoPs {
			break
		}
	}
	return stores.Short(k.store, k.key, stores.Left(v), where)
}

// ask asks a PoP about a stock and takes what it says it did. It returns who has answered.
func (c *claims) ask(ctx context.Context, stores *state.Stores, pop string, k stockName, q claimAsk) (from merge.Writer, err error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	part, own, err := stores.Part(ctx, k.store, k.key)
	if err != nil {
		return from, err
	}
	if q.Store, q.Key, q.Writer = k.store, []byte(k.key), own.String(); len(part) <= maxClaimPart {
		q.Part = part
	}
	b, err := c.node.fleet.peers.consult(ctx, pop, errand{Service: k.service, Claim: &q}, nil, patience{}, maxClaimAnswer)
	if err != nil {
		return from, err
	}
	var a claimAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return from, err
	}
	if from, err = merge.ParseWriter(a.Writer); err == nil && from.PoP != pop {
		err = errors.New("it answers in another's name")
	}
	if err == nil {
		err = stores.TakePart(ctx, k.store, k.key, from, a.Part)
	}
	return from, err
}

// serveClaim answers another PoP that asks about a stock. What is asked for and what is said is that PoP's own: nobody gets units for others.
func (n *Node) serveClaim(w *peerWriter, r *http.Request, pop string, d *deployment, q *claimAsk) {
	c, k := n.fleet.claims, stockName{d.version.Service, q.Store, string(q.Key)}
	to, err := merge.ParseWriter(q.Writer)
	jurisdiction, _ := d.state.stores.Away(q.Store)
	if from, known := n.fleet.peers.pops.named(pop); err != nil || to.PoP != pop || jurisdiction != "" && (!known || !slices.Contains(from.Jurisdictions, jurisdiction)) {
		w.refuse(http.StatusForbidden, peerGone)
		return
	}
	stores, ctx := d.state.stores, r.Context()
	if len(q.Part) > 0 {
		err = stores.TakePart(ctx, k.store, k.key, to, q.Part)
	}
	a := claimAnswer{}
	if err == nil && (q.Need > 0 || q.More) {
		a.Granted, err = stores.Grant(ctx, k.store, k.key, to, q.Need)
	}
	var own merge.Writer
	if err == nil {
		a.Part, own, err = stores.Part(ctx, k.store, k.key)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	c.stats.granted.Add(a.Granted)
	c.touch(k)
	a.Writer = own.String()
	_ = answerJSON(w, http.StatusOK, a)
}

// run looks after shares until ctx ends.
func (c *claims) run(ctx context.Context) error {
	defer func() {
		c.mu.Lock()
		c.over = true
		c.mu.Unlock()
		c.end()
		c.done.Wait()
	}()
	t := time.NewTicker(claimTick)
	defer t.Stop()
	for tick := 0; ; tick++ {
		if tick%stockScan == 0 {
			c.scan()
		}
		c.mu.Lock()
		names := make([]stockName, 0, len(c.stocks))
		for k := range c.stocks {
			names = append(names, k)
		}
		c.mu.Unlock()
		for _, k := range names {
			c.tend(ctx, k)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// scan has all stocks looked after that there is room for. Those that need nothing are left alone again.
func (c *claims) scan() {
	for last := []byte(nil); ; {
		next, err := c.node.kv.Stocks(last, 1000, func(service, store, key string) { c.touch(stockName{service, store, key}) })
		if err != nil || next == nil {
			return
		}
		last = next
	}
}

// tend does what there is to do for a stock.
func (c *claims) tend(ctx context.Context, k stockName) {
	d, done := c.node.taken(k.service)
	if d == nil {
		return
	}
	defer done()
	stores := d.state.stores
	v, err := stores.Value(ctx, k.store, k.key)
	if err != nil || v.Kind() != merge.Stock {
		c.forget(k)
		return
	}
	todo := stores.ChoresOf(v)
	if todo.Return > 0 {
		c.stats.returned.Add(todo.Return)
		_, err = stores.Change(ctx, k.store, k.key, merge.Stock, merge.Op{Op: "return", By: todo.Return})
	}
	for _, from := range todo.Hear {
		c.hear(ctx, stores, k, from)
	}
	if todo.Settle && err == nil {
		_, err = stores.Change(ctx, k.store, k.key, merge.Stock, merge.Op{Op: "settle"})
	}
	if err != nil && !errors.Is(err, merge.ErrScarce) && ctx.Err() == nil {
		c.node.cfg.Log.Error("look after shares", "service", k.service, "store", k.store, "err", err)
	}
	if !todo.Later {
		c.forget(k)
	}
}

// forget leaves a stock alone until something is done with it, unless somebody is being asked for units of it.
func (c *claims) forget(k stockName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.stocks[k]; e != nil && e.flight == nil && e.waiting == 0 {
		delete(c.stocks, k)
	}
}

// hear asks a holder what it did with shares that have ended, and takes back what is left of them. A holder that cannot be asked may have
// spent them, so they wait. One that is a member no more, or whose database was lost, spends no more: what the log has of it is all.
func (c *claims) hear(ctx context.Context, stores *state.Stores, k stockName, holder merge.Writer) {
	c.mu.Lock()
	wait := time.Now().Before(c.unheard[holder.PoP])
	c.mu.Unlock()
	gone := c.node.fleet.pops.expelled(holder.PoP)
	if wait || !gone && !c.reaches(holder.PoP) {
		return
	}
	asked, now, err := c.node.cfg.Now(), time.Now(), error(nil)
	if !gone {
		var from merge.Writer
		from, err = c.ask(ctx, stores, holder.PoP, k, claimAsk{})
		gone = from != holder // it is another by now
	}
	if share := stores.Share(k.store); err == nil && gone && share != nil {
		ctx, cancel := context.WithTimeout(ctx, claimTimeout)
		defer cancel()
		err = share.AwaitFresh(ctx, wedge.ScopeMerge, now)
	}
	if err == nil {
		err = stores.Reclaim(ctx, k.store, k.key, holder, asked)
		c.stats.reclaimed.Add(1)
	}
	if err != nil {
		c.node.cfg.Log.Debug("hear a holder of a share", "holder", holder.String(), "err", err)
		c.mu.Lock()
		if len(c.unheard) > maxPoPs {
			clear(c.unheard)
		}
		c.unheard[holder.PoP] = time.Now().Add(hearPause)
		c.mu.Unlock()
	}
}

func (c *claims) metrics() []metric {
	s := &c.stats
	return []metric{
		counter("claim_spends_local_total", "Spends from stocks that asked no other PoP.", s.local.Load()),
		counter("claim_spends_asked_total", "Spends that other PoPs were asked for units for.", s.asked.Load()),
		counter("claim_spends_short_total", "Spends that failed because there were too few units to be had.", s.short.Load()),
		counter("claim_granted_total", "Units given to other PoPs that asked.", s.granted.Load()),
		counter("claim_returned_total", "Units given back before their share ended.", s.returned.Load()),
		counter("claim_reclaims_total", "Holders heard whose shares had ended.", s.reclaimed.Load()),
	}
}
