package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// What is stored came from somewhere. When a version of a service has other backends than the one
// before it, in this process or an earlier one, what the old ones answered must not answer for the
// new ones: all of the service is purged. So it is when the service before was another of the same name, which was removed.

// forgetOrigins purges what came from other backends than a version has, and reports whether there may be any. While the version
// before serves it may store more of it: so it is to be done again once that does not any longer.
func (n *Node) forgetOrigins(d *deployment) (changed bool, err error) {
	v, now := d.version, origins(d.version)
	if d.earlier > 0 {
		sum := sha256.Sum256(fmt.Append(nil, now, " ", d.earlier))
		now = hex.EncodeToString(sum[:])
	}
	before, known := n.origins[v.Service]
	file := ""
	if dir, _ := n.cfg.caching(); dir != "" {
		file = filepath.Join(dir, "origins-"+v.Service)
		if !known {
			before, known = readOrigins(file)
		}
	}
	n.origins[v.Service] = now
	if known && before == now {
		return false, nil
	}
	if known {
		if err := n.purgeAll(v.Service); err != nil {
			return true, err
		}
		n.console.say("the backends have changed: purged all of " + v.Service)
	}
	if file == "" {
		return known, nil
	}
	if err := os.WriteFile(file, []byte(now), 0o600); err != nil {
		n.cfg.Log.Warn("note the backends", "service", v.Service, "err", err)
	}
	return known, nil
}

// purgeAll purges all of a service here.
func (n *Node) purgeAll(service string) error {
	return n.cache.Purge(wedge.Purge{ID: newPurgeID(), Service: service, All: true, At: n.cfg.Now()})
}

// readOrigins returns what an earlier process noted. What is longer than a digest is none that could match.
func readOrigins(file string) (noted string, known bool) {
	f, err := os.Open(file)
	if err != nil {
		return "", false
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 2*sha256.Size+1))
	return string(b), true
}

// originOf names where a backend's responses come from, at every PoP alike.
func originOf(b *wedge.Backend) string {
	if b.URL == nil {
		return ""
	}
	return b.URL.String() + " " + b.HostOverride
}

// origins names where a version's responses come from.
func origins(v *wedge.Version) string {
	var b strings.Builder
	for i := range v.Backends {
		be := &v.Backends[i]
		fmt.Fprintln(&b, be.Name, be.URL, be.Dir, be.HostOverride)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}
