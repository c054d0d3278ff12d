package node

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
)

// What a guest promised by a write that was accepted here, and cannot be kept, is told to its service: as a POST of JSON to the path
// that the version names, again and again until the answer is 2xx. Nobody else reaches that path.

const (
	apologyLook  = time.Second // between looks for what is still to be said
	apologyFirst = time.Second // before one that was not taken is said again, twice as long each time
	apologyMost  = 5 * time.Minute
	apologyBatch = 100
)

// apologizer tells services what they have to be sorry for.
type apologizer struct {
	node *Node
	news chan struct{}

	again map[string]retry // by what is told; only run uses it
}

type retry struct {
	at    time.Time
	pause time.Duration
}

func newApologizer(n *Node) *apologizer {
	return &apologizer{node: n, news: make(chan struct{}, 1), again: map[string]retry{}}
}

// wake is told that there is something new. It does not wait.
func (a *apologizer) wake(string) {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// run tells until ctx ends.
func (a *apologizer) run(ctx context.Context) error {
	t := time.NewTicker(apologyLook)
	defer t.Stop()
	for {
		if any, err := a.node.kv.Apologies(ctx, "", 1); err == nil && len(any) > 0 {
			for service, path := range a.node.apologyPaths() {
				a.tell(ctx, service, path)
			}
		}
		select {
		case <-a.news:
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// apologyPaths returns where services want to be told.
func (n *Node) apologyPaths() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	paths := map[string]string{}
	for key, d := range n.deployed {
		if _, beside := serviceOf(key); !beside && d.version.Apologies != "" {
			paths[key] = d.version.Apologies
		}
	}
	return paths
}

// tell tells a service what is due.
func (a *apologizer) tell(ctx context.Context, service, path string) {
	all, err := a.node.kv.Apologies(ctx, service, apologyBatch)
	if err != nil {
		a.node.cfg.Log.Error("read apologies", "service", service, "err", err)
		return
	}
	now := time.Now()
	for i := range all {
		name := service + "\x00" + all[i].Store + "\x00" + all[i].Key + "\x00" + all[i].ID
		r := a.again[name]
		if now.Before(r.at) || ctx.Err() != nil {
			continue
		}
		if a.took(ctx, service, path, &all[i]) {
			delete(a.again, name)
			if err := a.node.kv.Answered(&all[i]); err != nil && wedge.KindOf(err) != wedge.NotExist {
				a.node.cfg.Log.Error("note that an apology was taken", "service", service, "err", err)
			}
			continue
		}
		r.pause = min(max(2*r.pause, apologyFirst), apologyMost)
		r.at = now.Add(r.pause)
		a.again[name] = r
	}
}

// took reports whether the service answered that it has taken an apology.
func (a *apologizer) took(ctx context.Context, service, path string, apology *state.Apology) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	body, err := json.Marshal(apology)
	if err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+service+internalSuffix+path, bytes.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	d, done := a.node.taken(service)
	if d == nil {
		return false
	}
	resp, err := inProcess(req, d.handler, done, 0, a.node.cfg.Now)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return true
	}
	a.node.cfg.Log.Warn("a service did not take an apology: it is told again", "service", service, "path", path, "status", resp.StatusCode)
	return false
}

// byName returns the handler for other services, who do not apologise to it.
func (d *deployment) byName() http.Handler {
	if d.version.Apologies == "" {
		return d.handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == d.version.Apologies {
			http.NotFound(w, r)
			return
		}
		d.handler.ServeHTTP(w, r)
	})
}

// listApologies shows what was not taken yet.
func (n *Node) listApologies(service string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, err := n.kv.Apologies(r.Context(), service, 1000)
		if err != nil {
			answerError(w, err)
			return
		}
		if all == nil {
			all = []state.Apology{}
		}
		_ = answerJSON(w, http.StatusOK, all)
	})
}
