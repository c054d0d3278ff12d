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
