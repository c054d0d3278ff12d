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
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
)

const (
	stateUsage     = "[FLAGS] list SERVICE STORE | get SERVICE STORE KEY | put SERVICE STORE KEY VALUE | delete SERVICE STORE KEY | change SERVICE STORE KEY KIND OPERATION"
	whereUsage     = "[--json] SERVICE STORE KEY"
	apologiesUsage = "[--json] SERVICE"
)

// statePath returns where a key, or a store, is at the state API.
func statePath(store string, key ...string) string {
	u := url.URL{Path: "/" + store}
	if len(key) > 0 {
		u.Path += "/" + key[0]
	}
	return u.String()
}

func runState(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("state")
	r.flags(fs)
	pop := fs.String("pop", "", "`NAME` of the PoP to ask; without it any that is there")
	prefix := fs.String("prefix", "", "list keys that begin with `TEXT`")
	atLeast := fs.String("at-least", "", "`TOKEN` of a write that a read has to have seen")
	rest, err := parse(fs, args, 6)
	if err != nil {
		return err
	}
	wrong := &wedge.Error{Op: "state", Kind: wedge.Invalid, Err: errors.New("what to do, with what, is not said"), Hint: "Usage: wedge state " + stateUsage}
	if len(rest) < 3 {
		return wrong
	}
	want := api.StateRequest{PoP: *pop, Header: map[string]string{}}
	if *atLeast != "" {
		want.Header["Wedge-At-Least"] = *atLeast
	}
	switch verb := rest[0]; {
	case verb == "list" && len(rest) == 3:
		want.Method, want.Path = http.MethodGet, statePath(rest[2])+"?prefix="+url.QueryEscape(*prefix)
	case verb == "get" && len(rest) == 4:
		want.Method, want.Path = http.MethodGet, statePath(rest[2], rest[3])
	case verb == "delete" && len(rest) == 4:
		want.Method, want.Path = http.MethodDelete, statePath(rest[2], rest[3])
	case verb == "put" && len(rest) == 5:
		want.Method, want.Path, want.Body = http.MethodPut, statePath(rest[2], rest[3]), []byte(rest[4])
	case verb == "change" && len(rest) == 6:
		want.Method, want.Path, want.Body = http.MethodPost, statePath(rest[2], rest[3])+"?kind="+url.QueryEscape(rest[4]), []byte(rest[5])
	default:
		return wrong
	}
	list, err := r.State(ctx, rest[1], want)
	if err != nil {
		return err
	}
	a := &list[0]
	if err := a.Fault(); err != nil {
		return err
	}
	if r.asJSON {
		return printJSON(std.out, map[string]any{"pop": a.PoP, "header": a.Header, "body": string(a.Body)})
	}
	if rest[0] == "list" {
		var keys struct {
			Keys []string `json:"keys"`
			More bool     `json:"more"`
		}
		if err := json.Unmarshal(a.Body, &keys); err != nil {
			return err
		}
		for _, k := range keys.Keys {
			fmt.Fprintln(std.out, k)
		}
		if keys.More {
			fmt.Fprintln(std.err, "and more: narrow them down with --prefix")
		}
		return nil
	}
	if len(a.Body) > 0 {
		fmt.Fprintf(std.out, "%s\n", strings.TrimSuffix(string(a.Body), "\n"))
	}
	for _, name := range []string{"Wedge-State", "Wedge-State-Token"} {
		if v := a.Header[name]; v != "" {
			fmt.Fprintf(std.err, "%s: %s\n", name, v)
		}
	}
	return nil
}

// copyAt is what one PoP has of a key.
type copyAt struct {
	PoP           string   `json:"pop"`
	City          string   `json:"city,omitempty"`
	Jurisdictions []string `json:"jurisdictions,omitempty"`
	Has           bool     `json:"has"`
	Generation    string   `json:"generation,omitempty"`
	State         string   `json:"state,omitempty"`
	Error         string   `json:"error,omitempty"`
}

