package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A shield is the PoP through which others fetch for one backend: their misses meet in its cache, so
// that the origin is asked once. It fetches from the origin itself, and answers with all that is meant for caches
// between the origin and the client, which others do not get to see.
//
// A PoP of the fleet is named, and asked as a peer. One that is known by its URL only is asked at its front; what goes there is
// marked, and signed with a key of the service.

// shielded is an http.RoundTripper that sends fetches to the shield of their backend, if it has one.
type shielded struct {
	next http.RoundTripper
	now  func() time.Time

	// named fetches through a PoP; done is false if it is to be done without. nil: there are no other PoPs.
	named func(req *http.Request, b *wedge.Backend) (resp *http.Response, done bool, err error)
}

const shieldField = "Wedge-Shield"

// shieldKey marks a context whose request came from another PoP, or finds the key to mark one with.
type shieldKey struct{}

// hop is what a request's way through the PoPs needs.
type hop struct {
	marked bool         // it came from another PoP, which this one shields
	key    wedge.Secret // of the service
}

func (s *shielded) RoundTrip(req *http.Request) (*http.Response, error) {
	b := wedge.BackendFrom(req.Context())
	h, _ := req.Context().Value(shieldKey{}).(hop)
	if b != nil && b.ShieldPoP != "" && !h.marked && s.named != nil {
		if resp, done, err := s.named(req, b); done {
			return resp, err
		}
	}
	if b == nil || b.Shield == nil || h.marked || len(h.key) == 0 {
		return s.next.RoundTrip(req)
	}
	out := req.Clone(wedge.WithBackend(req.Context(), shieldOf(b)))
	out.Header.Set(shieldField, sign(h.key, s.now(), out))
	resp, err := s.next.RoundTrip(out)
	if fe := (*wedge.FetchError)(nil); errors.As(err, &fe) && unreached(fe.Failure) && (req.Body == nil || req.Body == http.NoBody) {
		return s.next.RoundTrip(req) // a PoP goes on without its shield
	}
	return resp, err
}

// shieldOf is the shield as a backend: the same patience, its own address.
func shieldOf(b *wedge.Backend) *wedge.Backend {
	return &wedge.Backend{Name: b.Name + " by its shield", URL: b.Shield, AllowPrivateAddr: true, ConnectTimeout: b.ConnectTimeout,
		FirstByteTimeout: 2 * max(b.FirstByteTimeout, wedge.DefaultFirstByteTimeout), BetweenBytesTimeout: b.BetweenBytesTimeout}
}

// unreached reports whether nobody can have seen the request.
func unreached(f wedge.FetchFailure) bool {
	switch f {
	case wedge.FailureRefused, wedge.FailureConnectTimeout, wedge.FailureDNS, wedge.FailureDNSTimeout, wedge.FailureUnroutable, wedge.FailureUnavailable:
		return true
	}
	return false
}

// maxSkew is how far the clocks of two PoPs may be apart, and how long a mark can be used.
const maxSkew = 5 * time.Minute

// sign returns a mark: when, and a proof that who made it knows the key.
func sign(key wedge.Secret, now time.Time, req *http.Request) string {
	at := strconv.FormatInt(now.Unix(), 10)
	return at + "." + proof(key, at, req.Method, req.Host, req.URL)
}

func proof(key wedge.Secret, at, method, host string, u *url.URL) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(strings.Join([]string{"wedge shield", at, method, strings.ToLower(host), u.EscapedPath(), u.RawQuery}, "\n")))
	return hex.EncodeToString(m.Sum(nil))
}

// marked reports whether a request carries a mark by one of the keys.
func marked(keys []wedge.Secret, now time.Time, req *http.Request) bool {
	at, given, ok := strings.Cut(req.Header.Get(shieldField), ".")
	unix, err := strconv.ParseInt(at, 10, 64)
	if age := now.Sub(time.Unix(unix, 0)); !ok || err != nil || age > maxSkew || age < -maxSkew {
		return false
	}
	valid := 0
	for _, key := range keys {
		if len(key) > 0 {
			valid |= subtle.ConstantTimeCompare([]byte(proof(key, at, req.Method, req.Host, req.URL)), []byte(given))
		}
	}
	return valid == 1
}

// withHop notes what the way of a request needs.
func withHop(ctx context.Context, v *wedge.Version, now time.Time, r *http.Request) (context.Context, hop) {
	h := hop{marked: marked(v.APIKeys, now, r)}
	if len(v.APIKeys) > 0 {
		h.key = v.APIKeys[0]
	}
	return context.WithValue(ctx, shieldKey{}, h), h
}

// maxLoops is how often a request may pass this kind of cache: a PoP, its shield, and one that should not be.
const maxLoops = 3

// cdnLoop is this CDN's name in CDN-Loop (RFC 8586).
const cdnLoop = "wedge"

// loops counts how often a request has been here, by its CDN-Loop.
func loops(h http.Header) (n int) {
	for _, line := range h["Cdn-Loop"] {
		for item := range strings.SplitSeq(line, ",") {
			id, _, _ := strings.Cut(item, ";")
			if strings.TrimSpace(id) == cdnLoop {
				n++
			}
		}
	}
	return n
}
