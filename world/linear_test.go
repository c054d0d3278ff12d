package world

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wedge-cloud/wedge"
)

// keyOp is an operation on a key: get what is newest, put, append, or put if the key holds what was read before.
type keyOp struct{ op, key, value, had string }

// keyHistory is what clients of a store did, and what they were told.
type keyHistory struct {
	stateLab
	pops  []*chaosPoP
	began time.Time

	mu  sync.Mutex
	ops []porcupine.Operation
	did map[string]int
}

// TestLinearizable: stores of scope core and of scope home are, for clients at all PoPs, as if each of their operations was done at one
// instant between its question and its answer, while PoPs are cut, killed and slowed down, their packets lost and their clocks set.
func TestLinearizable(t *testing.T) {
	length := 4 * time.Second
	if os.Getenv("WEDGE_SOAK") != "" {
		length = 5 * time.Minute
	}
	if d, err := time.ParseDuration(os.Getenv("WEDGE_SOAK")); err == nil {
		length = d
	}
	l := stateLab{newLabOf(t, Config{HomePace: 100 * time.Millisecond}, func(v *wedge.Version) {
		v.Backends = []wedge.Backend{{Name: "state", URL: parsed(t, "http://state.wedge.internal")}}
		v.KVStores = map[string][]wedge.KVSeed{"core": nil, "home": nil}
		v.Stores = map[string]wedge.Store{"core": {Scope: wedge.ScopeCore}, "home": {Scope: wedge.ScopeHome, Split: "/"}}
	})}
	h := &keyHistory{stateLab: l, began: time.Now(), did: map[string]int{}}
	for _, p := range l.cfg.PoPs {
		h.pops = append(h.pops, &chaosPoP{name: p.Name, url: l.url(p.Name)})
	}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var w sync.WaitGroup
	for client := range 8 {
		w.Go(func() {
			client := &keyClient{keyHistory: h, id: client, tags: map[string][2]string{}}
			for ; ctx.Err() == nil; client.n++ {
				client.step()
				time.Sleep(rand.N(20 * time.Millisecond))
			}
		})
	}
	w.Go(func() {
		for ctx.Err() == nil && !t.Failed() {
			h.trouble()
			time.Sleep(rand.N(400 * time.Millisecond))
		}
	})
	w.Wait()
	_ = h.Heal()
	h.check(length)
}

// trouble does something to a PoP, its link or its clock.
func (h *keyHistory) trouble() {
	p := h.pops[rand.IntN(len(h.pops))]
	all := map[string]func() error{
		"cuts":       func() error { return h.Cut(p.name) },
		"blackholes": func() error { return h.Blackhole([][]Way{nil, {In}, {Out}}[rand.IntN(3)], p.name) },
		"heals":      func() error { return h.Heal() },
		"delays":     func() error { return h.Delay(rand.N(100*time.Millisecond), p.name) },
		"losses":     func() error { return h.Lose(rand.Float64()/4, p.name) },
		"jumps":      func() error { return h.Skew(rand.N(4*time.Hour)-2*time.Hour, p.name) },
		"kills": func() error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if err := h.Kill(p.name); err != nil {
				return err
			}
			return h.Start(h.t.Context(), p.name)
		},
	}
	names := append(slices.Sorted(maps.Keys(all)), "heals", "heals")
	what := names[rand.IntN(len(names))]
	h.did[what]++
	if err := all[what](); err != nil {
		h.t.Error(what, err)
	}
}

// keyClient is one of those who use the stores.
type keyClient struct {
	*keyHistory
	id, n int
	tags  map[string][2]string // by key, its ETag and what it held when it was read last
}

// step does one operation, and notes it. What was refused did not happen; of what has no answer nobody knows, so it may happen at any time.
func (c *keyClient) step() {
	p := c.pops[rand.IntN(len(c.pops))]
	key := []string{"/core/a", "/core/b", "/home/a/1", "/home/a/2", "/home/b/1"}[rand.IntN(5)]
	in := keyOp{[]string{"get", "get", "put", "append", "swap"}[rand.IntN(5)], key, fmt.Sprintf("%d.%d,", c.id, c.n), ""}
	tag := c.tags[key]
	if in.op == "swap" {
		if in.had = tag[1]; tag[0] == "" {
			in.op = "put"
		}
	}
	call := time.Since(c.began).Nanoseconds()
	status, body, etag := c.send(p, in, tag[0])
	op := porcupine.Operation{ClientId: c.id, Input: in, Call: call, Return: time.Since(c.began).Nanoseconds()}
	switch {
	case in.op == "get" && (status == 200 || status == 404):
		if op.Output = body; status == 404 {
			op.Output, etag = "", ""
		}
		c.tags[key] = [2]string{etag, op.Output.(string)}
	case in.op == "swap" && status == http.StatusPreconditionFailed:
		op.Output = "refused"
	case in.op != "get" && status == http.StatusNoContent:
		op.Output = "done"
	case in.op == "get" || status/100 == 4:
		return
	default:
		op.Output, op.ClientId, op.Return = "?", 1000+c.id*1_000_000+c.n, 1<<60
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
}

// send returns the status of the answer, 0 if there is none.
func (c *keyClient) send(p *chaosPoP, in keyOp, tag string) (status int, body, etag string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	method, text := http.MethodPut, in.value
	if in.op == "get" {
		method, text = http.MethodGet, ""
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url+in.key, strings.NewReader(text))
	if err != nil {
		c.t.Error(err)
		return 0, "", ""
	}
	req.Host = "shop.example"
	req.Header.Set("Wedge-Max-Staleness", "0")
	req.Header.Set("Wedge-Wait", "1")
	switch in.op {
	case "append":
		req.Header.Set("Wedge-Mode", "append")
	case "swap":
		req.Header.Set("If-Match", tag)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", ""
	}
	return resp.StatusCode, string(b), resp.Header.Get("Etag")
}

// check finds out whether the history can be.
func (h *keyHistory) check(length time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{} // values; what is unknown and was never seen need not have happened
	for _, op := range h.ops {
		for v := range strings.SplitAfterSeq(op.Output.(string), ",") {
			seen[v] = true
		}
	}
	kept := slices.DeleteFunc(slices.Clone(h.ops), func(op porcupine.Operation) bool { return op.Output == "?" && !seen[op.Input.(keyOp).value] })
	for _, ops := range keyModel.Partition(kept) {
		result := porcupine.CheckOperationsTimeout(keyModel, ops, max(30*time.Second, length))
		if result == porcupine.Ok {
			continue
		}
		h.t.Errorf("the history of a key is not linearizable (%v):", result)
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for _, op := range ops {
			h.t.Logf("%v to %v: %+v: %q", time.Duration(op.Call), time.Duration(op.Return), op.Input, op.Output)
		}
	}
	h.t.Logf("%d operations, %d unknown; %v", len(kept), len(slices.DeleteFunc(slices.Clone(h.ops), func(op porcupine.Operation) bool { return op.Output != "?" })), h.did)
	if len(kept) < 20 {
		h.t.Error("too little was done")
	}
}

// keyModel is a register for each key.
var keyModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (all [][]porcupine.Operation) {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(keyOp).key
			by[key] = append(by[key], op)
		}
		return slices.Collect(maps.Values(by))
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		have, in := state.(string), input.(keyOp)
		switch {
		case in.op == "get":
			return output == have, have
		case in.op == "append":
			return true, have + in.value
		case in.op == "swap" && output == "refused":
			return true, have // it may have been written with the same text meanwhile
		case in.op == "swap":
			return have == in.had, in.value
		}
		return true, in.value
	},
}
