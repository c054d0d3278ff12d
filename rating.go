package wedge

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Rate says how many requests with the same key a service lets in within a window, at all PoPs together. Every one that matches a request
// counts it, in their order, until one refuses it.
type Rate struct {
	Name    string   // what clients are told of it; each of a version has its own
	Path    string   // as in [Rule]; a client cannot pass it by writing a path in another way
	Hosts   []string // as in Rule
	Methods []string // as in Rule

	Key     []RateKey     // what tells requests apart; none: all are counted together
	Limit   int64         // 1 to MaxRateLimit
	Window  time.Duration // whole seconds, 1 s to 24 h
	Closed  bool          // when the PoP that counts cannot be asked nothing is let in; without it, a part of the limit
	Headers bool          // clients that are let in are told how much is left, too
}

// RateKey is a part of a request that tells it from others.
type RateKey struct {
	Kind RateKeyKind
	Name string // of the header or cookie
}

// RateKeyKind says what kind of part that is.
type RateKeyKind uint8

// The numbers are in artifacts. Who sends no such header or cookie is counted by address.
const (
	RateClient RateKeyKind = iota // its address; of one of IPv6 the network, /64, for that is what a client has
	RateHost                      // the host that is asked for
	RateHeader
	RateCookie
	rateKeyKinds
)

var rateKeyWords = [rateKeyKinds]string{"client", "host", "header", "cookie"}

// String returns the word used in wedge.toml.
func (k RateKey) String() string {
	switch {
	case k.Kind >= rateKeyKinds:
		return "unknown"
	case k.Kind == RateHeader || k.Kind == RateCookie:
		return rateKeyWords[k.Kind] + ":" + k.Name
	}
	return rateKeyWords[k.Kind]
}

// ParseRateKey reads "client", "host", "header:NAME" or "cookie:NAME".
func ParseRateKey(s string) (k RateKey, ok bool) {
	word, name, named := strings.Cut(s, ":")
	for k.Kind = range rateKeyKinds {
		if rateKeyWords[k.Kind] == word {
			k.Name = name
			return k, named == (k.Kind >= RateHeader) && named == (name != "")
		}
	}
	return RateKey{}, false
}

// Bounds of what a service may count.
const (
	MaxRates      = 20
	MaxRateKeys   = 4
	MaxRateLimit  = 1_000_000_000
	MaxRateWindow = 24 * time.Hour
)

// Check finds what cannot be counted in a Rate from outside; the error is of kind Invalid.
func (r *Rate) Check() error {
	why := ""
	switch {
	case r.Limit < 1 || r.Limit > MaxRateLimit:
		why = fmt.Sprintf("a limit of %d", r.Limit)
	case r.Window < time.Second || r.Window > MaxRateWindow || r.Window%time.Second != 0:
		why = fmt.Sprintf("a window of %v", r.Window)
	case len(r.Key) > MaxRateKeys:
		why = fmt.Sprintf("%d keys", len(r.Key))
	}
	for _, k := range r.Key {
		if k.Kind >= rateKeyKinds {
			why = "a key that this Wedge does not know"
		}
	}
	if why == "" {
		return nil
	}
	return &Error{Op: "check rate", What: r.Name, Kind: Invalid, Err: errors.New(why), Hint: "Deploy it again with the command of the same version as this node."}
}
