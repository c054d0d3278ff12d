package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Log is the catalog. Append writes an entry of one item if the last has the number last; else the error is of kind
// Conflict.
type Log interface {
	Append(ctx context.Context, last uint64, item []byte) (seq uint64, err error)
}

// Depot has the chunks that versions are made of, for PoPs to fetch.
type Depot interface {
	Has(ctx context.Context, d Digest) (bool, error)
	Get(ctx context.Context, d Digest) (packed []byte, err error) // of kind NotExist if it is not there
	Put(ctx context.Context, d Digest, packed []byte) error       // one that [CheckPacked] has nothing against
}

// Control decides, and writes down what was decided. It learns of that, as everybody does, by following the catalog, so
// several may decide at once: of two decisions on the same state one is made again. It is safe for concurrent use.
type Control struct {
	Log    Log
	Chunks Depot
	Said   *slog.Logger // what makes no sense in the catalog; nil: slog.Default
	Now    func() time.Time

	mu    sync.Mutex
	newer error // why the catalog is not followed any more
	state *State
	news  chan struct{} // closed, and replaced, when the state has changed
}

// New returns a Control that has followed nothing yet.
func New(log Log, chunks Depot) *Control {
	return &Control{Log: log, Chunks: chunks, Said: slog.Default(), Now: time.Now, state: NewState(), news: make(chan struct{})}
}

// Take follows the catalog. An entry that is damaged, or does not follow from what was before, is left out, as everybody leaves
// it out. One that a newer Wedge understands is not: whoever went on behind it would have another state than the others, and not
// know. So it is an error, nothing after it is taken, and what was decided before it holds.
func (c *Control) Take(e wedge.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newer != nil {
		return c.newer
	}
	events := make([]Event, len(e.Items))
	errs := make([]error, len(e.Items))
	for i, item := range e.Items {
		if errs[i] = json.Unmarshal(item, &events[i]); errs[i] == nil {
			if c.newer = events[i].understood(); c.newer != nil {
				close(c.news)
				c.news = make(chan struct{})
				return c.newer
			}
		}
	}
	for i, err := range errs {
		if err == nil {
			err = c.state.Apply(events[i])
		}
		if err != nil {
			c.Said.Error("an entry of the catalog makes no sense and is left out", "seq", e.Seq, "err", err)
		}
	}
	c.state.Seq = e.Seq
	close(c.news)
	c.news = make(chan struct{})
	return nil
}

// Newer returns the error with which Take has ended for good, nil if it has not.
func (c *Control) Newer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newer
}

// See calls f with the state, which it must not keep or change, and returns a channel that is closed when it changes.
func (c *Control) See(f func(*State)) (changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.state)
	return c.news
}

// Bounds of how often a decision is made anew because others decide, too, and of how long one is tried to write down: a core
// of several servers that has lost one takes up to 15 s to go on.
const (
	maxRetries = 20
	retryTime  = 30 * time.Second
	retryPause = 250 * time.Millisecond
)

