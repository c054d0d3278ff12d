package manifest

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

const (
	collectPath   = "/.well-known/collect"
	collectSeries = 500
)

// wedgeCollect reads what clients may report, and how that is added up: [collect.NAME].
func wedgeCollect(t *table, ver *wedge.Version) {
	paths := map[string]bool{}
	t.each("collect", func(name string, v value) {
		c, ok := v.table()
		if !ok {
			return
		}
		if !nameRule.MatchString(name) {
			v.fail("A name has 1 to 63 of a-z 0-9 and dashes between them.", "bad name %q", name)
		}
		one := collectOf(c, name, ver)
		if paths[one.Path] {
			v.fail("Give each a path of its own.", "another has the path %s", one.Path)
		}
		paths[one.Path] = true
		ver.Collect = append(ver.Collect, one)
	})
	if len(ver.Collect) > wedge.MaxCollects {
		t.fail("", "%d collections, at most %d", len(ver.Collect), wedge.MaxCollects)
	}
}

func collectOf(t *table, name string, ver *wedge.Version) wedge.Collect {
	c := wedge.Collect{Name: name, Path: t.str("path"), Window: t.duration("window"), Sample: 1, SampleBy: t.str("sample_by"), ID: t.str("id"),
		By: t.strs("by"), Series: int(t.int("series", 1, wedge.MaxCollectSeries)), Origins: t.strs("origins")}
	if c.Path == "" {
		c.Path = collectPath
	}
	if !strings.HasPrefix(c.Path, "/") {
		t.fail("It is the path of a URL, such as /beacon.", "bad path %q", c.Path)
	}
	if c.Window == 0 {
		c.Window = 10 * time.Second
	}
	if c.Window < time.Second || c.Window > 10*time.Second || c.Window%time.Second != 0 {
		t.fail(`Write whole seconds from "1s" to "10s".`, "a window of %v", c.Window)
		c.Window = time.Second
	}
	if c.Series == 0 {
		c.Series = collectSeries
	}
	if n := t.number("sample"); n != nil {
		if c.Sample = *n; !(c.Sample >= 1e-6 && c.Sample <= 1) {
			t.fail("Write a share, such as 0.1 for a tenth.", "a sample of %v", c.Sample)
		}
	}
	if len(c.By) > wedge.MaxCollectBy {
		t.fail("", "%d dimensions, at most %d", len(c.By), wedge.MaxCollectBy)
	}
	for _, f := range append(slices.Clone(c.By), c.ID, c.SampleBy) {
		if len(f) > 64 || strings.HasPrefix(f, "@") && f != "@pop" {
			t.fail("Name a field of events, or @pop.", "no field %q", f)
		}
	}
	for _, o := range c.Origins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Path != "" {
			t.fail("Write it as https://www.example.com.", "%q is no origin", o)
		}
	}
	collectMetrics(t, &c)
	collectWhere(t, &c)
	collectSink(t, &c, ver)
	t.done()
	return c
}

// collectMetrics reads metrics.NAME = "quantiles", or { field = "a.b", kind = "quantiles" }.
func collectMetrics(t *table, c *wedge.Collect) {
	t.each("metrics", func(name string, v value) {
		m := wedge.CollectMetric{Name: name, Field: name}
		kind, short := v.v.(string)
		if !short {
			sub, ok := v.table()
			if !ok {
				return
			}
			kind = sub.str("kind")
			if f := sub.str("field"); f != "" {
				m.Field = f
			}
			sub.done()
		}
		var ok bool
		if m.Kind, ok = wedge.ParseCollectKind(kind); !ok || len(name) > 64 || name == "" {
			v.fail(`Write "sum", "quantiles", "top" or "distinct".`, "unknown metric %q", kind)
		}
		c.Metrics = append(c.Metrics, m)
	})
	if len(c.Metrics) > wedge.MaxCollectMetrics {
		t.fail("", "%d metrics, at most %d", len(c.Metrics), wedge.MaxCollectMetrics)
	}
}

// collectWhere reads where.FIELD = "value", or { equals, prefix, min, max, exists }.
func collectWhere(t *table, c *wedge.Collect) {
	t.each("where", func(field string, v value) {
		w := wedge.CollectWhere{Field: field}
		if s, ok := v.v.(string); ok {
			w.Equals = []string{s}
		} else if sub, ok := v.table(); ok {
			w.Equals, w.Prefix, w.Absent = sub.strs("equals"), sub.str("prefix"), !sub.bool("exists", true)
			w.Min, w.Max = sub.number("min"), sub.number("max")
			sub.done()
		}
		c.Where = append(c.Where, w)
	})
}

// collectSink reads sink = { backend, path, token }, or { name }.
func collectSink(t *table, c *wedge.Collect, ver *wedge.Version) {
	v, ok := t.get("sink")
	if !ok {
		return
	}
	sub, ok := v.table()
	if !ok {
		return
	}
	s := wedge.CollectSink{Backend: sub.str("backend"), Path: sub.str("path"), Name: sub.str("name")}
	if token, ok := sub.get("token"); ok {
		s.Token, _ = wedgeSecret(token)
	}
	sub.done()
	switch at := slices.IndexFunc(ver.Backends, func(b wedge.Backend) bool { return b.Name == s.Backend }); {
	case (s.Backend == "") == (s.Name == ""):
		v.fail(`Write { backend = "NAME", path = "/events" }, or { name = "NAME" } of a sink that the nodes' operator has.`, "a sink is a backend or has a name")
	case s.Name != "":
		if !nameRule.MatchString(s.Name) || s.Path != "" || s.Token != nil {
			v.fail("A name has 1 to 63 of a-z 0-9 and dashes between them, and nothing beside it.", "bad sink %q", s.Name)
		}
	case at < 0 || ver.Backends[at].URL == nil:
		v.fail("Add [backends."+s.Backend+"] with a url.", "no backend %q", s.Backend)
	default:
		if s.Path == "" {
			s.Path = "/"
		}
		if _, err := url.ParseRequestURI(s.Path); err != nil || !strings.HasPrefix(s.Path, "/") {
			v.fail("It is the path of a URL, such as /events.", "bad path %q", s.Path)
		}
	}
	c.Sink = s
}

// number reads a number; nil if the key is not there.
func (t *table) number(key string) *float64 {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	switch n := v.v.(type) {
	case float64:
		return &n
	case int64:
		f := float64(n)
		return &f
	}
	v.expected("a number", "Write digits, without quotes.")
	return nil
}
