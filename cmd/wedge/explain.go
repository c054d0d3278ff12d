package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
)

const explainUsage = "[--json] SERVICE STORE [KEY]"

func runExplain(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("explain")
	r.flags(fs)
	rest, err := parse(fs, args, 3)
	if err == nil && len(rest) < 2 {
		err = &wedge.Error{Op: "explain", Kind: wedge.Invalid, Err: errors.New("which store of which service?"), Hint: "Usage: wedge explain " + explainUsage}
	}
	if err != nil {
		return err
	}
	homes, err := r.homes(ctx, rest[0], rest[1], rest[2:]...)
	if err != nil {
		return err
	}
	var errs []error
	for i := range homes {
		if h := &homes[i]; h.Unreached != "" {
			errs = append(errs, &wedge.Error{Op: "explain", What: "the home of " + h.keys(), Kind: wedge.Unavailable, Err: fmt.Errorf("%s: %s", h.PoP, h.Unreached),
				Hint: "What is written to it, and whether it moves, only its PoP knows. Nothing can be written until that is back: see wedge pops"})
		}
	}
	return errors.Join(r.show(std.out, homes, func(w io.Writer) {
		for i := range homes {
			if i > 0 {
				fmt.Fprintln(w)
			}
			homes[i].print(w)
		}
	}), errors.Join(errs...))
}

// foundHome is what PoPs say of a home.
type foundHome struct {
	api.Home
	Unreached string `json:"unreached,omitempty"` // why its PoP does not say more
}

// homesPath returns where PoPs say what they know of the homes of a store, or of a key.
func homesPath(store string, key ...string) string {
	q := url.Values{"store": {store}}
	if len(key) > 0 {
		q.Set("key", key[0])
	}
	return api.HomesPath + "?" + q.Encode()
}

// homes finds the homes of a store, or that of a key; there is at least one. Who is the home, the PoP knows that has heard of the latest; why, the home.
func (r *remote) homes(ctx context.Context, service, store string, key ...string) ([]foundHome, error) {
	list, err := r.State(ctx, service, api.StateRequest{PoP: api.EveryPoP, Method: http.MethodGet, Path: homesPath(store, key...)})
	if err != nil {
		return nil, err
	}
	found, faults, answers := map[string]foundHome{}, map[string]error{}, 0
	var refused error
	for _, a := range list {
		if err := a.Fault(); err != nil {
			if faults[a.PoP] = err; refused == nil || wedge.KindOf(refused) == wedge.Unavailable {
				refused = err
			}
			continue
		}
		var some []api.Home
		if err := json.Unmarshal(a.Body, &some); err != nil {
			return nil, &wedge.Error{Op: "ask", What: "PoP " + a.PoP, Kind: wedge.Internal, Err: err}
		}
		answers++
		for _, h := range some {
			had, known := found[h.Keys]
			if !known || h.Epoch > had.Epoch || h.Epoch == had.Epoch && h.Why != "" {
				found[h.Keys] = foundHome{Home: h}
			}
		}
	}
	if answers == 0 {
		return nil, refused
	}
	if len(found) == 0 {
		return nil, &wedge.Error{Op: "find home", What: "store " + store, Kind: wedge.NotExist, Err: errors.New("no PoP is the home yet"), Hint: "The first through which it is written becomes it."}
	}
	homes := slices.SortedFunc(maps.Values(found), func(a, b foundHome) int { return cmp.Compare(a.Keys, b.Keys) })
	for i := range homes {
		if h := &homes[i]; h.Why == "" {
			h.Unreached = "it cannot be reached"
			if err := faults[h.PoP]; err != nil {
				h.Unreached = err.Error()
			}
		}
	}
	return homes, nil
}

// keys says which keys have the home.
func (h *foundHome) keys() string {
	if h.Split == "" {
		return "store " + h.Store
	}
	if h.Keys == "" {
		return fmt.Sprintf("the keys without %q of store %s", h.Split, h.Store)
	}
	return fmt.Sprintf("the keys %s* of store %s", h.Keys, h.Store)
}

// print shows where a home is, what it would be like elsewhere, and why it is not there.
func (h *foundHome) print(w io.Writer) {
	fmt.Fprintf(w, "%s: at home at %s since %s, epoch %d\n", h.keys(), h.PoP, h.Since.Local().Format(time.DateTime), h.Epoch)
	if h.Why == "" {
		return
	}
	all := 0.0
	pops := map[string]bool{}
	for pop, writes := range h.Writes {
		all, pops[pop] = all+writes, true
	}
	for pop := range h.Waits {
		pops[pop] = true
	}
	fmt.Fprintln(w, "POP\tWRITES\tWAIT\tSAVES")
	for _, pop := range slices.Sorted(maps.Keys(pops)) {
		share, wait, saves := "-", "-", "-"
		if h.Writes[pop] > 0 {
			share = fmt.Sprintf("%.0f %%", 100*h.Writes[pop]/all)
		}
		if ms, may := h.Waits[pop]; may && all > 0 {
			wait = fmt.Sprintf("%.1f ms", ms)
			if now := h.Waits[h.PoP]; ms < now {
				saves = fmt.Sprintf("%.0f %%", 100*(1-ms/now))
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", pop, share, wait, saves)
	}
	fmt.Fprintln(w, h.Why)
}
