package manifest

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/wedge-cloud/wedge"
)

var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// parseWedge reads a wedge.toml.
func parseWedge(file, text string) (*App, error) {
	r := &report{}
	t := parseTOML(file, text, r)
	if t == nil {
		return nil, r.err()
	}
	app := &App{Dir: filepath.Dir(file), File: file}
	ver := &app.Version
	ver.Service = wedgeName(t, app.Dir)
	wedgeGuest(t, app)
	wedgeHosts(t, ver)
	ver.Args = t.strs("args")
	ver.Concurrency = int(t.int("concurrency", 1, 1<<20))
	wedgeEnv(t, ver)
	wedgeLimits(t, &ver.Limits)
	t.each("backends", func(name string, v value) {
		if b, ok := wedgeBackend(name, v); ok {
			ver.Backends = append(ver.Backends, b)
		}
	})
	ver.DynamicBackend = t.bool("dynamic_backends", false)
	wedgeEgress(t, ver)
	wedgeBindings(t, ver)
	wedgeCache(t, ver)
	if app.GuestPath == "" {
		wedgeCDN(t, ver)
	}
	wedgeTables(t, ver)
	wedgeEvents(t, ver)
	wedgeSessions(t, app)
	if v, ok := t.get("apologies"); ok {
		if ver.Apologies, _ = v.str(); !strings.HasPrefix(ver.Apologies, "/") || strings.ContainsAny(ver.Apologies, "?#") {
			v.fail("Write the path at which the service takes them, such as \"/apologies\".", "%q is not a path", ver.Apologies)
		}
	}
	wedgeCollect(t, ver)
	wedgeRates(t, ver)
	app.watch(t.strs("watch"), r)
	t.done()
	app.Warnings = r.warnings
	return app, r.err()
}

func wedgeName(t *table, dir string) string {
	v, ok := t.get("name")
	if !ok {
		if abs, err := filepath.Abs(dir); err == nil {
			dir = abs
		}
		return ServiceName(filepath.Base(dir))
	}
	name, ok := v.str()
	if ok && !nameRule.MatchString(name) {
		v.fail("A service's name has 1 to 63 of a-z 0-9 and dashes between them.", "bad name %q", name)
	}
	if slices.Contains(wedge.ReservedNames, name) {
		v.fail("Guests reach something of Wedge's own at "+name+".wedge.internal: choose another.", "the name %q is reserved", name)
	}
	return name
}

// wedgeGuest reads what the guest is, how it is built and how it starts.
func wedgeGuest(t *table, app *App) {
	app.Build.Command = t.str("build")
	if v, ok := t.get("language"); ok {
		lang, ok := v.str()
		if _, known := languages[lang]; ok && !known {
			v.fail(`Write one of "go", "js", "rust" and "c"; for others set build and guest.`, "unknown language %q", lang)
		}
		app.Build.Language = lang
	}
	guest := t.str("guest")
	if guest == "" {
		if app.Build.none() {
			return // a service without a guest: see wedgeCDN
		}
		guest = ".wedge/guest.wasm"
	}
	app.GuestPath = t.d.rel(guest)
	if v, ok := t.get("start"); ok {
		s, _ := v.str()
		start, err := wedge.ParseStart(s)
		if err != nil {
			v.fail(wedge.HintOf(err), "unknown start %q", s)
		}
		app.Version.Start = start
	}
}

// wedgeCDN reads where a service without a guest has its responses from, and how they are changed.
func wedgeCDN(t *table, ver *wedge.Version) {
	if len(ver.Backends) == 0 {
		t.fail(`Add language = "go" (or js, rust, c) or guest = "app.wasm" for a guest, or [backends.origin] for a service without one.`, "no guest and no backend")
		return
	}
	shares := wedgeShares(t, ver)
	if shares == nil {
		name := ver.Backends[0].Name
		if _, ok := ver.Backend("origin"); ok {
			name = "origin"
		} else if len(ver.Backends) > 1 {
			t.fail(`Add backend = "NAME", or call one of them origin.`, "several backends, and which one answers is not said")
		}
		shares = []wedge.Share{{Backend: name}}
	}
	ver.Rules = append(ver.Rules, wedge.Rule{Backends: shares})
	wedgeRules(t, ver)
	wedgeErrors(t, ver)
}

