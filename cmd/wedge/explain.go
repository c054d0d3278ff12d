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

const (
	explainUsage = "[--json] SERVICE STORE [KEY]"
	moveUsage    = "[--json] SERVICE STORE [KEY] POP"
)

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
		errs = append(errs, homes[i].fault("ask"))
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

// runMove has the home that there is give itself to another PoP.
func runMove(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("move")
	r.flags(fs)
	rest, err := parse(fs, args, 4)
	if err == nil && len(rest) < 3 {
		err = &wedge.Error{Op: "move", Kind: wedge.Invalid, Err: errors.New("the home of what, and to which PoP?"), Hint: "Usage: wedge move " + moveUsage}
	}
	if err != nil {
		return err
	}
	service, store, key, to := rest[0], rest[1], rest[2:len(rest)-1], rest[len(rest)-1]
	homes, err := r.homes(ctx, service, store, key...)
	if err == nil {
		err = homes[0].fault("move")
	}
	if err != nil {
		return err
	}
	list, err := r.State(ctx, service, api.StateRequest{PoP: homes[0].PoP, Method: http.MethodPost, Path: homesPath(store, key...) + "&to=" + url.QueryEscape(to)})
	if err == nil {
		err = list[0].Fault()
	}
	if err != nil {
		return err
	}
	var h foundHome
	if err := json.Unmarshal(list[0].Body, &h.Home); err != nil {
		return &wedge.Error{Op: "ask", What: "PoP " + list[0].PoP, Kind: wedge.Internal, Err: err}
	}
	return r.show(std.out, h, h.print)
}

// fault is an error if the home's PoP does not answer.
func (h *foundHome) fault(op string) error {
	if h.Unreached == "" {
		return nil
	}
	return &wedge.Error{Op: op, What: "the home of " + h.keys(), Kind: wedge.Unavailable, Err: fmt.Errorf("%s: %s", h.PoP, h.Unreached),
		Hint: "What is written to it, and whether it moves, only its PoP knows. Nothing can be written until that is back: see wedge pops"}
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
	found, said, answers := map[string]foundHome{}, map[string]string{}, 0
	var refused error
	for _, a := range list {
		if err := a.Fault(); err != nil {
			if said[a.PoP] = err.Error(); refused == nil || wedge.KindOf(refused) == wedge.Unavailable {
				refused = err
			}
			continue
		}
		said[a.PoP] = "it has not heard of that yet"
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
			h.Unreached = cmp.Or(said[h.PoP], "it is not there")
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
	asked := ""
	if h.Asked {
		asked = ", as an operator wanted it"
	}
	fmt.Fprintf(w, "%s: at home at %s since %s, epoch %d%s\n", h.keys(), h.PoP, h.Since.Local().Format(time.DateTime), h.Epoch, asked)
	if len(h.Waits) == 0 {
		if h.Why != "" {
			fmt.Fprintln(w, h.Why)
		}
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
