package shared

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"time"
)

// value is a key, or a field of the map that a key holds.
type value struct {
	s         *Store
	key, kind string
	path      []string // nil: the key itself
}

// op is an operation as the host takes it.
type op struct {
	Op    string   `json:"op"`
	Path  []string `json:"path,omitempty"`
	Kind  string   `json:"kind,omitempty"`
	By    int64    `json:"by,omitempty"`
	Value any      `json:"value,omitempty"`
	Who   string   `json:"who,omitempty"`
	ID    string   `json:"id,omitempty"`
	Keep  int      `json:"keep,omitempty"`
}

// change carries out an operation, and puts what the value is then into v, if that is not nil.
func (x value) change(ctx context.Context, o op, v any) error {
	kind := x.kind
	if x.path != nil {
		o.Path, o.Kind, kind = x.path, x.kind, "map"
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	answer, err := x.s.do(ctx, http.MethodPost, x.key, "kind="+kind, text, nil)
	if err != nil {
		return err
	}
	return x.decode(answer, v)
}

// get puts what is there into v; where nothing is, v stays as it was.
func (x value) get(ctx context.Context, v any) error {
	answer, err := x.s.do(ctx, http.MethodGet, x.key, "", nil, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return x.decode(answer, v)
}

// decode follows the path through maps.
func (x value) decode(text []byte, v any) error {
	if v == nil {
		return nil
	}
	for _, name := range x.path {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			return err
		}
		if text = fields[name]; text == nil {
			return nil
		}
	}
	return json.Unmarshal(text, v)
}

// Counter counts, at all PoPs at once.
type Counter struct{ value }

// Counter returns the counter at a key.
func (s *Store) Counter(key string) Counter { return Counter{value{s, key, "counter", nil}} }

// Add adds n, which may be negative, and returns what it comes to here.
func (c Counter) Add(ctx context.Context, n int64) (total int64, err error) {
	if n == 0 {
		return c.Value(ctx)
	}
	err = c.change(ctx, op{Op: "add", By: n}, &total)
	return total, err
}

// Value returns what was counted, as far as is known here; 0 if nothing was.
func (c Counter) Value(ctx context.Context) (total int64, err error) {
	err = c.get(ctx, &total)
	return total, err
}

// Set has JSON values, each once. What one PoP adds and another removes at the same time is in it.
type Set struct{ value }

// Set returns the set at a key.
func (s *Store) Set(key string) Set { return Set{value{s, key, "add-wins", nil}} }

// Add adds an element, which becomes JSON.
func (s Set) Add(ctx context.Context, element any) error {
	return s.change(ctx, op{Op: "add", Value: element}, nil)
}

// Remove removes an element.
func (s Set) Remove(ctx context.Context, element any) error {
	return s.change(ctx, op{Op: "remove", Value: element}, nil)
}

// All puts the elements into a slice.
func (s Set) All(ctx context.Context, slice any) error { return s.get(ctx, slice) }

// List has JSON values in an order.
type List struct{ value }

// Item is one of a list's.
type Item struct {
	ID    string          `json:"id"`
	At    time.Time       `json:"at"` // when it was put there, by that PoP's clock
	Value json.RawMessage `json:"value"`
}

// List returns the list at a key.
func (s *Store) List(key string) List { return List{value{s, key, "list", nil}} }

// Append puts a value at the end. If keep is not 0, items at the beginning beyond so many are removed.
func (l List) Append(ctx context.Context, v any, keep int) error {
	return l.change(ctx, op{Op: "append", Value: v, Keep: keep}, nil)
}

// Prepend puts a value at the beginning.
func (l List) Prepend(ctx context.Context, v any, keep int) error {
	return l.change(ctx, op{Op: "prepend", Value: v, Keep: keep}, nil)
}

// Insert puts a value after the item of an ID.
func (l List) Insert(ctx context.Context, after string, v any) error {
	return l.change(ctx, op{Op: "insert", ID: after, Value: v}, nil)
}

// Remove removes the item of an ID.
func (l List) Remove(ctx context.Context, id string) error {
	return l.change(ctx, op{Op: "remove", ID: id}, nil)
}

// Items returns what is in the list.
func (l List) Items(ctx context.Context) (all []Item, err error) {
	err = l.get(ctx, &all)
	return all, err
}

// Register has one JSON value: of two that were written at the same time, the later.
type Register struct{ value }

// Set writes v. who is to whom it was promised: should another write have been later, the apology says so.
func (r Register) Set(ctx context.Context, v any, who string) error {
	return r.change(ctx, op{Op: "set", Value: v, Who: who}, nil)
}

// Get puts the value into v.
func (r Register) Get(ctx context.Context, v any) error { return r.get(ctx, v) }

// Map has values of these kinds under names.
type Map struct{ value }

// Map returns the map at a key.
func (s *Store) Map(key string) Map { return Map{value{s, key, "map", nil}} }

func (m Map) field(name, kind string) value {
	return value{m.s, m.key, kind, append(m.path[:len(m.path):len(m.path)], name)}
}

// Counter returns a field that counts.
func (m Map) Counter(name string) Counter { return Counter{m.field(name, "counter")} }

// Set returns a field that is a set.
func (m Map) Set(name string) Set { return Set{m.field(name, "add-wins")} }

// List returns a field that is a list.
func (m Map) List(name string) List { return List{m.field(name, "list")} }

// Register returns a field with one value.
func (m Map) Register(name string) Register { return Register{m.field(name, "register")} }

// Map returns a field that is a map.
func (m Map) Map(name string) Map { return Map{m.field(name, "map")} }

// All puts the fields into a map or a struct.
func (m Map) All(ctx context.Context, v any) error { return m.get(ctx, v) }

// Drop removes a field.
func (m Map) Drop(ctx context.Context, name string) error {
	return value{m.s, m.key, "map", nil}.change(ctx, op{Op: "drop", Path: m.field(name, "").path}, nil)
}

// Stock counts something scarce. It is never spent twice, whatever is cut off from what.
type Stock struct{ value }

// StockState is what is known here of a stock.
type StockState struct {
	Total  int64 `json:"total"` // that were ever put there
	Spent  int64 `json:"spent"`
	Shares []struct {
		Granter string    `json:"granter"`
		Holder  string    `json:"holder"`
		Left    int64     `json:"left"`
		Until   time.Time `json:"until"`
	} `json:"shares"` // that PoPs may spend by themselves
	Left int64 `json:"-"` // this PoP may spend by itself
}

// Stock returns the stock at a key.
func (s *Store) Stock(key string) Stock { return Stock{value{s, key, "stock", nil}} }

// Add puts n units more there, at this PoP.
func (s Stock) Add(ctx context.Context, n int64) (StockState, error) {
	return s.do(ctx, op{Op: "stock", By: n})
}

// Spend spends n units. If there are too few here other PoPs are asked for some; if they cannot be had, the error matches
// [ErrShort], and its text says where there may be more.
func (s Stock) Spend(ctx context.Context, n int64) (StockState, error) {
	return s.do(ctx, op{Op: "spend", By: n})
}

func (s Stock) do(ctx context.Context, o op) (st StockState, err error) {
	err = s.change(ctx, o, &st)
	st.Left = s.s.Last().Left
	return st, err
}

// State returns what is known here.
func (s Stock) State(ctx context.Context) (st StockState, err error) {
	err = s.get(ctx, &st)
	st.Left = s.s.Last().Left
	return st, err
}

// Apology is what this service promised at this PoP and cannot keep.
type Apology struct {
	Store   string          `json:"store"`
	Key     string          `json:"key"`
	Path    []string        `json:"path"`
	ID      string          `json:"id"`
	Reason  string          `json:"reason"` // "overwritten" or "overspent"
	Writer  string          `json:"writer"`
	Who     string          `json:"who"`
	At      time.Time       `json:"at"`
	Value   json.RawMessage `json:"value"`
	Instead json.RawMessage `json:"instead"`
	Amount  int64           `json:"amount"`
}

// Apologies makes a handler for the path that wedge.toml names under apologies. What f returns no error for was taken; else it is told
// again. It may be told twice all the same.
func Apologies(f func(ctx context.Context, a Apology) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var a Apology
		if r.Method != http.MethodPost {
			http.Error(w, "POST an apology", http.StatusMethodNotAllowed)
			return
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxAnswer)).Decode(&a); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := f(r.Context(), a); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