// wedgeCache reads how the service's fetches are cached.
func wedgeCache(parent *table, ver *wedge.Version) {
	v, ok := parent.get("cache")
	if !ok {
		return
	}
	t, ok := v.table()
	if !ok {
		return
	}
	if v, ok := t.get("profile"); ok {
		switch s, _ := v.str(); s {
		case "safe":
		case "rfc-strict":
			ver.CacheProfile = wedge.CacheStrict
		default:
			v.fail(`Write "safe" or "rfc-strict".`, "unknown profile %q", s)
		}
	}
	ver.Compress = t.bool("compress", false)
	ver.Prefetch = t.bool("prefetch", false)
	t.done()
}

func wedgeHosts(t *table, ver *wedge.Version) {
	hosts, ok := t.get("hosts")
	if !ok {
		return
	}
	list, _ := hosts.list()
	for _, v := range list {
		s, ok := v.str()
		if !ok {
			continue
		}
		host := strings.TrimSuffix(strings.ToLower(s), ".")
		if !validHost(strings.TrimPrefix(host, "*.")) {
			v.fail(`Write a host name without scheme and port, such as "www.example.com" or "*.example.com".`, "%q is not a host name", s)
		}
		ver.Hosts = append(ver.Hosts, host)
	}
}

func wedgeEnv(t *table, ver *wedge.Version) {
	t.each("env", func(name string, v value) {
		s, ok := v.str()
		if !ok {
			return
		}
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(s, "\x00"):
			v.fail("A name is not empty and has no =; neither has a NUL byte.", "cannot be an environment variable")
		case strings.HasPrefix(name, "FASTLY_"):
			v.fail("Take another name.", "names that begin with FASTLY_ are set by the host")
		}
		putIn(&ver.Env, name, s)
	})
}

func wedgeLimits(parent *table, l *wedge.Limits) {
	v, ok := parent.get("limits")
	if !ok {
		return
	}
	t, ok := v.table()
	if !ok {
		return
	}
	*l = wedge.Limits{
		CPU:              t.duration("cpu"),
		Wall:             t.duration("wall"),
		Memory:           t.size("memory", 4<<30),
		Fetches:          int(t.int("fetches", 1, 1<<20)),
		DynamicBackends:  int(t.int("dynamic_backends", 1, 1<<20)),
		HostcallBytes:    t.size("hostcall_bytes", 16<<30),
		Hostcalls:        uint64(t.int("hostcalls", 1, 1<<40)),
		HeaderBytes:      int(t.sizeFrom("header_bytes", 1<<10, 16<<20)),
		HeaderLines:      int(t.int("header_lines", 16, 4096)),
		URIBytes:         int(t.sizeFrom("uri_bytes", 64, 60_000)), // the front lets in 64,000 bytes with all else
		RequestsInReuse:  int(t.int("requests_in_reuse", 1, 1<<20)),
		ReuseIdleTimeout: t.duration("reuse_idle_timeout"),
	}
	t.done()
}

func wedgeEgress(parent *table, ver *wedge.Version) {
	v, ok := parent.get("egress")
	if !ok {
		return
	}
	t, ok := v.table()
	if !ok {
		return
	}
	if allow, ok := t.get("allow"); ok {
		list, _ := allow.list()
		for _, e := range list {
			if s, ok := e.str(); ok {
				if p, ok := e.prefix(s); ok {
					ver.Egress = append(ver.Egress, p)
				}
			}
		}
		if !ver.DynamicBackend {
			allow.warn("of no use without dynamic_backends = true: it is about the addresses that dynamic backends may reach")
		}
	}
	t.done()
}
