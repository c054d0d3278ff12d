package control

import (
	"errors"
	"fmt"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Removed is what stays of a service that was removed. What its stores keep is found by its name, so the name stays its tenant's; and a number
// names one version for good, at a PoP that was away meanwhile, too.
type Removed struct {
	Tenant   string
	Versions int       // it had, with those of earlier services of this name
	At       time.Time // by the clock of who decided it
}

// needsRemoval is the Format that knows that services and versions can go by order. Who did not would run them on.
const needsRemoval = 3

// NewRemoval decides that there is to be a service no more: all PoPs stop it at once, and its versions are forgotten. One that is live, or on its
// way, is removed only by force. by is as for NewToken.
func (s *State) NewRemoval(service, by string, force bool) (Event, error) {
	svc, err := s.find("remove service", service, 0)
	if err == nil && by != "" && svc.Tenant != by {
		_, err = (&State{}).find("remove service", service, 0) // as if it were not there
	}
	if err != nil {
		return Event{}, err
	}
	ev := Event{Kind: EventRemove, Service: service, Needs: needsRemoval}
	switch r := svc.Rolling(); {
	case r == nil && svc.Live == 0:
		ev.Why = "no version was live"
	case force:
		ev.Why = "it was taken off all PoPs"
	default:
		why := fmt.Sprintf("version %d is live", svc.Live)
		if r != nil {
			why = fmt.Sprintf("version %d is being rolled out", r.Version)
		}
		return Event{}, &wedge.Error{Op: "remove service", What: service, Kind: wedge.Conflict, Err: errors.New(why), Hint: "Take it off all PoPs and remove it with: wedge services --force remove " + service}
	}
	return ev, nil
}

func (s *State) applyRemoval(svc *Service, e Event) {
	s.Removed[svc.Name] = Removed{Tenant: svc.Tenant, Versions: svc.newest(), At: e.At}
	s.Gone += len(svc.Versions)
	delete(s.Services, svc.Name)
}

// owner returns whose a name of a service is, "" if it is nobody's.
func (s *State) owner(service string) string {
	if svc := s.Services[service]; svc != nil {
		return svc.Tenant
	}
	return s.Removed[service].Tenant
}

// NewForget decides that a version is forgotten at once, with what only it is made of, as if there were many newer ones. One that is live, or on
// its way, is not.
func (s *State) NewForget(service string, version int) (Event, error) {
	svc, err := s.find("remove version of", service, 0)
	if err != nil {
		return Event{}, err
	}
	fail := func(kind wedge.Kind, why, hint string) (Event, error) {
		return Event{}, &wedge.Error{Op: "remove version of", What: service, Kind: kind, Err: fmt.Errorf(why, version), Hint: hint + service}
	}
	switch v := svc.Version(version); {
	case v == nil:
		return fail(wedge.NotExist, "it has no version %d", "See them with: wedge versions ")
	case v.Forgotten:
		return fail(wedge.NotExist, "version %d was forgotten", "See those that are there with: wedge versions ")
	case svc.Live == version:
		return fail(wedge.Conflict, "version %d is live", "Deploy another first, or go back to one with: wedge rollback ")
	case svc.onItsWay(version):
		return fail(wedge.Conflict, "version %d is being rolled out", "End that with: wedge rollback ")
	}
	return Event{Kind: EventForget, Service: service, Version: version, Needs: needsRemoval}, nil
}

// onItsWay reports whether PoPs may run a version though it is not live.
func (s *Service) onItsWay(version int) bool {
	r := s.Rolling()
	return r != nil && r.Version == version
}

func (s *State) applyForget(svc *Service, version int) error {
	v := svc.Version(version)
	if v == nil || v.Forgotten || svc.Live == version || svc.onItsWay(version) {
		return errOutOfOrder
	}
	v.Forgotten = true
	s.Gone++
	return nil
}

// Unneeded returns what versions that were forgotten by order are made of and no version that is kept is.
func (s *State) Unneeded() (list []Digest) {
	var forgotten []*Version
	for _, svc := range s.Services {
		for _, v := range svc.Versions {
			if v.Forgotten {
				forgotten = append(forgotten, v)
			}
		}
	}
	if len(forgotten) == 0 {
		return nil
	}
	needed := Needed(s.Kept())
	for d := range Needed(forgotten) {
		if !needed[d] {
			list = append(list, d)
		}
	}
	return list
}
