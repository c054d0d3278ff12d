package conformance

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Proxies that are wrong in a plain way. Against them cases must fail.

// fake starts a proxy before the origin at addr.
func fake(t *testing.T, addr string, rt http.RoundTripper) string {
	srv := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host
		},
		Transport: rt,
		ErrorLog:  log.New(io.Discard, "", 0),
	})
	t.Cleanup(srv.Close)
	return srv.URL
}

// overFake runs the suite against such a proxy; cfg says the rest.
func overFake(t *testing.T, rt http.RoundTripper, cfg Config) []Result {
	t.Helper()
	cfg.Origin = listen(t)
	cfg.Proxy = fake(t, cfg.Origin.Addr().String(), rt)
	cfg.Target = "Own-Cache-Control"
	return runAll(t, cfg)
}

// transport forwards, and changes nothing that it need not.
func transport() http.RoundTripper { return &http.Transport{DisableCompression: true} }

// hoarder gives everybody the first answer it got for a case.
type hoarder struct {
	next   http.RoundTripper
	mu     sync.Mutex
	stored map[string]kept
}

type kept struct {
	resp http.Response
	body []byte
}

func (h *hoarder) RoundTrip(r *http.Request) (*http.Response, error) {
	id := strings.SplitN(r.URL.Path, "/", 4)[2]
	h.mu.Lock()
	k, ok := h.stored[id]
	h.mu.Unlock()
	if !ok {
		resp, err := h.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		k = kept{*resp, body}
		h.mu.Lock()
		h.stored[id] = k
		h.mu.Unlock()
	}
	resp := k.resp
	resp.Header = resp.Header.Clone()
	resp.Body = io.NopCloser(bytes.NewReader(k.body))
	return &resp, nil
}

// mangler forwards, and loses most of what goes either way.
type mangler struct{ next http.RoundTripper }

func (m mangler) RoundTrip(r *http.Request) (*http.Response, error) {
	u := *r.URL
	u.Path, u.RawQuery, u.RawPath = strings.Join(strings.SplitN(u.Path, "/", 4)[:3], "/"), "", ""
	out, err := http.NewRequestWithContext(r.Context(), "LOSE", u.String(), nil)
	if err != nil {
		return nil, err
	}
	out.Header.Set("Conf-Req-Num", r.Header.Get("Conf-Req-Num"))
	out.Header.Set("X-A", "mangled")
	resp, err := m.next.RoundTrip(out)
	if err != nil {
		return &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	}
	resp.Body.Close()
	return &http.Response{
		StatusCode: 298, Body: io.NopCloser(strings.NewReader("mangled")), Request: r,
		Header: http.Header{"Conf-Answer": resp.Header["Conf-Answer"], "X-A": {"mangled"}, "Link": {"mangled"}},
	}, nil
}

func outcomes(results []Result) map[string]Outcome {
	m := map[string]Outcome{}
	for _, r := range results {
		m[r.Name] = r.Outcome
	}
	return m
}
