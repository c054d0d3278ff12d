package node

import (
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
)

// beacons takes what clients report to a service, and passes all else on.
type beacons struct {
	http.Handler
	version *wedge.Version
	to      *collecting // nil: the node is alone
}

func (h *beacons) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for i := range h.version.Collect {
		if c := &h.version.Collect[i]; c.Path == r.URL.Path {
			h.beacon(w, r, c)
			return
		}
	}
	h.Handler.ServeHTTP(w, r)
}

// beacon answers a client, and a browser that asks whether its page may send.
func (h *beacons) beacon(w http.ResponseWriter, r *http.Request, c *wedge.Collect) {
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Add("Vary", "Origin")
		if len(c.Origins) > 0 && !slices.Contains(c.Origins, origin) {
			refuseBeacon(w, &wedge.Error{Op: "collect", What: c.Name, Kind: wedge.Denied, Err: errors.New("pages of this origin may not send")})
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true") // sendBeacon sends them, and nothing here reads them
	}
	switch r.Method {
	case http.MethodOptions:
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.Header().Set("Access-Control-Max-Age", "86400")
	case http.MethodGet, http.MethodPost:
		if err := h.take(w, r, c); err != nil {
			refuseBeacon(w, err)
			return
		}
	default:
		w.Header().Set("Allow", "GET, POST, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

func (h *beacons) take(w http.ResponseWriter, r *http.Request, c *wedge.Collect) error {
	if h.to == nil {
		return &wedge.Error{Op: "collect", What: c.Name, Kind: wedge.Unsupported, Err: errors.New("this node is alone, and nobody adds events up"), Hint: "Try it with wedge world, or deploy it."}
	}
	var events []collect.Event
	var err error
	if r.Method == http.MethodGet {
		events, err = collect.ParseForm(r.URL.RawQuery)
	} else {
		var body []byte
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, collect.MaxBody)); err != nil {
			return &wedge.Error{Op: "collect", What: c.Name, Kind: wedge.Invalid, Err: err, Hint: "A beacon has at most 64 KiB."}
		}
		events, err = collect.Parse(r.Header.Get("Content-Type"), body)
	}
	if err != nil {
		return err
	}
	return h.to.collected(r.Context(), h.version.Service, c, events)
}

func refuseBeacon(w http.ResponseWriter, err error) {
	kind := wedge.KindOf(err)
	answerPurge(w, kind.Status(), map[string]string{"kind": kind.String(), "error": err.Error(), "hint": wedge.HintOf(err)})
}

// collectFor is what a guest reaches at http://collect.wedge.internal/: what its version collects.
//
//	POST /NAME   events, as clients send them
//	GET  /NAME?since=&from=&to=&by=&step=   what was collected, as the control API says it; Wedge-Collect says how old that is
func (n *Node) collectFor(service string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, done := n.taken(service)
		if d == nil {
			refuseBeacon(w, &wedge.Error{Op: "collect", What: service, Kind: wedge.NotExist, Err: errors.New("the service is not here")})
			return
		}
		defer done()
		at := slices.IndexFunc(d.version.Collect, func(c wedge.Collect) bool { return "/"+c.Name == r.URL.Path })
		if at < 0 || r.Method != http.MethodPost && r.Method != http.MethodGet {
			refuseBeacon(w, &wedge.Error{Op: "collect", What: r.URL.Path, Kind: wedge.NotExist, Err: errors.New("the service collects nothing of this name"),
				Hint: "Add [collect.NAME] to its wedge.toml, send events by POST, and read by GET what was collected."})
			return
		}
		h := &beacons{version: d.version}
		if n.fleet != nil {
			h.to = n.fleet.collect
		}
		if r.Method == http.MethodPost || h.to == nil {
			h.beacon(w, r, &d.version.Collect[at])
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		if err := n.fleet.reads.serve(w, r, service, d.version.Collect[at].Name); err != nil {
			answerError(w, err)
		}
	})
}
