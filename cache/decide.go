package cache

import (
	"net/http"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A decision is what to do with a request, given the object that matches it.
type decision uint8

const (
	miss       decision = iota // nothing to use: ask the origin
	hit                        // answer with the object
	revalidate                 // answer with the object, and ask the origin behind the client's back
	validate                   // ask the origin whether the object is still good
	refuse                     // the client wants an answer from storage or none: 504
)

// freshness is what decide needs to know of a stored object.
type freshness struct {
	age, lifetime, swr   time.Duration
	noStale, noCache     bool
	validator, immutable bool
	purged               bool // softly: stale whatever its age
}

// decide chooses (RFC 9111 section 4). obj is nil if nothing stored matches the request.
func decide(req *http.Request, obj *freshness, pol *wedge.Caching) decision {
	d := noDirectives()
	if lines := req.Header["Cache-Control"]; len(lines) > 0 {
		d = parseDirectives(lines)
	} else if pol.Profile == wedge.CacheStrict && req.Header.Get("Pragma") == "no-cache" {
		d.noCache = true
	}
	if obj == nil {
		if d.onlyIfCached {
			return refuse
		}
		return miss
	}
	switch use := usable(obj, d, pol); {
	case use == hit || use == revalidate:
		return use
	case d.onlyIfCached:
		return refuse
	case obj.validator || obj.noCache:
		return validate
	}
	return miss
}

// usable returns hit or revalidate if the object can be used as it is, else miss.
func usable(obj *freshness, d directives, pol *wedge.Caching) decision {
	fresh := obj.lifetime > obj.age && !obj.noCache && !obj.purged
	if pol.Profile == wedge.CacheStrict { // section 5.2.1
		switch {
		case d.noCache && !(obj.immutable && fresh):
			return miss
		case d.maxAge != absent && obj.age > d.maxAge && !(obj.immutable && fresh):
			return miss
		case d.minFresh != absent && obj.lifetime-obj.age < d.minFresh:
			return miss
		case !fresh && !obj.purged && !obj.noStale && d.maxStale != absent && obj.age-obj.lifetime <= d.maxStale:
			return hit
		}
	}
	switch {
	case fresh:
		return hit
	case !obj.noStale && obj.age < max(obj.lifetime, 0)+obj.swr:
		return revalidate
	}
	return miss
}

// forgiving reports whether a stale object may stand in for an origin that fails. answered is
// whether it answered at all, with an error: then only stale-if-error allows it (RFC 5861 section 4);
// of an origin out of reach the cache makes up for grace (RFC 9111 section 4.2.4).
func forgiving(obj *freshness, sie, grace time.Duration, answered bool) bool {
	window := sie
	if !answered {
		window = max(sie, grace)
	}
	return !obj.noStale && obj.age < obj.lifetime+window
}
