package hostcall

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// A shield's name is that of a shielding site of the version, or of a PoP. At a PoP the service itself answers; its guest finds
// out with shield_info that it runs at the shield, and goes to the origin.

var shielding = calls{
	"shield_info":        shieldInfo,
	"backend_for_shield": backendForShield,
}

// Bits of shield_backend_options.
const (
	shieldReserved     = 1 << 0
	shieldCacheKey     = 1 << 1
	shieldFirstByte    = 1 << 2
	shieldBetweenBytes = 1 << 3
	shieldAll          = 1<<4 - 1
)

const (
	maxShieldName = 1024
	maxShieldKey  = 1024

	// shieldDomain is that of the URLs by which guests know PoPs. It is never looked up.
	shieldDomain = ".pop.wedge.internal"
)

// shield is what a guest's name for one stands for.
type shield struct {
	site wedge.ShieldSite
	pop  string // "": a site of the version
	here bool
}

// shieldOf finds the shield of a name.
func shieldOf(h *compute.Host, name string) (s shield, ok bool) {
	if site, ok := h.Version.Shields[name]; ok {
		return shield{site: site, here: site == wedge.ShieldSite{}}, true
	}
	if name == "" || len(name) > maxShieldName || h.Shield == nil {
		return s, false
	}
	if s.here, ok = h.Shield(name); !ok {
		return s, false
	}
	s.pop, s.site = name, wedge.ShieldSite{Unencrypted: "http://" + name + shieldDomain, Encrypted: "https://" + name + shieldDomain}
	return s, true
}

// shieldInfo gives a byte, 1 at the shield itself, and the two URLs, each with a NUL behind it.
func shieldInfo(c *compute.Call) abi.Status {
	s, ok := shieldOf(c.Sandbox.Host, c.Text(0))
	if !ok {
		return abi.Inval
	}
	here := "\x00"
	if s.here {
		here = "\x01"
	}
	return c.PutBuf(2, 4, here+s.site.Unencrypted+"\x00"+s.site.Encrypted+"\x00")
}

// target finds the shield by its name, or by one of its URLs, as SDKs have it.
func (e *exec) target(text string) (s shield, u string, ok bool) {
	if s, ok = shieldOf(e.host, text); ok {
		return s, s.site.Encrypted, true
	}
	for _, site := range e.host.Version.Shields {
		if text != "" && (text == site.Unencrypted || text == site.Encrypted) {
			return shield{site: site}, text, true
		}
	}
	if parsed, err := url.Parse(text); err == nil {
		if name, cut := strings.CutSuffix(parsed.Host, shieldDomain); cut {
			s, ok = shieldOf(e.host, name)
			return s, text, ok && s.pop != "" && (text == s.site.Unencrypted || text == s.site.Encrypted)
		}
	}
	return s, "", false
}

// backendForShield registers a backend that reaches a shield, and gives its name: the same one for the same options. The cache
// key that a guest may give has no further effect, for a shield's cache keys are the service's own.
func backendForShield(c *compute.Call) abi.Status {
	e := ex(c)
	text, mask := c.Text(0), c.U32(2)
	if mask&shieldReserved != 0 || mask&^shieldAll != 0 || len(text) > maxHostOption {
		return abi.Inval
	}
	s, target, ok := e.target(text)
	if !ok || target == "" {
		return abi.Inval
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return abi.Inval
	}
	o := &options{c: c, at: c.U32(3), mask: mask}
	b := &wedge.Backend{Dynamic: true, URL: u, AllowPrivateAddr: true}
	if s.pop != "" {
		b.AtPoP, b.AtService = s.pop, e.host.Version.Service
	}
	key := ""
	if o.has(shieldCacheKey) {
		key = string(o.bytes(0, 1, maxShieldKey))
	}
	b.FirstByteTimeout, b.BetweenBytesTimeout = o.millis(shieldFirstByte, 8), o.millis(shieldBetweenBytes, 12)
	b.Name = shieldBackendName(target, key, b.FirstByteTimeout, b.BetweenBytesTimeout)
	if status := c.PutBuf(4, 6, b.Name); status != abi.OK {
		return status
	}
	if _, there := e.backend(b.Name); there {
		return abi.OK
	}
	e.register(c, b, messageSize+len(b.Name)+len(target))
	return abi.OK
}

func shieldBackendName(target, key string, first, between time.Duration) string {
	name := "shield " + target
	if key != "" {
		name += fmt.Sprintf(" key %x", key)
	}
	if first != 0 || between != 0 {
		name += fmt.Sprintf(" %v %v", first, between)
	}
	return name
}
