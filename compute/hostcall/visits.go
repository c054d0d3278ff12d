package hostcall

import (
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// guestLoop is what a fetch of a guest's is known by in CDN-Loop (RFC 8586). It is not the name that the CDN's services write: a
// guest that fetches from itself may mean to, and is told how often it was visited.
const guestLoop = "wedge-guest"

// maxVisits is how many visits a request carries on; the oldest are dropped.
const maxVisits = 64

// A visit is a member of CDN-Loop that a guest's fetch has written.
type visit struct{ service, pop string }

func (v visit) String() string { return guestLoop + "; service=" + v.service + "; pop=" + v.pop }

// parseVisit reads a member, and no other CDN's. Names of services and PoPs are tokens.
func parseVisit(member string) (v visit, ok bool) {
	id, params, _ := strings.Cut(member, ";")
	if strings.TrimSpace(id) != guestLoop {
		return v, false
	}
	for p := range strings.SplitSeq(params, ";") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(p), "="); name {
		case "service":
			v.service = value
		case "pop":
			v.pop = value
		}
	}
	return v, httpguts.ValidHeaderFieldName(v.service) && httpguts.ValidHeaderFieldName(v.pop)
}

// splitLoop takes the lines of CDN-Loop apart into visits and what others wrote. Lines without a visit stay as they are.
func splitLoop(lines []string) (visits []visit, others []string) {
	for _, line := range lines {
		if !strings.Contains(line, guestLoop) {
			others = append(others, line)
			continue
		}
		for member := range strings.SplitSeq(line, ",") {
			if v, ok := parseVisit(member); ok {
				visits = append(visits, v)
			} else if member = strings.TrimSpace(member); member != "" {
				others = append(others, member)
			}
		}
	}
	return visits, others
}

// passOn returns the CDN-Loop of a fetch for which the guest gave lines: what other CDNs wrote, the visits of the request in hand, whether
// or not the guest passes them on, and this one.
func passOn(h *compute.Host, in *incoming, lines []string) []string {
	if !h.Loops {
		return lines
	}
	_, out := splitLoop(lines)
	var visits []visit
	if in != nil {
		visits, _ = splitLoop(in.header["Cdn-Loop"])
	}
	if own := (visit{h.Version.Service, h.PoP}); own.service != "" && own.pop != "" {
		visits = append(visits, own)
	}
	var members []string
	for _, v := range visits[max(0, len(visits)-maxVisits):] {
		members = append(members, v.String())
	}
	if len(members) > 0 {
		out = append(out, strings.Join(members, ", "))
	}
	return out
}

// visitsOf counts the visits of a request before this one.
func visitsOf(in *incoming, counts func(visit) bool) (uint32, abi.Status) {
	visits, _ := splitLoop(in.header["Cdn-Loop"])
	return uint32(len(slices.DeleteFunc(visits, func(v visit) bool { return !counts(v) }))), abi.OK
}

func visitsThisService(c *compute.Call, in *incoming) (uint32, abi.Status) {
	return visitsOf(in, func(v visit) bool { return v.service == ex(c).host.Version.Service })
}

func visitsThisPoP(c *compute.Call, in *incoming) (uint32, abi.Status) {
	return visitsOf(in, func(v visit) bool { return v.pop == ex(c).host.PoP })
}
