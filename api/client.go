package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/seal"
)

// Client speaks the control API. It may be used by many goroutines.
type Client struct {
	URL   string // of the server, without /v1; of several of a core's servers with commas between
	Token string
	HTTP  *http.Client // nil: http.DefaultClient

	at int32 // the server that answered last
}

func (c *Client) fail(kind wedge.Kind, err error, hint string) error {
	return &wedge.Error{Op: "reach the control API", What: c.URL, Kind: kind, Err: err, Hint: hint}
}

// servers returns their URLs.
func (c *Client) servers() []string {
	list := strings.FieldsFunc(c.URL, func(r rune) bool { return r == ',' || r == ' ' })
	if len(list) == 0 {
		return []string{""}
	}
	return list
}

// send sends a request to the server that answered last, or else to the next. An answer that is not 200 is an error. One that was sent, or of which
// a server says that it cannot do it now, is sent to another only if it may be done twice: it reads or puts, or has a key.
func (c *Client) send(ctx context.Context, method, path, key string, body []byte) (resp *http.Response, err error) {
	servers, first := c.servers(), int(atomic.LoadInt32(&c.at))
	for i := range servers {
		at := (first + i) % len(servers)
		var sent, answered bool
		resp, sent, answered, err = c.try(ctx, servers[at], method, path, key, body)
		if answered {
			atomic.StoreInt32(&c.at, int32(at))
			return resp, err
		}
		if sent && method != http.MethodGet && method != http.MethodPut && key == "" || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// repeatable is the key of a request that may be done twice, though its method does not say so.
func repeatable() string { return rand.Text() }

// try sends a request to one server. sent: it may have got it. answered: it has, and another would not answer otherwise.
func (c *Client) try(ctx context.Context, server, method, path, key string, body []byte) (resp *http.Response, sent, answered bool, err error) {
	var connected atomic.Bool // TLS is done by then
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(traced, method, server+path, bytes.NewReader(body))
	if err != nil {
		return nil, false, false, c.fail(wedge.Invalid, err, "Give its address, such as http://127.0.0.1:7670.")
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err = client.Do(req)
	if err != nil {
		return nil, connected.Load(), false, c.fail(wedge.Unavailable, err, "Is a core running there? Give its address with --api or in WEDGE_API.")
	}
	if resp.StatusCode == http.StatusOK {
		return resp, true, true, nil
	}
	defer resp.Body.Close()
	answered = resp.StatusCode != http.StatusServiceUnavailable
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, true, answered, c.fail(wedge.Unavailable, err, "")
	}
	var f fault
	if json.Unmarshal(b, &f) != nil || f.Error == "" {
		return nil, true, answered, c.fail(wedge.Internal, fmt.Errorf("the answer was %s, and is none of the control API's", resp.Status), "")
	}
	return nil, true, answered, &wedge.Error{Kind: wedge.KindNamed(f.Kind), Err: errors.New(f.Error), Hint: f.Hint}
}

const maxAnswer = 64 << 20 // bytes

// do sends a request and reads the answer into v, if that is not nil.
func (c *Client) do(ctx context.Context, method, path, key string, body []byte, v any) error {
	resp, err := c.send(ctx, method, path, key, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.fail(wedge.Unavailable, err, "")
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return c.fail(wedge.Internal, err, "")
	}
	return nil
}

func (c *Client) post(ctx context.Context, path, key string, question, answer any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, key, b, answer)
}

func service(name, rest string) string { return "/v1/services/" + url.PathEscape(name) + rest }

// uploads is how many chunks are sent at once.
const uploads = 4

// Upload sends those chunks that the server does not have, and returns how many that were, and their bytes as sent.
func (c *Client) Upload(ctx context.Context, a *control.Artifact, chunks *control.Chunks) (n int, size int64, err error) {
	m := Missing{a.Digests()}
	if err := c.post(ctx, "/v1/chunks/missing", repeatable(), m, &m); err != nil {
		return 0, 0, err
	}
	var w sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, uploads)
	for _, d := range m.Digests {
		slots <- struct{}{}
		w.Go(func() {
			defer func() { <-slots }()
			packed, e := chunks.Packed(d)
			if e == nil {
				e = c.do(ctx, http.MethodPut, "/v1/chunks/"+string(d), "", packed, nil)
			}
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, e)
			size += int64(len(packed))
		})
	}
	w.Wait()
	return len(m.Digests), size, err
}

// NewVersion makes a version of a service of an artifact whose chunks are there.
func (c *Client) NewVersion(ctx context.Context, name, key string, want NewVersion) (v control.Version, err error) {
	return v, c.post(ctx, service(name, "/versions"), key, want, &v)
}

// Release begins a rollout.
func (c *Client) Release(ctx context.Context, name, key string, p Pick) (r control.Release, err error) {
	return r, c.post(ctx, service(name, "/releases"), key, p, &r)
}

