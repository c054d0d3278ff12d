package control

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// Bounds of what the core reads of a version, which anybody may have written.
const (
	maxVersionPart = 64 << 20
	maxHosts       = 1000
)

// hostForm is what front takes for a host: a name, a wildcard, an IPv6 address, or all.
var hostForm = regexp.MustCompile(`^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]{2,62}\])$`)

const maxHost = 255

// Hosts reads which hosts a version answers for off the chunks of an artifact that was checked, which get returns, and nothing else of it. The
// error is of kind Invalid if it is not for the service, or names what is no host.
func (a *Artifact) Hosts(service string, get func(Digest) ([]byte, error)) ([]string, error) {
	bad := func(what, why string) error {
		return &wedge.Error{Op: "read version of", What: service, Kind: wedge.Invalid, Err: fmt.Errorf("%s%s", what, why), Hint: "Name hosts without port, like shop.example or *.shop.example."}
	}
	b, err := a.versionPart(service, get)
	if err != nil {
		return nil, err
	}
	var said struct {
		Service string
		Hosts   []string
	}
	if err := decoding.Unmarshal(b, &said); err != nil {
		return nil, bad("", "it makes no sense: "+err.Error())
	}
	if said.Service != service {
		return nil, bad("", fmt.Sprintf("it was made for %.70q", said.Service))
	}
	if len(said.Hosts) > maxHosts {
		return nil, bad("", fmt.Sprintf("it has %d hosts, and may have %d", len(said.Hosts), maxHosts))
	}
	hosts := []string{}
	for _, h := range said.Hosts {
		host := strings.TrimSuffix(strings.ToLower(h), ".")
		if len(host) > maxHost || !hostForm.MatchString(host) {
			return nil, bad(fmt.Sprintf("%.70q", h), " is not a host name")
		}
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// versionPart reads what a version says, without guest and files.
func (a *Artifact) versionPart(service string, get func(Digest) ([]byte, error)) ([]byte, error) {
	p := a.Parts[slices.IndexFunc(a.Parts, func(p Part) bool { return p.Name == "version" })]
	if p.Size > maxVersionPart {
		return nil, &wedge.Error{Op: "read version of", What: service, Kind: wedge.Invalid, Err: fmt.Errorf("it has %d MiB without guest and files, and may have %d", p.Size>>20, maxVersionPart>>20)}
	}
	return p.read(get)
}

// GetPacked makes of how chunks are got as they are kept how they are got.
func GetPacked(packed func(Digest) ([]byte, error)) func(Digest) ([]byte, error) {
	return func(d Digest) ([]byte, error) {
		b, err := packed(d)
		if err != nil {
			return nil, err
		}
		if b, err = unpacker.DecodeAll(b, nil); err != nil {
			return nil, &wedge.Error{Op: "unpack", What: string(d), Kind: wedge.Internal, Err: errors.New("the chunk is damaged")}
		}
		return b, nil
	}
}

// localName is the host that a service has in a world.
func localName(service string) string { return service + ".localhost" }

// answers returns the hosts that requests may come to a service for, by now or when its rollout goes on.
func (s *Service) answers() (hosts []string) {
	numbers := []int{s.Live}
	if r := s.Rolling(); r != nil {
		numbers = append(numbers, r.Version)
	}
	for _, n := range numbers {
		if v := s.Version(n); v != nil {
			hosts = append(hosts, v.Hosts...)
		}
	}
	return append(hosts, localName(s.Name))
}

// hostsFree finds out whether a version could answer for its hosts: no other service does. What is below a wildcard of another tenant is that
// tenant's, too; within a tenant the longer name wins, as at PoPs.
func (s *State) hostsFree(op string, svc *Service, hosts []string) error {
	own := map[string]bool{}
	for _, h := range append(slices.Clone(hosts), localName(svc.Name)) {
		own[h] = true
	}
	for _, other := range s.Services {
		if other == svc || other.Name == svc.Name {
			continue
		}
		for _, h := range other.answers() {
			if suffix, wild := strings.CutPrefix(h, "*"); wild && suffix != "" && other.Tenant != svc.Tenant && !own[h] {
				if i := slices.IndexFunc(hosts, func(host string) bool { return strings.HasSuffix(host, suffix) }); i >= 0 {
					return hostTaken(op, svc.Name, hosts[i])
				}
			}
			if own[h] {
				return hostTaken(op, svc.Name, h)
			}
		}
	}
	return nil
}

func hostTaken(op, service, host string) error {
	return &wedge.Error{Op: op, What: service, Kind: wedge.Conflict, Err: fmt.Errorf("another service answers for the host %s", host), Hint: "Leave it out of hosts in wedge.toml, or have the other give it up first."}
}
