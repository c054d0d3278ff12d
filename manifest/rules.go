package manifest

import (
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// maxRules and maxPage bound what one service may have.
const (
	maxRules = 1000
	maxPage  = 1 << 20
)

// wedgeRules reads what is special about some requests.
func wedgeRules(t *table, ver *wedge.Version) {
	v, ok := t.get("rules")
	if !ok {
		return
	}
	list, _ := v.list()
	if len(list) > maxRules {
		v.fail("", "%d rules, at most %d", len(list), maxRules)
		return
	}
	for _, v := range list {
		if r, ok := v.table(); ok {
			ver.Rules = append(ver.Rules, wedgeRule(r, ver))
		}
	}
}

func wedgeRule(t *table, ver *wedge.Version) (r wedge.Rule) {
	r.Path, r.Hosts, r.Methods = wedgeMatch(t)
	wedgeRedirect(t, &r)
	r.Backends = wedgeShares(t, ver)
	r.Pass = t.bool("pass", false)
	r.TTL, r.SWR = t.optionalDuration("ttl"), t.optionalDuration("swr")
	r.Query = wedgeQuery(t)
	r.Request, r.Response = wedgeEdit(t, "request"), wedgeEdit(t, "response")
	t.done()
	return r
}

// wedgeMatch reads which requests a rule is about.
func wedgeMatch(t *table) (path string, hosts, methods []string) {
	path = t.str("path")
	if path != "" && path[0] != '/' && path[0] != '*' {
		t.fail(`Begin it with a slash or a star, such as "/static/*".`, "path %q cannot match", path)
	}
	for _, h := range t.strs("hosts") {
		hosts = append(hosts, strings.ToLower(h))
	}
	return path, hosts, t.strs("methods")
}

func (t *table) optionalDuration(key string) *time.Duration {
	if !t.has(key) {
		return nil
	}
	d := t.duration(key)
	return &d
}

func wedgeRedirect(t *table, r *wedge.Rule) {
	r.Redirect, r.Status = t.str("redirect"), int(t.int("status", 301, 308))
	if r.Redirect == "" {
		return
	}
	if r.Status == 0 {
		r.Status = http.StatusFound
	}
	if _, err := url.Parse(r.Redirect); err != nil || strings.ContainsAny(r.Redirect, "\r\n ") {
		t.fail(`Write a URL; $path and $query stand for the request's.`, "redirect to %q", r.Redirect)
	}
	switch r.Status {
	case 301, 302, 303, 307, 308:
	default:
		t.fail("Write 301, 302, 303, 307 or 308.", "status %d is no redirect", r.Status)
	}
}

// wedgeShares reads backend = "a", or ["a", "b"] to take turns, or { a = 90, b = 10 } in percent.
func wedgeShares(t *table, ver *wedge.Version) (shares []wedge.Share) {
	v, ok := t.get("backend")
	if !ok {
		return nil
	}
	add := func(name value, backend string, percent int) {
		if _, known := ver.Backend(backend); !known {
			name.fail("Name one of [backends].", "no backend %q", backend)
		}
		shares = append(shares, wedge.Share{Backend: backend, Percent: percent})
	}
	switch v.v.(type) {
	case string:
		s, _ := v.str()
		add(v, s, 0)
	case map[string]any:
		split, _ := v.table()
		total := 0
		for _, name := range split.names() {
			n := int(split.int(name, 0, 100))
			total += n
			add(v, name, n)
		}
		if total != 100 {
			v.fail("Percentages add up to 100.", "the shares add up to %d", total)
		}
	default:
		list, _ := v.list()
		for _, e := range list {
			if s, ok := e.str(); ok {
				add(e, s, 0)
			}
		}
	}
	return shares
}

// wedgeQuery reads query = "all", "none" or a list of the parameters to keep.
func wedgeQuery(t *table) *wedge.Query {
	v, ok := t.get("query")
	if !ok {
		return nil
	}
	s, isText := v.v.(string)
	switch {
	case isText && s == "all":
		return nil
	case isText && s == "none":
		return &wedge.Query{}
	case isText:
		v.fail(`Write "all", "none" or a list of parameters to keep.`, "unknown query policy %q", s)
		return nil
	}
	return &wedge.Query{Keep: v.strs()}
}

func wedgeEdit(t *table, key string) (e wedge.HeaderEdit) {
	v, ok := t.get(key)
	if !ok {
		return e
	}
	sub, ok := v.table()
	if !ok {
		return e
	}
	e.Remove = sub.strs("remove")
	sub.each("set", func(name string, v value) {
		if s, ok := v.str(); ok {
			if strings.ContainsAny(name, " :\r\n") || strings.ContainsAny(s, "\r\n\x00") {
				v.fail("A name is a token, a value one line.", "cannot be a header field")
			}
			putIn(&e.Set, http.CanonicalHeaderKey(name), s)
		}
	})
	sub.done()
	return e
}

// wedgeErrors reads the pages shown in the place of Wedge's own errors: status = file.
func wedgeErrors(t *table, ver *wedge.Version) {
	t.each("errors", func(name string, v value) {
		status, err := strconv.Atoi(name)
		if name == "any" {
			status, err = 0, nil
		}
		if err != nil || status != 0 && (status < 400 || status > 599) {
			v.fail(`Write a status from 400 to 599, or any.`, "%q is no error status", name)
			return
		}
		if body, ok := v.file(maxPage); ok {
			file, _ := v.str()
			kind := mime.TypeByExtension(filepath.Ext(file))
			if kind == "" {
				kind = "text/plain; charset=utf-8"
			}
			putIn(&ver.ErrorPages, status, wedge.Page{Type: kind, Body: body})
		}
	})
}

// dir reads the directory that a backend answers with in the place of an origin.
func (t *table) dir(ver *wedge.Backend) {
	v, ok := t.get("dir")
	if !ok {
		return
	}
	s, ok := v.str()
	if !ok {
		return
	}
	if ver.Dir = v.d.rel(s); s == "" {
		v.fail("Name a directory; the path is relative to this file.", "empty path")
		return
	}
	if info, err := os.Stat(ver.Dir); err != nil || !info.IsDir() {
		v.fail("Create it, or give another path.", "no directory %s", ver.Dir)
	}
}
