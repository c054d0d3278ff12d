package control

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Plan says how a release goes: at which PoPs, for which requests, and how fast. The zero value takes it to all PoPs, one
// after the other without a pause.
type Plan struct {
	HoldMS  int64     `json:"hold_ms,omitempty"` // how long each stage is watched
	Where   []string  `json:"where,omitempty"`   // which PoPs run it until it is promoted, see [Where]; none: all
	Shadow  float64   `json:"shadow,omitempty"`  // first stage: in percent of requests, copies of which it answers to nobody
	Shares  []float64 `json:"shares,omitempty"`  // in percent of clients, rising; each is a stage at all PoPs
	Match   string    `json:"match,omitempty"`   // requests that get it at once, see [Match]; without Shares nobody else does until it is promoted
	Ungated []string  `json:"ungated,omitempty"` // gates that do not count
}

// Gates are what a version is stopped by if it does worse than the one before.
var Gates = []string{"failures", "traps", "latency", "cpu", "shadow"}

const (
	maxHold   = 24 * time.Hour
	maxShares = 20
	maxWhere  = 20
)

// check finds what is wrong with a plan; the error is of kind Invalid.
func (p *Plan) check(service string) error {
	bad := func(why, hint string) error {
		return &wedge.Error{Op: "release", What: service, Kind: wedge.Invalid, Err: errors.New(why), Hint: hint}
	}
	if hold := time.Duration(p.HoldMS) * time.Millisecond; p.HoldMS < 0 || p.HoldMS > maxHold.Milliseconds() {
		return bad(fmt.Sprintf("a stage cannot be watched for %v", hold), "Choose a time up to a day.")
	}
	if len(p.Shares) > maxShares || len(p.Where) > maxWhere {
		return bad("the plan is too long", "")
	}
	if !(p.Shadow >= 0 && p.Shadow <= 100) {
		return bad(fmt.Sprintf("%v %% of requests cannot be copied", p.Shadow), "Give a percentage up to 100.")
	}
	last := 0.0
	for _, s := range p.Shares {
		if !(s > last) || s >= 100 {
			return bad(fmt.Sprintf("%v %% is no share to go on to from %v %%", s, last), "Give shares that rise, such as 1,10,50; all of it comes by itself after the last.")
		}
		last = s
	}
	if _, err := ParseWhere(p.Where); err != nil {
		return bad(err.Error(), "Write pop=fra1, tier=far, jurisdiction=eu, provider=NAME, or near=fra1:1000 (kilometres).")
	}
	if _, err := ParseMatch(p.Match); err != nil {
		return bad(err.Error(), "Write header:NAME, header:NAME=VALUE, cookie:NAME or cookie:NAME=VALUE.")
	}
	for _, g := range p.Ungated {
		if !slices.Contains(Gates, g) {
			return bad("no such gate: "+g, "There are "+strings.Join(Gates, ", ")+".")
		}
	}
	return nil
}

// splits reports whether PoPs are to run the version beside the one before.
func (p *Plan) splits() bool { return len(p.Shares) > 0 || p.Match != "" || p.Shadow > 0 }

// Where chooses PoPs: those that fit one of the conditions of each kind that there are conditions of.
type Where map[string][]string

// ParseWhere reads conditions such as "tier=far".
func ParseWhere(list []string) (Where, error) {
	w := Where{}
	for _, text := range list {
		kind, value, ok := strings.Cut(text, "=")
		switch {
		case !ok || value == "":
			return nil, fmt.Errorf("%q chooses no PoPs", text)
		case kind == "near":
			if _, _, err := near(value); err != nil {
				return nil, err
			}
		case !slices.Contains([]string{"pop", "tier", "jurisdiction", "provider"}, kind):
			return nil, fmt.Errorf("PoPs are not chosen by %q", kind)
		}
		w[kind] = append(w[kind], value)
	}
	return w, nil
}

func near(value string) (pop string, km float64, err error) {
	pop, far, _ := strings.Cut(value, ":")
	if km, err = strconv.ParseFloat(far, 64); err != nil || !(km > 0) {
		return "", 0, fmt.Errorf("%q is no PoP with a distance", value)
	}
	return pop, km, nil
}

// Fits reports whether p, one of all, is chosen.
func (w Where) Fits(p *wedge.PoP, all []wedge.PoP) bool {
	for kind, values := range w {
		if !slices.ContainsFunc(values, func(v string) bool {
			switch kind {
			case "pop":
				return p.Name == v
			case "tier":
				return string(p.Tier) == v
			case "provider":
				return p.Provider == v
			case "jurisdiction":
				return slices.Contains(p.Jurisdictions, v)
			}
			name, km, err := near(v)
			i := slices.IndexFunc(all, func(q wedge.PoP) bool { return q.Name == name })
			return err == nil && i >= 0 && p.Distance(&all[i]) <= km
		}) {
			return false
		}
	}
	return true
}

// Match chooses requests. The zero value chooses none.
type Match struct {
	Header, Cookie string // the name of one of them
	Value          string // "": any
}

// ParseMatch reads "header:NAME=VALUE" or "cookie:NAME=VALUE", each with or without the value.
func ParseMatch(text string) (m Match, err error) {
	if text == "" {
		return m, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	name, value, _ := strings.Cut(rest, "=")
	m.Value = value
	switch {
	case name == "" || strings.ContainsAny(name, " \t;,:\r\n") || len(text) > 200:
		return Match{}, fmt.Errorf("%q chooses no requests", text)
	case kind == "header":
		m.Header = name
	case kind == "cookie":
		m.Cookie = name
	default:
		return Match{}, fmt.Errorf("requests are not chosen by %q", kind)
	}
	return m, nil
}