func runWhere(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("where")
	r.flags(fs)
	rest, err := parse(fs, args, 3)
	if err == nil && len(rest) != 3 {
		err = &wedge.Error{Op: "where", Kind: wedge.Invalid, Err: errors.New("which key of which store of which service?"), Hint: "Usage: wedge where " + whereUsage}
	}
	if err != nil {
		return err
	}
	list, err := r.State(ctx, rest[0], api.StateRequest{PoP: api.EveryPoP, Method: http.MethodHead, Path: statePath(rest[1], rest[2]), Core: true})
	if err != nil {
		return err
	}
	pops, err := r.PoPs(ctx)
	if err != nil {
		return err
	}
	known := map[string]wedge.PoP{}
	for _, p := range pops {
		known[p.Name] = p
	}
	var copies []copyAt
	bound := false
	for _, a := range list {
		bound = bound || a.Header["Wedge-State"] != "" || a.Status == 0 && a.Kind == "" // who binds the store says how old what it has may be
		p := known[a.PoP]
		copies = append(copies, copyAt{a.PoP, p.City, p.Jurisdictions, a.Status == http.StatusOK, strings.Trim(a.Header["Etag"], `"`), a.Header["Wedge-State"], a.Error})
	}
	if !bound {
		return &wedge.Error{Op: "where", What: "store " + rest[1], Kind: wedge.NotExist, Err: fmt.Errorf("no version of %s that runs binds it", rest[0]), Hint: "See what a tenant's services bind with: wedge tenants report NAME"}
	}
	slices.SortFunc(copies, func(a, b copyAt) int { return cmp.Compare(a.PoP, b.PoP) })
	return r.show(std.out, copies, func(w io.Writer) {
		fmt.Fprintln(w, "POP\tCITY\tJURISDICTIONS\tCOPY\tGENERATION\tSTATE")
		for _, c := range copies {
			has := "no"
			if c.Has {
				has = "yes"
			} else if c.Error != "" {
				has = "?"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.PoP, c.City, strings.Join(c.Jurisdictions, " "), has, c.Generation, cmp.Or(c.State, c.Error))
		}
	})
}

func runApologies(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("apologies")
	r.flags(fs)
	rest, err := parse(fs, args, 1)
	if err == nil && len(rest) != 1 {
		err = &wedge.Error{Op: "apologies", Kind: wedge.Invalid, Err: errors.New("of which service?"), Hint: "See them with: wedge services"}
	}
	if err != nil {
		return err
	}
	list, err := r.State(ctx, rest[0], api.StateRequest{PoP: api.EveryPoP, Method: http.MethodGet, Path: api.ApologiesPath})
	if err != nil {
		return err
	}
	type apology struct {
		Store   string          `json:"store"`
		Key     string          `json:"key"`
		Reason  string          `json:"reason"`
		Who     string          `json:"who,omitempty"`
		Value   json.RawMessage `json:"value,omitempty"`
		Instead json.RawMessage `json:"instead,omitempty"`
		Amount  int64           `json:"amount,omitempty"`
		Since   time.Time       `json:"since"`
	}
	all := map[string][]apology{}
	for _, a := range list {
		if err := a.Fault(); err != nil {
			fmt.Fprintf(std.err, "%s did not say: %v\n", a.PoP, err)
			continue
		}
		var some []apology
		if err := json.Unmarshal(a.Body, &some); err != nil {
			return err
		}
		all[a.PoP] = some
	}
	return r.show(std.out, all, func(w io.Writer) {
		fmt.Fprintln(w, "POP\tSINCE\tSTORE\tKEY\tREASON\tPROMISED\tINSTEAD")
		for _, pop := range slices.Sorted(maps.Keys(all)) {
			for _, a := range all[pop] {
				promised := string(a.Value)
				if a.Amount > 0 {
					promised = fmt.Sprint(a.Amount)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", pop, a.Since.Local().Format(time.DateTime), a.Store, a.Key, a.Reason, short(promised), short(string(a.Instead)))
			}
		}
	})
}

// short is a text that fits into a table.
func short(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:39]) + "…"
	}
	return s
}
