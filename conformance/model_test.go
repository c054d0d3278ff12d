package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

// TestModel shows that the cases can be passed which no widespread cache passes yet: Cache-Status,
// targeted fields and groups. The model does little else.
func TestModel(t *testing.T) {
	t.Parallel()
	fields := func(c *Case) bool {
		return slices.Contains([]string{"RFC 9211 2", "RFC 9213 2", "RFC 9875 2"}, c.Section)
	}
	results := overFake(t, &model{next: transport(), stored: map[string][]*object{}}, Config{Filter: fields})
	for _, r := range results {
		if fields(r.Case) && r.Level != Check && r.Outcome != Pass {
			t.Errorf("%s: %q: %s\n%s", r.Name, r.Outcome, r.Reason, r.Transcript)
		}
	}
}

// model is the least cache that knows these fields. It never forgets and never serves stale.
type model struct {
	next   http.RoundTripper
	mu     sync.Mutex // held through each request: this is no race for speed
	stored map[string][]*object
}

type object struct {
	asked  http.Header
	resp   http.Response
	body   []byte
	begin  time.Time // when it had no age
	policy policy
}

type policy struct {
	store, validate bool
	ttl             time.Duration
}

func (m *model) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Method != "GET" {
		return m.pass(r)
	}
	key := r.URL.String()
	o, why := m.find(key, r.Header), "uri-miss"
	switch {
	case o != nil && !o.policy.validate && o.ttl() > 0:
		return o.answer(fmt.Sprintf("Model; hit; ttl=%d", o.ttl()/time.Second)), nil
	case o != nil:
		why = "stale"
		r.Header.Set("If-None-Match", o.resp.Header.Get("ETag"))
	case len(m.stored[key]) > 0:
		why = "vary-miss"
	}
	resp, err := m.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNotModified && o != nil {
		for name, values := range resp.Header {
			o.resp.Header[name] = values
		}
		o.renew()
		return o.answer("Model; fwd=stale; fwd-status=304"), nil
	}
	return m.keep(key, r, resp, "Model; fwd="+why)
}

// pass forwards a request that may change things, and forgets what it may have changed.
func (m *model) pass(r *http.Request) (*http.Response, error) {
	resp, err := m.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Header.Add("Cache-Status", "Model; fwd=method")
	if resp.StatusCode >= 400 || r.Method == "HEAD" || r.Method == "OPTIONS" {
		return resp, nil
	}
	delete(m.stored, r.URL.String())
	gone := groups(resp.Header.Values("Cache-Group-Invalidation"))
	for key, objects := range m.stored {
		m.stored[key] = slices.DeleteFunc(objects, func(o *object) bool {
			return slices.ContainsFunc(groups(o.resp.Header.Values("Cache-Groups")), func(g string) bool { return slices.Contains(gone, g) })
		})
	}
	return resp, nil
}

// groups reads a list of strings; anything else in it makes it worthless.
func groups(lines []string) []string {
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	var names []string
	for _, m := range list {
		item, _ := m.(httpsfv.Item)
		if name, ok := item.Value.(string); ok {
			names = append(names, name)
		}
	}
	return names
}

func (m *model) find(key string, asked http.Header) *object {
	for _, o := range slices.Backward(m.stored[key]) {
		same := true
		for name := range strings.SplitSeq(o.resp.Header.Get("Vary"), ",") {
			name = strings.TrimSpace(name)
			same = same && name != "*" && asked.Get(name) == o.asked.Get(name)
		}
		if same {
			return o
		}
	}
	return nil
}

func (m *model) keep(key string, r *http.Request, resp *http.Response, status string) (*http.Response, error) {
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	o := &object{asked: r.Header.Clone(), resp: *resp, body: body}
	if o.renew(); o.policy.store {
		m.stored[key] = append(m.stored[key], o)
		status += "; stored"
	}
	return o.answer(status), nil
}

func (o *object) renew() {
	age, _ := strconv.Atoi(o.resp.Header.Get("Age"))
	o.begin = time.Now().Add(-time.Duration(age) * time.Second)
	o.policy = policyOf(o.resp.Header)
}

func (o *object) ttl() time.Duration { return o.policy.ttl - time.Since(o.begin) }

func (o *object) answer(status string) *http.Response {
	resp := o.resp
	resp.Header = resp.Header.Clone()
	resp.Header.Set("Age", strconv.Itoa(int(time.Since(o.begin)/time.Second)))
	resp.Header.Add("Cache-Status", status)
	resp.Body = io.NopCloser(bytes.NewReader(o.body))
	return &resp
}

// policyOf asks the first targeted field that is a dictionary and not empty, else Cache-Control.
func policyOf(h http.Header) policy {
	for _, name := range []string{"Own-Cache-Control", "CDN-Cache-Control"} {
		if dict, err := httpsfv.UnmarshalDictionary(h.Values(name)); err == nil && len(dict.Names()) > 0 {
			return targeted(dict)
		}
	}
	p := policy{store: true}
	for d := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "=")
		switch name {
		case "no-store", "private":
			return policy{}
		case "no-cache":
			p.validate = true
		case "max-age":
			n, _ := strconv.Atoi(value)
			p.ttl = time.Duration(n) * time.Second
		}
	}
	return p
}

func targeted(dict *httpsfv.Dictionary) policy {
	p := policy{store: !truth(dict, "no-store") && !truth(dict, "private"), validate: truth(dict, "no-cache")}
	m, _ := dict.Get("max-age")
	if item, ok := m.(httpsfv.Item); ok {
		n, _ := item.Value.(int64)
		p.ttl = time.Duration(n) * time.Second
	}
	return p
}

func truth(dict *httpsfv.Dictionary, name string) bool {
	m, _ := dict.Get(name)
	item, _ := m.(httpsfv.Item)
	yes, _ := item.Value.(bool)
	return yes
}
