package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/state"
)

// Operators reach what services keep through the control API. The core asks PoPs over the bus; a PoP answers as it would a guest.

// stateSubject is where a PoP is asked: with its name.
const stateSubject = "state."

// stateQuestion is what the core asks.
type stateQuestion struct {
	Service string `json:"service"`
	api.StateRequest
}

// maxStateAnswer is what the bus takes, in base64.
const maxStateAnswer = 350 << 10

// askState asks PoPs for what a service keeps there.
func (c *Core) askState(ctx context.Context, service string, want api.StateRequest) ([]api.StateAnswer, error) {
	var pops []string
	for _, p := range c.pops.here() {
		if want.PoP == "" || want.PoP == api.EveryPoP || want.PoP == p.Name {
			pops = append(pops, p.Name)
		}
	}
	if len(pops) == 0 {
		return nil, &wedge.Error{Op: "ask for state", What: "PoP " + want.PoP, Kind: wedge.Unavailable, Err: errors.New("it is not there"), Hint: "See those that are with: wedge pops"}
	}
	if want.PoP == "" {
		pops = pops[:1]
	}
	question, err := json.Marshal(stateQuestion{service, want})
	if err != nil {
		return nil, err
	}
	list := make([]api.StateAnswer, len(pops))
	slots := make(chan struct{}, 64)
	var w sync.WaitGroup
	for i, pop := range pops {
		w.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			b, err := c.link.Ask(ctx, stateSubject+pop, question)
			if err == nil {
				err = json.Unmarshal(b, &list[i])
			}
			if err != nil {
				list[i] = api.StateAnswer{Error: err.Error()}
			}
			list[i].PoP = pop
		})
	}
	w.Wait()
	if want.Core {
		list = append(list, c.copyOf(ctx, service, want.Path))
	}
	return list, nil
}

// copyOf says what the core has of a key: in its archives of the logs of state, and in its logs of keys.
func (c *Core) copyOf(ctx context.Context, service, path string) api.StateAnswer {
	a := api.StateAnswer{PoP: api.CorePoP, Status: http.StatusNotFound}
	var has []string
	u, err := url.Parse(path)
	if err == nil {
		store, key, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		for j, kept := range c.archives {
			scopes, err2 := kept.share.Scopes(ctx, service, store, key)
			for _, scope := range scopes {
				has = append(has, string(scope)+"; archive")
			}
			in, err3 := state.KeyIn(ctx, coreKeys{link: c.link, log: stateLogs(j)[wedge.ScopeCore]}, service, store, key, time.Now())
			if in {
				has = append(has, string(wedge.ScopeCore)+"; log")
			}
			err = errors.Join(err, err2, err3)
		}
	}
	if err != nil {
		return api.StateAnswer{PoP: a.PoP, Error: err.Error()}
	}
	if len(has) > 0 {
		a.Status, a.Header = http.StatusOK, map[string]string{fieldState: strings.Join(has, ", ")}
	}
	return a
}

// answerState answers the core, which an operator has asked.
func (n *Node) answerState(_ string, question []byte) []byte {
	a := api.StateAnswer{PoP: n.cfg.pop(), Header: map[string]string{}}
	var q stateQuestion
	err := json.Unmarshal(question, &q)
	var resp *http.Response
	if err == nil {
		resp, err = n.stateFor(&q)
	}
	if err == nil {
		defer resp.Body.Close()
		a.Status = resp.StatusCode
		for name := range resp.Header {
			a.Header[name] = resp.Header.Get(name)
		}
		if a.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxStateAnswer+1)); len(a.Body) > maxStateAnswer {
			err = errors.New("the answer is too large for an operator's command: let a guest read it")
		}
	}
	if err != nil {
		a = api.StateAnswer{PoP: a.PoP, Error: err.Error()}
		if kind := wedge.KindOf(err); kind == wedge.NotExist {
			a.Kind = kind.String()
		}
	}
	b, _ := json.Marshal(a) // texts and a number
	return b
}

// stateTimeout is shorter than the core waits.
const stateTimeout = 1800 * time.Millisecond

func (n *Node) stateFor(q *stateQuestion) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.Method, "http://"+stateName+internalSuffix+q.Path, bytes.NewReader(q.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range q.Header {
		req.Header.Set(name, value)
	}
	d, done := n.taken(q.Service)
	if d == nil {
		return nil, &wedge.Error{Op: "find service", What: q.Service, Kind: wedge.NotExist, Err: errors.New("it does not run there")}
	}
	handler := http.Handler(d.state)
	if path, _, _ := strings.Cut(q.Path, "?"); path == api.ApologiesPath {
		handler = n.listApologies(q.Service)
	} else if path == api.HomesPath {
		handler = &homesAPI{n.fleet.homes, q.Service, d.state.stores}
	}
	resp, err := inProcess(req, handler, done, 0, n.cfg.Now)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStateAnswer+1)) // before ctx ends
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}