// Decide has f decide on the state, writes that down in the name of by, and returns it when it is part of the state. A
// request whose key was used before gets what was decided then. f may be called several times.
func (c *Control) Decide(ctx context.Context, by, key string, f func(*State) (Event, error)) (Event, error) {
	if key == "" {
		key = newSecret("") // by which this decision is known if nobody hears that it was written down
	}
	began := time.Now()
	for try := 0; ; {
		ev, err := c.decide(ctx, by, key, f)
		switch kind := wedge.KindOf(err); {
		case err == errConflict && try < maxRetries:
			try++
			time.Sleep(mathrand.N(time.Duration(try) * time.Millisecond)) // or two would be in each other's way again
		case err == errConflict:
			return ev, &wedge.Error{Op: "decide", Kind: wedge.Unavailable, Err: errors.New("too many decide at once"), Hint: "Try again."}
		case err == nil || kind != wedge.Unavailable || time.Since(began) > retryTime || ctx.Err() != nil:
			return ev, err
		default:
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
	}
}

// errConflict is how a decision fails because another came first, which is known by now.
var errConflict = errors.New("another was decided meanwhile")

// decide is one try.
func (c *Control) decide(ctx context.Context, by, key string, f func(*State) (Event, error)) (ev Event, err error) {
	if err := c.Newer(); err != nil {
		return ev, err
	}
	var last uint64
	known := false
	c.See(func(s *State) {
		if ev, known = s.keys[key]; known {
			return
		}
		ev, err = f(s)
		last = s.Seq
	})
	if err != nil || known {
		return ev, err
	}
	ev.By, ev.Key, ev.At = by, key, c.Now().UTC()
	item, err := json.Marshal(ev)
	if err != nil {
		return ev, &wedge.Error{Op: "decide", Kind: wedge.Internal, Err: err}
	}
	seq, err := c.Log.Append(ctx, last, item)
	if wedge.KindOf(err) == wedge.Conflict {
		if err := c.wait(ctx, last+1); err != nil {
			return ev, err
		}
		return ev, errConflict
	}
	if err != nil {
		return ev, err
	}
	return ev, c.wait(ctx, seq)
}

// wait returns when the state has what the entry of that number says.
func (c *Control) wait(ctx context.Context, seq uint64) error {
	for {
		there := false
		changed := c.See(func(s *State) { there = s.Seq >= seq })
		if there {
			return nil
		}
		if err := c.Newer(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &wedge.Error{Op: "decide", Kind: wedge.Timeout, Err: context.Cause(ctx), Hint: "It may have been decided; look before you try again."}
		}
	}
}

// Scopes of tokens. One that ends in ":NAME" is for that service only.
const (
	ScopeRead   = "read"
	ScopeDeploy = "deploy"
	ScopePurge  = "purge"
	ScopeState  = "state" // what services keep, of their users too
	ScopeAdmin  = "admin" // all of it, and tokens

	ScopeOperator = "operator" // what is the fleet's: no token names it, those with admin have it that are no tenant's
)

// NewToken makes a token with scopes; its secret is returned, and not kept. Whether there can be one is decided by [State.NewToken].
func NewToken(name string, scopes []string) (secret string, ev Event, err error) {
	bad := func(why, hint string) (string, Event, error) {
		return "", Event{}, &wedge.Error{Op: "make token", What: name, Kind: wedge.Invalid, Err: errors.New(why), Hint: hint}
	}
	if !serviceName.MatchString(name) {
		return bad("not a name for a token", "Use up to 63 lower-case letters, digits and dashes.")
	}
	if len(scopes) == 0 {
		return bad("it has no scopes", "There are read, deploy, purge, state and admin; deploy:NAME is for one service.")
	}
	for _, s := range scopes {
		kind, _, _ := strings.Cut(s, ":")
		if !slices.Contains([]string{ScopeRead, ScopeDeploy, ScopePurge, ScopeState, ScopeAdmin}, kind) {
			return bad("no such scope: "+s, "There are read, deploy, purge, state and admin; deploy:NAME is for one service.")
		}
	}
	secret = newSecret("wdg_")
	return secret, Event{Kind: EventToken, Token: name, Hash: hashOf(secret), Scopes: scopes}, nil
}

// NewToken decides on a token that was made, for a tenant, "" for the operators. by is whose request it is, "" an operator's: to a tenant
// there are no others.
func (s *State) NewToken(ev Event, tenant, by string) (Event, error) {
	if by != "" && tenant == "" {
		tenant = by
	}
	if by != "" && tenant != by {
		_, err := (&State{}).Tenant(tenant) // as if it were not there
		return ev, err
	}
	if have := s.Tokens[ev.Token]; have != nil {
		hint := "Choose another name."
		if by == "" || have.Tenant == by {
			hint = "Revoke it first, or choose another name."
		}
		return ev, &wedge.Error{Op: "make token", What: ev.Token, Kind: wedge.Exist, Err: errors.New("there is one with this name"), Hint: hint}
	}
	if tenant == "" {
		return ev, nil
	}
	t, err := s.Tenant(tenant)
	if err != nil {
		return ev, err
	}
	if t.Quota.Tokens > 0 && s.tokensOf(tenant) >= t.Quota.Tokens {
		return ev, t.exhausted("make token", ev.Token, "tokens", t.Quota.Tokens, "Revoke one, ")
	}
	ev.Tenant, ev.Needs = tenant, needsTenants
	return ev, nil
}

// Revoke decides that a token is of no use any more. by is as for NewToken.
func (s *State) Revoke(name, by string) (Event, error) {
	t := s.Tokens[name]
	if t == nil || by != "" && t.Tenant != by {
		return Event{}, &wedge.Error{Op: "revoke token", What: fmt.Sprintf("%.70s", name), Kind: wedge.NotExist, Err: errors.New("there is no such token"), Hint: "See them with: wedge tokens"}
	}
	return Event{Kind: EventRevoke, Token: name, Tenant: t.Tenant}, nil
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// NewJoinSecret makes a secret with which a PoP may join.
func NewJoinSecret() string { return newSecret("wdgjoin_") }

// NewMember decides that a PoP may join, once, with a secret, which is not kept, and which jurisdictions it may carry.
func (s *State) NewMember(name, secret string, jurisdictions []string) (ev Event, err error) {
	p := wedge.PoP{Name: name, Jurisdictions: jurisdictions}
	if err := p.Check(); err != nil {
		return ev, err
	}
	if s.Members[name] != nil {
		return ev, &wedge.Error{Op: "add PoP", What: name, Kind: wedge.Exist, Err: errors.New("there is one with this name"), Hint: "Remove it first with: wedge pops remove " + name}
	}
	return Event{Kind: EventPoP, PoP: name, Hash: hashOf(secret), Jurisdictions: jurisdictions}, nil
}

// Join decides that a PoP that has its secret is a member, with this public key. One that is already, with the
// same key, may ask again: it needs the answer.
func (s *State) Join(name, secret, public string) (ev Event, joined bool, err error) {
	m := s.Members[name]
	if m != nil && m.Public != "" && m.Public == public {
		return ev, true, nil
	}
	if m == nil || m.Public != "" || subtle.ConstantTimeCompare([]byte(hashOf(secret)), []byte(m.hash)) != 1 {
		return ev, false, &wedge.Error{Op: "join", What: name, Kind: wedge.Denied, Err: errors.New("no valid secret for this PoP"), Hint: "A secret is good for one join; make another with: wedge pops add NAME"}
	}
	return Event{Kind: EventJoin, PoP: name, Public: public}, false, nil
}

// Expel decides that a PoP is no member any more.
func (s *State) Expel(name string) (Event, error) {
	if s.Members[name] == nil {
		return Event{}, &wedge.Error{Op: "remove PoP", What: name, Kind: wedge.NotExist, Err: errors.New("there is no such PoP"), Hint: "See them with: wedge pops"}
	}
	return Event{Kind: EventExpel, PoP: name}, nil
}

func newSecret(prefix string) string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails, by contract
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// Holder returns the token of a secret, if it may do what scope says with a service; "": with any, or with what is none's.
func (s *State) Holder(secret, scope, service string) (*Token, error) {
	hash := []byte(hashOf(secret))
	for _, t := range s.Tokens {
		if subtle.ConstantTimeCompare(hash, []byte(t.Hash)) != 1 {
			continue
		}
		if !t.may(scope, service) || scope == ScopeOperator && t.Tenant != "" {
			return nil, &wedge.Error{Op: "authorize", What: t.Name, Kind: wedge.Denied, Err: errors.New("the token has not the scope " + scope), Hint: "Ask an operator for one that has."}
		}
		return t, nil
	}
	return nil, &wedge.Error{Op: "authorize", Kind: wedge.Denied, Err: errors.New("no valid token"), Hint: "Give one in WEDGE_TOKEN, or with: wedge login"}
}

// Sees reports whether a token is good for what is this tenant's.
func (t *Token) Sees(tenant string) bool { return t.Tenant == "" || t.Tenant == tenant }

// may reports whether the token has a scope. Who may change a service may also look at it.
func (t *Token) may(scope, service string) bool {
	return slices.ContainsFunc(t.Scopes, func(have string) bool {
		kind, only, one := strings.Cut(have, ":")
		return (kind == scope || kind == ScopeAdmin || scope == ScopeRead) && (!one || only == service || service == "" && scope == ScopeDeploy)
	})
}
