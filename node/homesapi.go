package node

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/state"
)

// homesAPI answers operators about the homes of a service.
//
//	GET /-/homes                     those at this PoP to which something was written of late
//	GET /-/homes?store=STORE&key=KEY what this PoP knows of a store's homes, or of a key's
//	POST /-/homes?store=STORE&key=KEY&to=POP
//	                                 moves it, if it is here; answers with what is so then
type homesAPI struct {
	homes   *homes
	service string
	stores  *state.Stores
}

// maxHomes is of how many units one answer tells.
const maxHomes = 200

// ServeHTTP implements http.Handler.
func (a *homesAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := a.serve(w, r); err != nil {
		answerError(w, err)
	}
}

func (a *homesAPI) serve(w http.ResponseWriter, r *http.Request) error {
	store, key := r.URL.Query().Get("store"), r.URL.Query().Get("key")
	if r.Method == http.MethodPost {
		return a.move(w, r, store, key, r.URL.Query().Get("to"))
	}
	list := []api.Home{}
	if store == "" {
		for _, share := range a.homes.node.fleet.shares {
			for _, home := range share.Homes(homeRest * a.homes.pace) {
				if home.Service == a.service && len(list) < maxHomes {
					list = append(list, a.homes.plan(share, &home))
				}
			}
		}
		return answerJSON(w, http.StatusOK, list)
	}
	known, err := a.stores.Homes(r.Context(), store, key, maxHomes, homeRest*a.homes.pace)
	for i := range known {
		list = append(list, a.explain(&known[i], a.stores.Share(store)))
	}
	if err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, list)
}

// explain says what this PoP knows of a home: if it is at another, only where and since when.
func (a *homesAPI) explain(home *state.Home, share *state.Share) api.Home {
	if home.Here {
		return a.homes.plan(share, home)
	}
	p := placed(home)
	if a.homes.node.fleet.pops.expelled(home.PoP) {
		p.Why = home.PoP + " is a member no more: the next PoP through which something is written becomes the home"
	}
	return p
}

// placed is where a home is.
func placed(home *state.Home) api.Home {
	return api.Home{Service: home.Service, Store: home.Store, Keys: home.Part, Split: home.Split, PoP: home.PoP, Epoch: home.Epoch, Since: home.Since, Asked: home.Asked, Moving: home.Moving}
}

// move has a home that is here move to a PoP, as an operator wants it.
func (a *homesAPI) move(w http.ResponseWriter, r *http.Request, store, key, to string) error {
	known, err := a.stores.Homes(r.Context(), store, key, 2, homeRest*a.homes.pace)
	no := func(kind wedge.Kind, hint, why string, args ...any) error {
		return &wedge.Error{Op: "move home", What: "store " + store, Kind: kind, Err: fmt.Errorf(why, args...), Hint: hint}
	}
	switch {
	case err != nil:
		return err
	case len(known) == 0:
		return no(wedge.NotExist, "The first through which it is written becomes it.", "no PoP is the home yet")
	case key == "" && known[0].Split != "":
		return no(wedge.Invalid, "Name a key, as in: wedge move SERVICE STORE KEY POP", "it has a home for each part of its keys")
	}
	home, share, f := &known[0], a.stores.Share(store), a.homes.node.fleet
	q, heard := f.pops.named(to)
	j := share.Jurisdiction()
	runs := func(q wedge.PoP) bool { return q.Name == to }
	switch {
	case home.PoP == to:
		return no(wedge.Exist, "", "its home is at %s", to)
	case !home.Here:
		return no(wedge.Conflict, "Ask again.", "its home is at %s by now", home.PoP)
	case !heard:
		return no(wedge.NotExist, "See those that are there with: wedge pops", "nothing was heard of a PoP %.40s", to)
	case j != "" && !slices.Contains(q.Jurisdictions, j):
		return no(wedge.Denied, "Those that may are shown by: wedge explain", "%s may not hold what is in jurisdiction %s", to, j)
	case !q.Ready || f.peers == nil || !f.peers.there(&q):
		return no(wedge.Unavailable, "See wedge pops, and try again.", "%s is not ready, or cannot be reached from %s", to, home.PoP)
	case !slices.ContainsFunc(f.homesOf(a.service), runs):
		return no(wedge.Conflict, "Release it there first.", "%s does not run service %s", to, a.service)
	}
	if err := a.homes.move(r.Context(), share, home.Unit, to, true); err != nil {
		kind, hint := wedge.KindOf(err), "See what became of it with: wedge explain"
		if kind == wedge.Internal {
			kind = wedge.Unavailable
		}
		return no(kind, hint, "%s does not become it: %w", to, err)
	}
	if known, err = a.stores.Homes(r.Context(), store, key, 1, homeRest*a.homes.pace); err != nil || len(known) == 0 {
		return err
	}
	return answerJSON(w, http.StatusOK, placed(&known[0]))
}
