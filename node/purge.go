package node

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// The method PURGE makes stored responses unusable: those of the URL it is sent to; with a
// Surrogate-Key field, those with one of its keys; with Wedge-Purge: all, all of the service. With
// Wedge-Purge: soft or Fastly-Soft-Purge: 1 they become stale instead. In a fleet it reaches all PoPs; with Wedge-Purge: watch
// the answer says, a line for each, when they have done it. It needs one of the service's
// api_keys, as Authorization: Bearer or Fastly-Key.

// purger handles PURGE for a service and passes all else on.
type purger struct {
	http.Handler
	version *wedge.Version
	purge   func(wedge.Purge) error
	now     func() time.Time
	log     func(wedge.Purge)
	fleet   *Node // nil: the node is alone
}

func (p *purger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path := p.version.Apologies; path != "" && r.URL.Path == path {
		http.NotFound(w, r) // Wedge itself comes another way
		return
	}
	if e := p.eventAt(r); e != nil {
		p.event(w, r, e)
		return
	}
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
	order := purgeOrder(r, p.version.Service, p.now())
	if p.fleet != nil && strings.Contains(r.Header.Get("Wedge-Purge"), "watch") {
		p.watched(w, r, order)
		return
	}
	if err := p.purge(order); err != nil {
		p.refuse(w, err)
		return
	}
	p.log(order)
	answerPurge(w, http.StatusOK, map[string]string{"status": "ok", "id": order.ID})
}

// purgeOrder reads what a PURGE request wants.
func purgeOrder(r *http.Request, service string, now time.Time) wedge.Purge {
	order := wedge.Purge{ID: newPurgeID(), Service: service, At: now}
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

// PurgeStep is a line of the answer to a purge that is watched: of a PoP that has done it, or the last.
type PurgeStep struct {
	ID      string   `json:"id"`
	PoP     string   `json:"pop,omitempty"`
	City    string   `json:"city,omitempty"`
	MS      float64  `json:"ms"`                // since the purge was accepted, by this node's clock: with the way back
	Done    bool     `json:"done,omitempty"`    // the last line
	Missing []string `json:"missing,omitempty"` // PoPs that have not said so; they will, when they can be reached
	Offline bool     `json:"offline,omitempty"` // the last line: this node is cut off from the fleet
}

// watchPatience is how long a purge is watched.
const watchPatience = 10 * time.Second

// watched answers a purge with a line for each PoP that has done it.
func (p *purger) watched(w http.ResponseWriter, r *http.Request, order wedge.Purge) {
	began := time.Now()
	heard := make(chan applied, 1024)
	stop, err := p.fleet.fleet.watch(order.ID, func(a applied) {
		select {
		case heard <- a:
		default: // more than any fleet has
		}
	})
	if err == nil {
		defer stop()
		err = p.purge(order)
	}
	if err != nil {
		p.refuse(w, err)
		return
	}
	p.log(order)
	fleet, own := p.fleet.fleet, p.fleet.cfg.pop()
	cities, here := map[string]string{own: fleet.cfg.PoP.City}, map[string]bool{}
	for _, q := range fleet.pops.known() {
		cities[q.Name], here[q.Name] = q.City, time.Since(q.Seen) < popTimeout
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	lines := json.NewEncoder(w)
	say := func(s PurgeStep) {
		s.ID, s.MS = order.ID, float64(time.Since(began).Microseconds())/1000
		_ = lines.Encode(s)
		_ = http.NewResponseController(w).Flush()
	}
	has := func(pop string) {
		if city, waited := cities[pop]; waited {
			say(PurgeStep{PoP: pop, City: city})
			delete(cities, pop)
			delete(here, pop)
		}
	}
	has(own)
	for patience := time.After(watchPatience); fleet.link.Up() && slices.Contains(slices.Collect(maps.Values(here)), true); {
		select {
		case a := <-heard:
			has(a.PoP)
			continue
		case <-patience:
		case <-r.Context().Done():
			return
		}
		break
	}
	say(PurgeStep{Done: true, Missing: slices.Sorted(maps.Keys(cities)), Offline: !fleet.link.Up()})
}
