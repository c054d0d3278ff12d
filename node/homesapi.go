package node

import (
	"errors"
	"net/http"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/state"
)

// homesAPI answers operators about the homes of a service.
//
//	GET /-/homes                     those at this PoP to which something was written of late
//	GET /-/homes?store=STORE&key=KEY what this PoP knows of a store's homes, or of a key's
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
	if r.Method != http.MethodGet {
		return &wedge.Error{Op: "find home", Kind: wedge.Invalid, Err: errors.New("it is asked with GET")}
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
	return placed(home)
}

// placed is where a home is.
func placed(home *state.Home) api.Home {
	return api.Home{Service: home.Service, Store: home.Store, Keys: home.Part, Split: home.Split, PoP: home.PoP, Epoch: home.Epoch, Since: home.Since, Moving: home.Moving}
}
