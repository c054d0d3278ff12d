package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// EveryPoP is where all PoPs are asked.
const EveryPoP = "*"

// StateRequest asks at PoPs for what a service keeps there, as one of its guests would at state.wedge.internal.
type StateRequest struct {
	PoP    string            `json:"pop,omitempty"` // "": any that is there; "*": all
	Method string            `json:"method"`
	Path   string            `json:"path"` // /STORE/KEY with its query, or what begins with /-/
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body,omitempty"` // in base64
	Core   bool              `json:"core,omitempty"` // ask the core, too, whether it has a copy of the key
}

// CorePoP is who the core is in answers. No PoP is called so.
const CorePoP = "(core)"

// StateAnswer is what one PoP says.
type StateAnswer struct {
	PoP    string            `json:"pop"`
	Status int               `json:"status"` // of HTTP; 0: the PoP did not answer
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body,omitempty"` // in base64
	Error  string            `json:"error,omitempty"`
	Kind   string            `json:"kind,omitempty"` // of the error; "": unavailable
}

// Paths of the state API that only operators reach.
const (
	ApologiesPath = "/-/apologies" // not answered yet
	HomesPath     = "/-/homes"     // that are at the PoP, each as a [Home]; with ?store=&key=, what it knows of those of a store, or of a key's; a POST with &to= has that one move to a PoP
)

// Home is where writes to keys of a store of scope home are ordered, and why there.
type Home struct {
	Service string             `json:"service"`
	Store   string             `json:"store"`
	Split   string             `json:"split,omitempty"`
	Keys    string             `json:"keys,omitempty"` // what they begin with
	PoP     string             `json:"pop"`
	Epoch   uint64             `json:"epoch"` // 1 for the first home
	Since   time.Time          `json:"since"`
	Asked   bool               `json:"asked,omitempty"` // an operator had it move there
	Moving  bool               `json:"moving,omitempty"`
	Writes  map[string]float64 `json:"writes"`           // by the PoP that they came to; older ones count less. Only the home knows this and what follows
	Waits   map[string]float64 `json:"waits"`            // ms, about, that a write would wait on the way if that PoP were the home
	Better  string             `json:"better,omitempty"` // it moves there if that stays so
	Why     string             `json:"why"`
}

// maxStateBody is what the bus takes.
const maxStateBody = 350 << 10

func (s *Server) state(c *call) (any, error) {
	if s.State == nil {
		return nil, &wedge.Error{Op: "ask for state", Kind: wedge.Unsupported, Err: errors.New("this core has no PoPs")}
	}
	var want StateRequest
	if err := c.read(&want); err != nil {
		return nil, err
	}
	switch {
	case !strings.HasPrefix(want.Path, "/") || len(want.Path) > 8<<10 || len(want.Header) > 20:
		return nil, &wedge.Error{Op: "ask for state", What: want.Path, Kind: wedge.Invalid, Err: errors.New("not a path of the state API"), Hint: "Write it as /STORE/KEY."}
	case len(want.Body) > maxStateBody:
		return nil, &wedge.Error{Op: "ask for state", What: want.Path, Kind: wedge.Exhausted, Err: fmt.Errorf("a body has at most %d KiB here", maxStateBody>>10), Hint: "Let a guest write it."}
	}
	return s.State(c.Context(), c.PathValue("name"), want)
}

// State asks at PoPs for what a service keeps there.
func (c *Client) State(ctx context.Context, name string, want StateRequest) (list []StateAnswer, err error) {
	return list, c.post(ctx, service(name, "/state"), "", want, &list)
}

// Fault is the error that an answer brings, nil if it brings none.
func (a *StateAnswer) Fault() error {
	if a.Status >= 200 && a.Status < 300 {
		return nil
	}
	if a.Status == 0 {
		kind := wedge.Unavailable
		if a.Kind != "" {
			kind = wedge.KindNamed(a.Kind)
		}
		return &wedge.Error{Op: "ask", What: "PoP " + a.PoP, Kind: kind, Err: errors.New(a.Error)}
	}
	var f fault
	if json.Unmarshal(a.Body, &f) != nil || f.Error == "" {
		return &wedge.Error{Op: "ask", What: "PoP " + a.PoP, Kind: wedge.Internal, Err: fmt.Errorf("status %d", a.Status)}
	}
	return &wedge.Error{Kind: wedge.KindNamed(f.Kind), Err: errors.New(f.Error), Hint: f.Hint}
}