// Promote lets a release that holds go on to all PoPs.
func (c *Client) Promote(ctx context.Context, name, key string) (r control.Release, err error) {
	return r, c.post(ctx, service(name, "/promote"), key, nil, &r)
}

// Event sends a JSON message that purges what the service's events say.
func (c *Client) Event(ctx context.Context, name string, message []byte) error {
	return c.do(ctx, http.MethodPost, service(name, "/events"), "", message, nil)
}

// Rollback makes all PoPs run a version at once; 0: the one before.
func (c *Client) Rollback(ctx context.Context, name, key string, version int) (r control.Release, err error) {
	return r, c.post(ctx, service(name, "/rollback"), key, Pick{Version: version}, &r)
}

// Services returns all services.
func (c *Client) Services(ctx context.Context) (list []control.Service, err error) {
	return list, c.do(ctx, http.MethodGet, "/v1/services", "", nil, &list)
}

// RemoveService has all PoPs stop a service, and forgets its versions. One that is live, or on its way, is removed only by force.
func (c *Client) RemoveService(ctx context.Context, name, key string, force bool) error {
	return c.do(ctx, http.MethodDelete, service(name, fmt.Sprintf("?force=%t", force)), key, nil, nil)
}

// Versions returns a service's versions.
func (c *Client) Versions(ctx context.Context, name string) (list []control.Version, err error) {
	return list, c.do(ctx, http.MethodGet, service(name, "/versions"), "", nil, &list)
}

// RemoveVersion has a version forgotten at once.
func (c *Client) RemoveVersion(ctx context.Context, name, key string, version int) error {
	return c.do(ctx, http.MethodDelete, service(name, fmt.Sprintf("/versions/%d", version)), key, nil, nil)
}

// Releases returns a service's releases.
func (c *Client) Releases(ctx context.Context, name string) (list []control.Release, err error) {
	return list, c.do(ctx, http.MethodGet, service(name, "/releases"), "", nil, &list)
}

// PoPs returns those that are there.
func (c *Client) PoPs(ctx context.Context) (list []wedge.PoP, err error) {
	return list, c.do(ctx, http.MethodGet, "/v1/pops", "", nil, &list)
}

// SealingKey returns the public key that secrets are to be sealed with. It needs no token.
func (c *Client) SealingKey(ctx context.Context) (p seal.Public, err error) {
	return p, c.do(ctx, http.MethodGet, "/v1/sealing-key", "", nil, &p)
}

// Audit returns the last decisions.
func (c *Client) Audit(ctx context.Context, last int) (list []control.Event, err error) {
	return list, c.do(ctx, http.MethodGet, fmt.Sprintf("/v1/audit?last=%d", last), "", nil, &list)
}

// Tokens returns all tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) (list []control.Token, err error) {
	return list, c.do(ctx, http.MethodGet, "/v1/tokens", "", nil, &list)
}

// NewToken makes a token.
func (c *Client) NewToken(ctx context.Context, want NewToken) (s Secret, err error) {
	return s, c.post(ctx, "/v1/tokens", "", want, &s)
}

// Revoke ends a token.
func (c *Client) Revoke(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(name), repeatable(), nil, nil)
}

// AddPoP lets a PoP join, once, with the secret that is returned, and carry these jurisdictions.
func (c *Client) AddPoP(ctx context.Context, name string, jurisdictions ...string) (s Secret, err error) {
	return s, c.post(ctx, "/v1/pops", "", NewPoP{name, jurisdictions}, &s)
}

// RemovePoP makes a PoP a member no more.
func (c *Client) RemovePoP(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/v1/pops/"+url.PathEscape(name), repeatable(), nil, nil)
}

// Join makes a PoP a member.
func (c *Client) Join(ctx context.Context, want Join) (j Joined, err error) {
	return j, c.post(ctx, "/v1/join", repeatable(), want, &j)
}

// Collected returns what clients of a service have reported under a name. query is as in the API.
func (c *Client) Collected(ctx context.Context, name, collection string, query url.Values) (a collect.Answer, err error) {
	return a, c.do(ctx, http.MethodGet, collectedPath(name, collection)+"?"+query.Encode(), "", nil, &a)
}

// Live calls each with the same every second, until ctx ends or it returns an error.
func (c *Client) Live(ctx context.Context, name, collection string, query url.Values, each func(collect.Answer) error) error {
	resp, err := c.send(ctx, http.MethodGet, collectedPath(name, collection)+"/live?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var a collect.Answer
		if err := lines.Decode(&a); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return c.fail(wedge.Unavailable, fmt.Errorf("it broke off: %w", err), "Begin again once the core is there.")
		}
		if err := each(a); err != nil {
			return err
		}
	}
}

func collectedPath(name, collection string) string {
	return "/v1/collect/" + url.PathEscape(name) + "/" + url.PathEscape(collection)
}
