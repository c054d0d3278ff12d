package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// An Event is one thing that was decided: an item of the catalog, which is a log. Fields that its kind does not
// need are empty.
type Event struct {
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`
	By   string    `json:"by"`            // whose token it was
	Key  string    `json:"key,omitempty"` // of the request: one that is repeated decides nothing anew

	Service  string    `json:"service,omitempty"`
	Version  int       `json:"version,omitempty"`
	Artifact *Artifact `json:"artifact,omitempty"`
	Comment  string    `json:"comment,omitempty"`

	Release int      `json:"release,omitempty"`
	HoldMS  int64    `json:"hold_ms,omitempty"` // release: how long each stage is watched
	PoPs    []string `json:"pops,omitempty"`    // stage: those that join
	Why     string   `json:"why,omitempty"`     // stage, abort: in a sentence

	PoP    string `json:"pop,omitempty"`    // pop, join, expel
	Public string `json:"public,omitempty"` // join: its public key

	Token  string   `json:"token,omitempty"` // its name
	Hash   string   `json:"hash,omitempty"`  // of its secret
	Scopes []string `json:"scopes,omitempty"`
}

// Kinds of events.
const (
	EventVersion = "version" // a version was made
	EventRelease = "release" // it is to be live; a rollout begins
	EventStage   = "stage"   // more PoPs run it
	EventDone    = "done"    // all run it
	EventAbort   = "abort"   // the rollout has ended: all run what they ran before
	EventSwitch  = "switch"  // all run a version at once, as in a rollback
	EventToken   = "token"   // a token was made
	EventRevoke  = "revoke"  // a token is of no use any more
	EventPoP     = "pop"     // a PoP may join, once, with a secret
	EventJoin    = "join"    // it has
	EventExpel   = "expel"   // it is no member any more
)

// Version is one version of a service, as the catalog knows it.
type Version struct {
	Number   int       `json:"number"`
	Digest   Digest    `json:"digest"`
	Bytes    int64     `json:"bytes"`
	Comment  string    `json:"comment,omitempty"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	Artifact *Artifact `json:"-"`
}

// Release is the decision that a version should be live, and what has become of it.
type Release struct {
	ID       int       `json:"id"` // in its service
	Version  int       `json:"version"`
	Previous int       `json:"previous"` // 0: none
	State    string    `json:"state"`    // running, done, aborted
	Stages   int       `json:"stages"`   // begun
	HoldMS   int64     `json:"hold_ms"`  // how long each is watched
	PoPs     []string  `json:"pops,omitempty"`
	Why      string    `json:"why,omitempty"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	StageAt  time.Time `json:"stage_at,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`

	reached map[string]bool
}

// States of a release.
const (
	Running = "running"
	Done    = "done"
	Aborted = "aborted"
)

// Service is a service as the catalog knows it.
type Service struct {
	Name     string     `json:"name"`
	Live     int        `json:"live"` // the version that all run, but for PoPs that a rollout has reached; 0: none
	Versions []*Version `json:"-"`
	Releases []*Release `json:"-"`
}

// Version returns the one with that number, or nil.
func (s *Service) Version(n int) *Version {
	if n < 1 || n > len(s.Versions) {
		return nil
	}
	return s.Versions[n-1]
}

// Rolling returns the release whose rollout is under way, or nil.
func (s *Service) Rolling() *Release {
	if n := len(s.Releases); n > 0 && s.Releases[n-1].State == Running {
		return s.Releases[n-1]
	}
	return nil
}

// At returns the version that a PoP is to run, nil for none.
func (s *Service) At(pop string) *Version {
	if r := s.Rolling(); r != nil && r.reached[pop] {
		return s.Version(r.Version)
	}
	return s.Version(s.Live)
}

