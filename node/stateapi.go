package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/state/merge"
)

// stateAPI is what a guest reaches at http://state.wedge.internal/: the stores that its version binds. What the guest ABI has calls
// for is here as well, with what these calls have no words for: mergeable values, and how old a read may be.
//
//	GET    /STORE?prefix=&after=&limit=   {"keys":[...],"more":true}
//	GET    /STORE/KEY                     what the key holds; a mergeable value as JSON
//	PUT    /STORE/KEY                     If-Match, If-None-Match: *, Wedge-TTL (seconds), Wedge-Metadata, Wedge-Mode (append, prepend)
//	DELETE /STORE/KEY
//	POST   /STORE/KEY?kind=counter        an operation as JSON, such as {"op":"add","by":3}; answers with the value then
//
// An operation "spend" on a stock asks other PoPs for units if there are too few here; then Wedge-State says asked. Wedge-Left is how many there
// are here after it, or after a read.
//
// A read may say Wedge-Max-Staleness (seconds) and Wedge-At-Least (what a write has answered in Wedge-State-Token). It waits for that up
// to Wedge-Wait (seconds, else 2), and then fails: it never answers with less. Each answer says in Wedge-State where it comes from.
type stateAPI struct {
	service string
	stores  *state.Stores
	claims  *claims                                        // nil: there is no other PoP
	guard   func(r *http.Request, store, key string) error // refuses what may not be done with a store
	pop     string
	now     func() time.Time
	remote  func(*http.Request, string) (*http.Response, error)    // asks a PoP that carries a jurisdiction
	at      func(*http.Request, string) (*http.Response, error)    // asks a PoP that is named
	fresh   func(context.Context, *state.Share, wedge.Scope) error // asks the core whether something is missing here
}

// Fields of the state API.
const (
	fieldState     = "Wedge-State"
	fieldToken     = "Wedge-State-Token"
	fieldMetadata  = "Wedge-Metadata"
	fieldTTL       = "Wedge-TTL"
	fieldMode      = "Wedge-Mode"
	fieldWait      = "Wedge-Wait"
	fieldAtLeast   = "Wedge-At-Least"
	fieldStaleness = "Wedge-Max-Staleness"
)

const (
	stateWait    = 2 * time.Second
	maxStateWait = 30 * time.Second
	maxSeconds   = 100 * 365 * 24 * 3600
)

// ServeHTTP implements http.Handler.
func (a *stateAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := a.serve(w, r); err != nil {
		answerError(w, err)
	}
}

