package node

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// The method PURGE makes stored responses unusable: those of the URL it is sent to; with a
// Surrogate-Key field, those with one of its keys; with Wedge-Purge: all, all of the service. With
// Wedge-Purge: soft or Fastly-Soft-Purge: 1 they become stale instead. It needs one of the service's
// api_keys, as Authorization: Bearer or Fastly-Key.

// purger handles PURGE for a service and passes all else on.
type purger struct {
	http.Handler
	version *wedge.Version
	purge   func(wedge.Purge) error
	log     func(wedge.Purge)
}

func (p *purger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != "PURGE" {
		p.Handler.ServeHTTP(w, r)
		return
	}
	if !p.allowed(r) {
		if p.version.Guest != nil {
			p.Handler.ServeHTTP(w, r) // the guest may have a meaning of its own for it
			return
		}
		answerPurge(w, http.StatusForbidden, map[string]string{"kind": wedge.Denied.String(),
			"error": "purge: no valid key", "hint": "Send one of the service's api_keys as Authorization: Bearer KEY or Fastly-Key."})
		return
	}
	order := purgeOrder(r, p.version.Service)
	if err := p.purge(order); err != nil {
		answerPurge(w, wedge.KindOf(err).Status(), map[string]string{"kind": wedge.KindOf(err).String(), "error": err.Error(), "hint": wedge.HintOf(err)})
		return
	}
	p.log(order)
	answerPurge(w, http.StatusOK, map[string]string{"status": "ok", "id": order.ID})
}

// purgeOrder reads what a PURGE request wants.
func purgeOrder(r *http.Request, service string) wedge.Purge {
	order := wedge.Purge{ID: newPurgeID(), Service: service, At: time.Now()}
	order.Soft = r.Header.Get("Fastly-Soft-Purge") == "1"
	for _, word := range strings.Fields(strings.ReplaceAll(r.Header.Get("Wedge-Purge"), ",", " ")) {
		order.All = order.All || word == "all"
		order.Soft = order.Soft || word == "soft"
	}
	for _, line := range r.Header["Surrogate-Key"] {
		order.Keys = append(order.Keys, strings.Fields(line)...)
	}
	if !order.All && len(order.Keys) == 0 {
		scheme := "http://"
		if r.TLS != nil {
			scheme = "https://"
		}
		order.URL = scheme + r.Host + r.URL.RequestURI()
	}
	return order
}

func newPurgeID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// allowed takes the same time whichever key, or none, matches.
func (p *purger) allowed(r *http.Request) bool {
	given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		given = r.Header.Get("Fastly-Key")
	}
	valid := 0
	for _, key := range p.version.APIKeys {
		if len(key) > 0 {
			valid |= subtle.ConstantTimeCompare(key, []byte(given))
		}
	}
	return valid == 1
}

func answerPurge(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