// Token lets its holder use the control API.
type Token struct {
	Name   string    `json:"name"`
	Hash   string    `json:"-"`
	Scopes []string  `json:"scopes"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// Member is a PoP that may join, or has.
type Member struct {
	Name   string    `json:"name"`
	Public string    `json:"public,omitempty"` // "": it has not joined yet
	By     string    `json:"by"`
	At     time.Time `json:"at"`

	hash string // of the secret with which it may join
}

// State is what all events so far come to. It is not safe for concurrent use.
type State struct {
	Seq      uint64 // of the last entry
	Services map[string]*Service
	Tokens   map[string]*Token  // by name
	Members  map[string]*Member // PoPs, by name
	Expelled []string           // public keys of PoPs that are members no more
	Out      map[string]bool    // the names of those that have not joined again
	Audit    []Event            // the latest
	keys     map[string]Event   // the latest requests' keys
	order    []string           // of keys
}

// NewState returns the state before all events.
func NewState() *State {
	return &State{Services: map[string]*Service{}, Tokens: map[string]*Token{}, Members: map[string]*Member{}, Out: map[string]bool{}, keys: map[string]Event{}}
}

// What is remembered besides services.
const (
	maxAudit = 10_000
	maxKeys  = 10_000
)

// Apply folds an event in. One that does not follow from what was before is an error, and changes nothing.
func (s *State) Apply(e Event) error {
	if err := s.apply(e); err != nil {
		return fmt.Errorf("%s of %s: %w", e.Kind, cmp.Or(e.Service, e.Token, e.PoP), err)
	}
	e.Artifact = nil
	if s.Audit = append(s.Audit, e); len(s.Audit) > 2*maxAudit {
		s.Audit = slices.Clone(s.Audit[maxAudit:])
	}
	if e.Key != "" {
		s.keys[e.Key] = e
		if s.order = append(s.order, e.Key); len(s.order) > maxKeys {
			delete(s.keys, s.order[0])
			s.order = s.order[1:]
		}
	}
	return nil
}

var errOutOfOrder = errors.New("it does not follow from what was before")

func (s *State) apply(e Event) error {
	svc := s.Services[e.Service]
	switch e.Kind {
	case EventVersion:
		return s.applyVersion(svc, e)
	case EventToken:
		s.Tokens[e.Token] = &Token{Name: e.Token, Hash: e.Hash, Scopes: e.Scopes, By: e.By, At: e.At}
		return nil
	case EventRevoke:
		delete(s.Tokens, e.Token)
		return nil
	case EventPoP, EventJoin, EventExpel:
		return s.applyMember(e)
	}
	if svc == nil {
		return errOutOfOrder
	}
	r := svc.Rolling()
	switch e.Kind {
	case EventRelease, EventSwitch:
		if r != nil && e.Kind == EventRelease || svc.Version(e.Version) == nil {
			return errOutOfOrder
		}
		if r != nil {
			r.State, r.Why, r.Ended = Aborted, e.Why, e.At
		}
		next := &Release{ID: len(svc.Releases) + 1, Version: e.Version, Previous: svc.Live, State: Running, By: e.By, At: e.At, Why: e.Why, HoldMS: e.HoldMS, reached: map[string]bool{}}
		svc.Releases = append(svc.Releases, next)
		if e.Kind == EventSwitch {
			next.State, next.Ended, svc.Live = Done, e.At, e.Version
		}
		return nil
	}
	if r == nil || r.ID != e.Release {
		return errOutOfOrder
	}
	switch e.Kind {
	case EventStage:
		r.Stages++
		r.StageAt, r.Why = e.At, e.Why
		for _, p := range e.PoPs {
			if !r.reached[p] {
				r.reached[p] = true
				r.PoPs = append(r.PoPs, p)
			}
		}
	case EventDone:
		r.State, r.Ended, r.Why, svc.Live = Done, e.At, e.Why, r.Version
	case EventAbort:
		r.State, r.Ended, r.Why = Aborted, e.At, e.Why
	default:
		return errors.New("no such kind of event")
	}
	return nil
}

func (s *State) applyMember(e Event) error {
	m := s.Members[e.PoP]
	switch {
	case e.Kind == EventPoP && m == nil:
		s.Members[e.PoP] = &Member{Name: e.PoP, By: e.By, At: e.At, hash: e.Hash}
	case e.Kind == EventJoin && m != nil && m.Public == "":
		m.Public, m.hash = e.Public, ""
		delete(s.Out, e.PoP)
	case e.Kind == EventExpel && m != nil:
		if m.Public != "" {
			s.Expelled = append(s.Expelled, m.Public)
			s.Out[e.PoP] = true
		}
		delete(s.Members, e.PoP)
	default:
		return errOutOfOrder
	}
	return nil
}

func (s *State) applyVersion(svc *Service, e Event) error {
	if svc == nil {
		svc = &Service{Name: e.Service}
	}
	if e.Version != len(svc.Versions)+1 || e.Artifact == nil || e.Artifact.Check() != nil {
		return errOutOfOrder
	}
	svc.Versions = append(svc.Versions, &Version{Number: e.Version, Digest: e.Artifact.Digest(), Bytes: e.Artifact.Size(),
		Comment: e.Comment, By: e.By, At: e.At, Artifact: e.Artifact})
	s.Services[e.Service] = svc
	return nil
}

// Names returns the services' names in order.
func (s *State) Names() []string { return slices.Sorted(maps.Keys(s.Services)) }

var serviceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ErrSame is how a version is not made that would be the same as the newest.
var ErrSame = errors.New("it is the same as the newest version")

// NewVersion decides on a new version of a service. If the newest one is the same, that is the event's, with ErrSame: whoever deploys
// again because the first time failed halfway goes on from there.
func (s *State) NewVersion(service, comment string, a *Artifact) (Event, error) {
	if !serviceName.MatchString(service) {
		return Event{}, &wedge.Error{Op: "make version", What: service, Kind: wedge.Invalid, Err: errors.New("not a name for a service"), Hint: "Use up to 63 lower-case letters, digits and dashes."}
	}
	if err := a.Check(); err != nil {
		return Event{}, err
	}
	n := 1
	if svc := s.Services[service]; svc != nil {
		n = len(svc.Versions) + 1
		if newest := svc.Version(n - 1); newest != nil && newest.Digest == a.Digest() {
			return Event{Kind: EventVersion, Service: service, Version: newest.Number}, ErrSame
		}
	}
	return Event{Kind: EventVersion, Service: service, Version: n, Artifact: a, Comment: comment}, nil
}

func (s *State) find(op, service string, version int) (*Service, error) {
	svc := s.Services[service]
	if svc == nil {
		return nil, &wedge.Error{Op: op, What: service, Kind: wedge.NotExist, Err: errors.New("there is no such service"), Hint: "See them with: wedge services"}
	}
	if version != 0 && svc.Version(version) == nil {
		return nil, &wedge.Error{Op: op, What: service, Kind: wedge.NotExist, Err: fmt.Errorf("it has no version %d", version), Hint: "See them with: wedge versions " + service}
	}
	return svc, nil
}

const maxHold = 24 * time.Hour

// NewRelease decides that a version is to be live, by a rollout.
func (s *State) NewRelease(service string, version int, hold time.Duration) (Event, error) {
	svc, err := s.find("release", service, version)
	if err != nil {
		return Event{}, err
	}
	if r := svc.Rolling(); r != nil {
		return Event{}, &wedge.Error{Op: "release", What: service, Kind: wedge.Conflict, Err: fmt.Errorf("version %d is being rolled out", r.Version),
			Hint: "Wait for it, or end it with: wedge rollback " + service}
	}
	if svc.Live == version {
		return Event{}, &wedge.Error{Op: "release", What: service, Kind: wedge.Exist, Err: fmt.Errorf("version %d is live", version)}
	}
	if hold < 0 || hold > maxHold {
		return Event{}, &wedge.Error{Op: "release", What: service, Kind: wedge.Invalid, Err: fmt.Errorf("a stage cannot be watched for %v", hold), Hint: "Choose a time up to a day."}
	}
	return Event{Kind: EventRelease, Service: service, Version: version, HoldMS: hold.Milliseconds()}, nil
}

// NewRollback decides that all run another version at once: one that is given, or else what they ran before the last
// release.
func (s *State) NewRollback(service string, version int) (Event, error) {
	svc, err := s.find("roll back", service, version)
	if err != nil {
		return Event{}, err
	}
	r := svc.Rolling()
	if version == 0 && r != nil {
		return Event{Kind: EventAbort, Service: service, Release: r.ID, Why: "it was rolled back"}, nil
	}
	if version == 0 && len(svc.Releases) > 0 {
		version = svc.Releases[len(svc.Releases)-1].Previous
	}
	if svc.Version(version) == nil {
		return Event{}, &wedge.Error{Op: "roll back", What: service, Kind: wedge.Conflict, Err: errors.New("there is nothing to go back to"), Hint: "Name a version; see them with: wedge versions " + service}
	}
	return Event{Kind: EventSwitch, Service: service, Version: version, Why: fmt.Sprintf("rolled back to version %d", version)}, nil
}