// answerError says what failed, as JSON.
func answerError(w http.ResponseWriter, err error) {
	kind := wedge.KindOf(err)
	body := map[string]string{"kind": kind.String(), "error": err.Error(), "hint": wedge.HintOf(err)}
	if kind == wedge.Internal {
		body["error"] = "internal error"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(kind.Status())
	_ = json.NewEncoder(w).Encode(body)
}

func badState(err error, hint string) error {
	return &wedge.Error{Op: "use state", Kind: wedge.Invalid, Err: err, Hint: hint}
}

func (a *stateAPI) serve(w http.ResponseWriter, r *http.Request) error {
	store, key, keyed := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !a.stores.Has(store) {
		return &wedge.Error{Op: "use state", What: "store " + store, Kind: wedge.NotExist, Err: errors.New("the version binds no such store"),
			Hint: "Add [stores." + store + "] to wedge.toml, and write the path as /STORE/KEY."}
	}
	if err := a.guard(r, store, key); err != nil {
		return err
	}
	if jurisdiction, away := a.stores.Away(store); away {
		return a.forward(w, r, jurisdiction)
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if read && r.Header.Get(fieldStaleness) != "" && a.stores.Scope(store) == wedge.ScopeHome && a.at != nil {
		if done, err := a.readHome(w, r, store, key); done || err != nil { // only there nothing is missing
			return err
		}
	} else if read {
		if err := a.wait(r, store); err != nil {
			return err
		}
	}
	switch {
	case read && (!keyed || key == ""):
		return a.list(w, r, store)
	case read:
		return a.get(w, r, store, key)
	case r.Method == http.MethodPut:
		return a.put(w, r, store, key)
	case r.Method == http.MethodDelete:
		if err := a.stores.Delete(r.Context(), store, key); err != nil {
			return err
		}
		a.wrote(w, store, key)
		w.WriteHeader(http.StatusNoContent)
		return nil
	case r.Method == http.MethodPost:
		return a.change(w, r, store, key)
	}
	w.Header().Set("Allow", "GET, HEAD, PUT, DELETE, POST")
	w.WriteHeader(http.StatusMethodNotAllowed)
	return nil
}

// remoteKey marks requests that come from another PoP: they are answered here or not at all.
type remoteKey struct{}

// forward has a PoP answer that may hold what is asked for.
func (a *stateAPI) forward(w http.ResponseWriter, r *http.Request, jurisdiction string) error {
	if r.Context().Value(remoteKey{}) != nil || a.remote == nil {
		return &wedge.Error{Op: "use state", Kind: wedge.Denied, Err: errors.New("this PoP may not hold what is in jurisdiction " + jurisdiction)}
	}
	resp, err := a.remote(r, jurisdiction)
	if err != nil {
		return err
	}
	passState(w, resp)
	return nil
}

// readHome has the home of a key answer a read that may not be old, as long as it waits; not done: this PoP is it, and has all.
func (a *stateAPI) readHome(w http.ResponseWriter, r *http.Request, store, key string) (done bool, err error) {
	ctx, cancel, err := patient(r)
	if err != nil {
		return false, err
	}
	defer cancel()
	pop, err := a.stores.AtHome(ctx, store, key)
	if err != nil || pop == "" {
		return false, err
	}
	if r.Context().Value(remoteKey{}) != nil {
		return false, &wedge.Error{Op: "use state", Kind: wedge.Unavailable, Err: errors.New("the key's home has moved"), Hint: "Ask again."}
	}
	resp, err := a.at(r.WithContext(ctx), pop)
	if err != nil {
		return false, &wedge.Error{Op: "read state", Kind: wedge.Timeout, Err: fmt.Errorf("its home, %s, does not answer: %w", pop, err), Hint: "Ask again, or take what is here."}
	}
	passState(w, resp)
	return true, nil
}

// passState passes on what another PoP has answered.
func passState(w http.ResponseWriter, resp *http.Response) {
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	if s := resp.Header.Get(fieldState); s != "" {
		w.Header().Set(fieldState, s+"; remote")
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// wrote says that a write is on disk, and what to ask for to see it elsewhere.
func (a *stateAPI) wrote(w http.ResponseWriter, store, key string) {
	if a.stores.Scope(store) == wedge.ScopeHome {
		if token := a.stores.HomeToken(store, key); token != "" {
			w.Header().Set(fieldToken, token)
		}
	} else if share := a.stores.Share(store); share != nil {
		w.Header().Set(fieldToken, share.Token(a.stores.Scope(store)))
	}
}

// seconds reads a field with a number of seconds.
func seconds(r *http.Request, field string) (d time.Duration, there bool, err error) {
	text := r.Header.Get(field)
	if text == "" {
		return 0, false, nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || !(s >= 0 && s <= maxSeconds) {
		return 0, false, badState(fmt.Errorf("%s is not a number of seconds", field), "Write it like 1.5.")
	}
	return time.Duration(s * float64(time.Second)), true, nil
}

// patient bounds how long a read waits, as it says.
func patient(r *http.Request) (context.Context, context.CancelFunc, error) {
	patience, given, err := seconds(r, fieldWait)
	if err != nil {
		return nil, nil, err
	}
	if !given {
		patience = stateWait
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(patience, maxStateWait))
	return ctx, cancel, nil
}

// wait returns once what is here is as new as the request wants it.
func (a *stateAPI) wait(r *http.Request, store string) error {
	staleness, bounded, err := seconds(r, fieldStaleness)
	if err != nil {
		return err
	}
	token := r.Header.Get(fieldAtLeast)
	share := a.stores.Share(store)
	if share == nil || !bounded && token == "" {
		return nil
	}
	ctx, cancel, err := patient(r)
	if err != nil {
		return err
	}
	defer cancel()
	if token != "" {
		if err := share.Await(ctx, token); err != nil {
			return err
		}
	}
	if !bounded {
		return nil
	}
	scope, since := a.stores.Scope(store), time.Now().Add(-staleness) // not by a.now: that may be set
	if !share.FreshSince(scope, since) {
		if err := a.fresh(ctx, share, scope); err != nil && wedge.KindOf(err) != wedge.Unavailable {
			return err
		}
	}
	return share.AwaitFresh(ctx, scope, since)
}

// from says where a read comes from and how old it may be. At its home nothing is newer.
func (a *stateAPI) from(w http.ResponseWriter, store string, kind merge.Kind, writer string, newest bool) {
	text := string(a.stores.Scope(store)) + `; pop="` + a.pop + `"`
	if kind != 0 {
		text += "; kind=" + kind.String()
	}
	if writer != "" {
		text += `; from="` + writer + `"`
	}
	if newest {
		text += "; age=0"
	} else if share := a.stores.Share(store); share != nil {
		if asOf := share.AsOf(a.stores.Scope(store)); !asOf.IsZero() {
			text += fmt.Sprintf("; age=%.3f", time.Since(asOf).Seconds())
		}
	}
	w.Header().Set(fieldState, text)
}

func (a *stateAPI) list(w http.ResponseWriter, r *http.Request, store string) error {
	q := r.URL.Query()
	limit := 0
	if text := q.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > state.MaxList {
			return badState(fmt.Errorf("limit %.20q", text), fmt.Sprintf("Use a number from 1 to %d.", state.MaxList))
		}
	}
	_, newest := a.stores.HomeOf(store, "")
	keys, more, err := a.stores.List(r.Context(), store, wedge.KVList{Prefix: q.Get("prefix"), After: q.Get("after"), Limit: limit})
	if err != nil {
		return err
	}
	if keys == nil {
		keys = []string{}
	}
	a.from(w, store, 0, "", newest)
	return answerJSON(w, http.StatusOK, map[string]any{"keys": keys, "more": more})
}

func answerJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
	return nil
}

func (a *stateAPI) get(w http.ResponseWriter, r *http.Request, store, key string) error {
	home, newest := a.stores.HomeOf(store, key)
	v, err := a.stores.Get(r.Context(), store, key)
	if err != nil {
		a.from(w, store, 0, home, newest) // how old it may be that nothing is there
		return err
	}
	h, kind, writer := w.Header(), merge.Kind(0), home
	if a.stores.Scope(store) == wedge.ScopeMerge {
		m, err := a.stores.Value(r.Context(), store, key)
		switch {
		case wedge.KindOf(err) == wedge.NotExist && err != nil: // a seed
		case err != nil:
			return err
		case m.Kind() != merge.Register:
			kind = m.Kind()
			h.Set("Content-Type", "application/json")
			if kind == merge.Stock {
				h.Set("Wedge-Left", strconv.FormatInt(a.stores.Left(m), 10))
			}
		default:
			writer, _, _ = strings.Cut(m.Writes()[0].ID, ".")
		}
	}
	a.from(w, store, kind, writer, newest)
	if kind == 0 {
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("Etag", `"`+strconv.FormatUint(v.Generation, 10)+`"`)
	if v.Metadata != "" {
		h.Set(fieldMetadata, v.Metadata)
	}
	if !v.Expires.IsZero() {
		h.Set(fieldTTL, fmt.Sprintf("%.3f", max(v.Expires.Sub(a.now()), 0).Seconds()))
	}
	h.Set("Content-Length", strconv.Itoa(len(v.Value)))
	_, _ = w.Write(v.Value)
	return nil
}

func (a *stateAPI) put(w http.ResponseWriter, r *http.Request, store, key string) error {
	put := wedge.KVPut{Key: key}
	ttl, _, err := seconds(r, fieldTTL)
	if err != nil {
		return err
	}
	put.TTL = ttl
	if m := r.Header[http.CanonicalHeaderKey(fieldMetadata)]; len(m) > 0 {
		put.Metadata = &m[0]
	}
	if r.Header.Get("If-None-Match") == "*" {
		put.Mode = wedge.KVAdd
	}
	if mode := r.Header.Get(fieldMode); mode != "" {
		i := slices.Index(modeNames[:], mode)
		if i < 0 {
			return badState(fmt.Errorf("no mode %.20q", mode), "Use overwrite, add, append or prepend.")
		}
		put.Mode = wedge.KVMode(i)
	}
	if tag := r.Header.Get("If-Match"); tag != "" {
		gen, err := strconv.ParseUint(strings.Trim(tag, `"`), 10, 64)
		if err != nil {
			return badState(errors.New("If-Match is no ETag of a key"), "Send what a read answered in ETag.")
		}
		put.IfGeneration = &gen
	}
	if put.Value, err = bodyUpTo(r, wedge.MaxKVValue); err != nil {
		return err
	}
	gen, err := a.stores.Put(r.Context(), store, put)
	if err != nil {
		return err
	}
	w.Header().Set("Etag", `"`+strconv.FormatUint(gen, 10)+`"`)
	a.wrote(w, store, key)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// modeNames are those of wedge.KVMode.
var modeNames = [...]string{wedge.KVOverwrite: "overwrite", wedge.KVAdd: "add", wedge.KVAppend: "append", wedge.KVPrepend: "prepend"}

// bodyUpTo reads a request's body.
func bodyUpTo(r *http.Request, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if err != nil {
		return nil, badState(err, "")
	}
	if int64(len(b)) > most {
		return nil, &wedge.Error{Op: "read request", Kind: wedge.Exhausted, Err: errors.New("the body is too large"), Hint: fmt.Sprintf("Send up to %d bytes.", most)}
	}
	return b, nil
}

func (a *stateAPI) change(w http.ResponseWriter, r *http.Request, store, key string) error {
	var kind merge.Kind
	if err := kind.UnmarshalText([]byte(r.URL.Query().Get("kind"))); err != nil {
		return err
	}
	b, err := bodyUpTo(r, 4*merge.MaxValue)
	if err != nil {
		return err
	}
	op, err := merge.ParseOp(b)
	if err != nil {
		return err
	}
	v, asked, err := a.apply(r.Context(), store, key, kind, op)
	if err != nil {
		return err
	}
	a.from(w, store, kind, "", false)
	if asked {
		w.Header()[fieldState][0] += "; asked"
	}
	if kind == merge.Stock {
		w.Header().Set("Wedge-Left", strconv.FormatInt(a.stores.Left(v), 10))
	}
	a.wrote(w, store, key)
	return answerJSON(w, http.StatusOK, v)
}

// apply carries out an operation; asked: other PoPs were asked for units of a stock.
func (a *stateAPI) apply(ctx context.Context, store, key string, kind merge.Kind, op merge.Op) (v *merge.Value, asked bool, err error) {
	if kind != merge.Stock || a.claims == nil {
		v, err = a.stores.Change(ctx, store, key, kind, op)
		return v, false, err
	}
	k := stockName{a.service, store, key}
	if op.Op == "spend" {
		return a.claims.spend(ctx, a.stores, k, op)
	}
	v, err = a.stores.Change(ctx, store, key, kind, op)
	a.claims.touch(k)
	return v, false, err
}
