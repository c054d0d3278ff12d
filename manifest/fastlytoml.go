package manifest

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// parseFastly reads a fastly.toml: what it says of the project, and its [local_server],
// which describes the world around a guest on a laptop (ABI section 11).
func parseFastly(file, text string) (*App, error) {
	r := &report{}
	t := parseTOML(file, text, r)
	if t == nil {
		return nil, r.err()
	}
	app := &App{Dir: filepath.Dir(file), File: file, GuestPath: filepath.Join(filepath.Dir(file), "bin", "main.wasm")}
	fastlyVersion(t)
	app.Version.Service = ServiceName(t.str("name"))
	app.Build.Language = fastlyLanguages[strings.ToLower(t.str("language"))]
	if v, ok := t.get("scripts"); ok {
		fastlyScripts(v, app)
	}
	// This is the file for the laptop, and its local tool lets a guest reach anything from
	// there: guests may register backends, also for servers on this machine.
	app.Version.DynamicBackend = true
	app.Version.Egress = loopback
	app.Version.GeoLoopback = true
	app.Version.Limits.CPU = wedge.DefaultLimits.Wall // it does not count processor time either
	app.Version.Limits.Fetches = localFetches         // nor fetches
	if v, ok := t.get("local_server"); ok {
		if server, ok := v.table(); ok {
			fastlyServer(server, &app.Version)
		}
	}
	// Keys for the other tool's uses: the project's description, and [setup], which lists
	// what its deploy creates.
	t.asked = append(t.asked, "authors", "cloned_from", "description", "service_id", "profile", "setup")
	t.lenient()
	app.watch(nil, r)
	app.Warnings = r.warnings
	return app, r.err()
}

// localFetches is how many backend requests a guest may make on a laptop: more than any makes by intent.
const localFetches = 1024

// fastlyVersion refuses files of a newer format than this reader knows.
func fastlyVersion(t *table) {
	v, ok := t.get("manifest_version")
	if !ok {
		return
	}
	n, ok := v.v.(int64)
	if s, isText := v.v.(string); isText { // old files have "1" and "0.1.0"
		major, _, _ := strings.Cut(s, ".")
		var err error
		n, err = strconv.ParseInt(major, 10, 64)
		ok = err == nil
	}
	switch {
	case !ok:
		v.expected("a whole number", "Write manifest_version = 3.")
	case n > 3:
		v.fail("Use a newer wedge, or write manifest_version = 3.", "version %d is newer than this wedge knows", n)
	}
}

var fastlyLanguages = map[string]string{"go": "go", "javascript": "js", "typescript": "js", "rust": "rust"}

func fastlyScripts(v value, app *App) {
	t, ok := v.table()
	if !ok {
		return
	}
	app.Build.Command = t.str("build")
	if vars, ok := t.get("env_vars"); ok {
		list, _ := vars.list()
		for _, e := range list {
			if s, ok := e.str(); ok {
				if name, _, ok := strings.Cut(s, "="); !ok || name == "" || strings.Contains(s, "\x00") {
					e.fail("", `expected "NAME=value"`)
				}
				app.Build.Env = append(app.Build.Env, s)
			}
		}
	}
	t.asked = append(t.asked, "post_init", "post_build", "env_file")
	for _, key := range []string{"post_build", "env_file"} {
		if t.has(key) {
			v, _ := t.get(key)
			v.warn("not supported, ignored")
		}
	}
	t.lenient()
}

func fastlyServer(t *table, ver *wedge.Version) {
	t.each("backends", func(name string, v value) {
		if b, ok := fastlyBackend(name, v); ok {
			ver.Backends = append(ver.Backends, b)
		}
	})
	for _, key := range []string{"config_stores", "dictionaries"} {
		t.each(key, func(name string, v value) { fastlyConfig(ver, name, v) })
	}
	for _, key := range []string{"kv_stores", "object_stores", "object_store"} {
		t.each(key, func(name string, v value) { fastlyKV(ver, name, v) })
	}
	for _, key := range []string{"secret_stores", "secret_store"} {
		t.each(key, func(name string, v value) { fastlySecrets(ver, name, v) })
	}
	t.each("acls", func(name string, v value) { fastlyACL(ver, name, v) })
	t.each("shielding_sites", func(name string, v value) {
		if v.checkName(name) {
			putIn(&ver.Shields, name, shieldSite(v))
		}
	})
	if v, ok := t.get("geolocation"); ok {
		fastlyGeo(ver, v)
	}
	if v, ok := t.get("device_detection"); ok {
		fastlyDevices(ver, v)
	}
	for _, key := range t.strs("fake_valid_fastly_keys") {
		ver.APIKeys = append(ver.APIKeys, wedge.Secret(key))
	}
	if v, ok := t.get("pushpin"); ok {
		fastlyPushpin(v)
	}
	t.asked = append(t.asked, "viceroy_version")
	t.lenient()
}

// fastlyPushpin checks the table and ignores it: it starts a proxy beside the other tool.
func fastlyPushpin(v value) {
	t, ok := v.table()
	if !ok {
		return
	}
	enabled := t.bool("enable", false)
	t.str("path")
	t.int("proxy_port", 0, 65535)
	t.int("publish_port", 0, 65535)
	t.lenient()
	if enabled {
		v.warn("ignored: wedge starts no pushpin")
	}
}

func fastlyBackend(name string, v value) (b wedge.Backend, ok bool) {
	t, ok := v.table()
	if !ok || !v.checkName(name) {
		return b, false
	}
	b = newBackend(name)
	b.URL = t.url()
	b.HostOverride = t.host("override_host")
	b.TLS.CertHostname = t.str("cert_host")
	b.TLS.NoSNI = !t.bool("use_sni", true)
	b.GRPC = t.bool("grpc", false)
	b.FirstByteTimeout = t.millis("first_byte_timeout_ms")
	b.BetweenBytesTimeout = t.millis("between_bytes_timeout_ms")
	b.Health = t.health()
	if ca, ok := t.get("ca_certificate"); ok {
		b.TLS.CACertificate = fastlyCA(ca)
		if len(b.TLS.CACertificate) > 0 {
			ca.checkCA(b.TLS.CACertificate)
		}
	}
	if cc, ok := t.get("client_certificate"); ok {
		fastlyClientCert(cc, &b.TLS)
	}
	t.done()
	return b, true
}

// fastlyCA reads a PEM text, { file = PATH }, { value = PEM }, or an array of these.
func fastlyCA(v value) []byte {
	switch v.v.(type) {
	case string:
		return []byte(v.v.(string) + "\n")
	case map[string]any:
		t, _ := v.table()
		b := append(t.textOrPEM("value", "file"), '\n')
		t.done()
		return b
	case []any, []map[string]any:
		var all []byte
		list, _ := v.list()
		for _, e := range list {
			all = append(all, fastlyCA(e)...)
		}
		return all
	}
	v.expected("a PEM text, a table or an array", `Write { file = "ca.pem" }.`)
	return nil
}

// textOrPEM reads a PEM text from the key inline, or from the file that the key file names.
func (t *table) textOrPEM(inline, file string) []byte {
	text, hasText := t.get(inline)
	name, hasFile := t.get(file)
	if hasText == hasFile {
		t.fail("Give one of "+inline+" and "+file+".", "both or neither of %s and %s", inline, file)
		return nil
	}
	if hasFile {
		b, _ := name.file(maxPEM)
		return b
	}
	s, _ := text.str()
	return []byte(s)
}

func fastlyClientCert(v value, c *wedge.BackendTLS) {
	t, ok := v.table()
	if !ok {
		return
	}
	cert, key := t.textOrPEM("certificate", "certificate_file"), t.textOrPEM("key", "key_file")
	t.done()
	if len(cert) > 0 && len(key) > 0 {
		c.ClientCertificate, c.ClientKey = cert, key
		t.checkPair(cert, key)
	}
}

// loopback is what a laptop's own servers listen on.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
