package manifest

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/wedge-cloud/wedge"
)

var update = flag.Bool("update", false, "write what is seen as what is wanted")

// TestTranscripts loads each archive's files as an app and compares what comes of it, a
// version or faults, with the archive's last file, "want".
func TestTranscripts(t *testing.T) {
	t.Setenv("WEDGE_TEST_SECRET", "from-the-environment")
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "app")
			last := len(ar.Files) - 1
			want := ar.Files[last]
			if want.Name != "want" {
				t.Fatal("the last file must be want")
			}
			if err := txtar.Write(&txtar.Archive{Files: ar.Files[:last]}, dir); err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(outcome(dir), dir+string(filepath.Separator), "")
			if strings.Contains(got, "hush-hush") {
				t.Error("a secret is in the output")
			}
			if *update {
				ar.Files[last].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want.Data) {
				t.Errorf("got\n%s\nwant\n%s", got, want.Data)
			}
		})
	}
}

// outcome writes what Load makes of an app, one line per set field, warning or fault.
func outcome(dir string) string {
	app, err := Load(dir)
	var b strings.Builder
	if err != nil {
		for _, e := range unjoin(err) {
			fmt.Fprintf(&b, "%s: %v\n", wedge.KindOf(e), e)
			if h := wedge.HintOf(e); h != "" {
				fmt.Fprintf(&b, "  hint: %s\n", h)
			}
		}
		return b.String()
	}
	show(&b, "", reflect.ValueOf(app.Version))
	show(&b, "Build", reflect.ValueOf(app.Build))
	fmt.Fprintf(&b, "guest = %s\n", app.GuestPath)
	for _, w := range app.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

func show(b *strings.Builder, name string, v reflect.Value) {
	if v.IsZero() {
		return
	}
	switch x := v.Interface().(type) {
	case *url.URL, time.Duration, netip.Prefix, netip.Addr, wedge.Secret, wedge.Start:
		fmt.Fprintf(b, "%s = %v\n", name, x)
		return
	}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		s, _, cut := strings.Cut(string(v.Bytes()), "\n")
		if cut {
			s += " ..."
		}
		fmt.Fprintf(b, "%s = %s\n", name, s)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		show(b, name, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			show(b, strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			fmt.Fprintf(b, "%s = empty\n", name)
		}
		for i := range v.Len() {
			show(b, fmt.Sprintf("%s[%d]", name, i), v.Index(i))
		}
	case reflect.Map:
		if v.Len() == 0 {
			fmt.Fprintf(b, "%s = empty\n", name)
		}
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return fmt.Sprint(keys[i]) < fmt.Sprint(keys[j]) })
		for _, k := range keys {
			elem := v.MapIndex(k)
			if elem.IsZero() {
				fmt.Fprintf(b, "%s.%v = zero\n", name, k)
			}
			show(b, fmt.Sprintf("%s.%v", name, k), elem)
		}
	default:
		fmt.Fprintf(b, "%s = %v\n", name, v.Interface())
	}
}

// TestSample parses the sample that the documentation shows, and sees that it has every key.
func TestSample(t *testing.T) {
	app, err := Load("testdata/sample")
	if err != nil {
		t.Fatal(err)
	}
	if len(app.Warnings) > 0 {
		t.Errorf("warnings: %q", app.Warnings)
	}
	got := app.Version.Limits
	if got != wedge.DefaultLimits {
		t.Errorf("the sample says that its limits are the defaults; they are %+v", wedge.DefaultLimits)
	}
	b := app.Version.Backends[0]
	for name, same := range map[string]bool{
		"connect_timeout":       b.ConnectTimeout == wedge.DefaultConnectTimeout,
		"first_byte_timeout":    b.FirstByteTimeout == wedge.DefaultFirstByteTimeout,
		"between_bytes_timeout": b.BetweenBytesTimeout == wedge.DefaultBetweenBytesTimeout,
		"keepalive":             b.KeepAlive == wedge.DefaultKeepAlive,
		"tls":                   b.TLS.SNI != "" && b.TLS.CACertificate != nil && b.TLS.ClientKey != nil && b.TLS.Ciphers != "",
		"health_check":          b.HealthCheck != nil && b.HealthCheck.Initial == 4,
		"scope":                 app.Version.Stores["pages"].Scope == wedge.ScopeMerge,
		"sessions":              app.Version.Sessions.TTL == wedge.DefaultSessionTTL && app.Version.Sessions.Cookie == wedge.DefaultSessionCookie && app.Version.Sessions.Lost == wedge.LostStandby,
		"secrets":               string(app.Version.SecretStores["payment"]["key"]) == "not-a-real-payment-key",
	} {
		if !same {
			t.Errorf("%s of the sample is not what its comment says", name)
		}
	}
	sampleHasEveryKey(t)
}

// sampleHasEveryKey plants an unknown key in each table of the sample: the hint then lists
// the keys that the reader knows there, all of which must stand in the sample.
func sampleHasEveryKey(t *testing.T) {
	data, err := os.ReadFile("testdata/sample/wedge.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{"", "[limits]", "[backends.origin]", "[backends.origin.tcp_keepalive]", "[backends.origin.tls]", "[backends.origin.health_check]", "[stores.pages]", "[sessions]"} {
		text := strings.Replace(string(data), header, header+"\nqqqqqqqqqqqq = 1\n", 1)
		_, err := parseWedge("testdata/sample/wedge.toml", text)
		known, ok := strings.CutPrefix(wedge.HintOf(err), "Known keys here: ")
		if !ok {
			t.Fatalf("%s: %v", header, err)
		}
		for _, key := range strings.Split(strings.TrimSuffix(known, "."), ", ") {
			if !regexp.MustCompile(`(?m)^(# )?(\[?[a-z_.]+\.|\[{1,2})?` + key + `\b`).Match(data) {
				t.Errorf("the sample lacks %s %s", header, key)
			}
		}
	}
}

// TestSampleCDN: the sample of a service without a guest is whole, and read as it says.
func TestSampleCDN(t *testing.T) {
	data, err := os.ReadFile("testdata/sample/cdn.toml")
	if err != nil {
		t.Fatal(err)
	}
	app, err := parseWedge("testdata/sample/cdn.toml", string(data))
	if err != nil {
		t.Fatal(err)
	}
	v := &app.Version
	if len(v.Rules) != 5 || v.Rules[0].Backends[0].Backend != "origin" || v.Rules[2].Backends[0] != (wedge.Share{Backend: "blue", Percent: 10}) ||
		!v.Rules[3].Pass || v.Rules[4].Status != 301 || len(v.ErrorPages) != 2 {
		t.Errorf("rules %+v, pages %v", v.Rules, v.ErrorPages)
	}
	text := strings.Replace(string(data), "[[rules]]", "[[rules]]\nqqqqqqqqqqqq = 1\n", 1)
	_, err = parseWedge("testdata/sample/cdn.toml", text)
	known, _ := strings.CutPrefix(wedge.HintOf(err), "Known keys here: ")
	for _, key := range strings.Split(strings.TrimSuffix(known, "."), ", ") {
		if !regexp.MustCompile(`(?m)^` + key + `\b`).Match(data) {
			t.Errorf("the sample lacks %s", key)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("both/wedge.toml", `language = "go"`)
	write("both/fastly.toml", `name = "other"`)
	write("local.toml", "name = \"local\"\nauthors = []\n[local_server.backends.b]\nurl = \"http://b.example\"\n")
	write("empty/readme", "")
	bare := write("bare/My App.wasm", string(coreMagic))
	named := write("named/prod.toml", `language = "go"`)
	for _, c := range []struct {
		path, service, file string
		kind                wedge.Kind // of the error, if service is ""
	}{
		{path: filepath.Join(dir, "both"), service: "both", file: "wedge.toml"},
		{path: filepath.Join(dir, "both", "fastly.toml"), service: "other", file: "fastly.toml"},
		{path: filepath.Join(dir, "local.toml"), service: "local", file: "local.toml"},
		{path: bare, service: "my-app", file: "My App.wasm"},
		{path: named, service: "named", file: "prod.toml"},
		{path: filepath.Join(dir, "empty"), kind: wedge.NotExist},
		{path: filepath.Join(dir, "nowhere"), kind: wedge.NotExist},
		{path: filepath.Join(dir, "empty", "readme"), kind: wedge.Invalid},
	} {
		app, err := Load(c.path)
		if c.service == "" {
			if wedge.KindOf(err) != c.kind || wedge.HintOf(err) == "" {
				t.Errorf("%s: got %v, hint %q", c.path, err, wedge.HintOf(err))
			}
			continue
		}
		if err != nil || app.Version.Service != c.service || filepath.Base(app.File) != c.file {
			t.Errorf("%s: got %+v, %v", c.path, app, err)
		}
	}
}

func TestReadGuest(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, text string
		kind       wedge.Kind
		ok         bool
	}{
		{name: "core", text: string(coreMagic) + "more", ok: true},
		{name: "component", text: string(componentMagic) + "more", kind: wedge.Unsupported},
		{name: "future", text: "\x00asm\x02\x00\x00\x00", kind: wedge.Invalid},
		{name: "text", text: "(module)", kind: wedge.Invalid},
		{name: "short", text: "\x00as", kind: wedge.Invalid},
		{name: "missing", kind: wedge.NotExist},
	} {
		app := &App{GuestPath: filepath.Join(dir, c.name)}
		if c.text != "" {
			if err := os.WriteFile(app.GuestPath, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := app.ReadGuest()
		if c.ok && (err != nil || string(got) != c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.ok && (wedge.KindOf(err) != c.kind || wedge.HintOf(err) == "") {
			t.Errorf("%s: got %v (%v), hint %q", c.name, err, wedge.KindOf(err), wedge.HintOf(err))
		}
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, coreMagic, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, MaxGuest+1); err != nil {
		t.Fatal(err)
	}
	if _, err := (&App{GuestPath: huge}).ReadGuest(); wedge.KindOf(err) != wedge.Exhausted {
		t.Errorf("a guest over the limit: %v", err)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"url", "host", "connect_timeout", "first_byte_timeout", "grpc"}
	for key, want := range map[string]string{
		"urll": "url", "Host": "host", "conect_timeout": "connect_timeout", "connect-timeout": "connect_timeout",
		"gprc": "grpc", "timeout_of_the_first_byte": "", "colour": "", strings.Repeat("x", 100): "", "": "",
	} {
		if got := nearest(key, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestServiceName(t *testing.T) {
	for in, want := range map[string]string{"My App": "my-app", "--": "app", "": "app", "Ünï 1": "n-1", "a_b.c": "a-b-c", strings.Repeat("x", 99): strings.Repeat("x", 63)} {
		got := ServiceName(in)
		if got != want || !nameRule.MatchString(got) {
			t.Errorf("ServiceName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFaultsAreBoundedAndJoined(t *testing.T) {
	var text strings.Builder
	text.WriteString("language = \"go\"\n")
	for i := range 50 {
		fmt.Fprintf(&text, "bad%d = 1\n", i)
	}
	_, err := parseWedge("wedge.toml", text.String())
	all := unjoin(err)
	if len(all) != maxFaults+1 || !strings.Contains(err.Error(), "and 40 more") || wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("%d errors: %v", len(all), err)
	}
	var e *wedge.Error
	if !errors.As(err, &e) {
		t.Error("no wedge.Error in it")
	}
}

// TestSettings: a [stores.NAME] for a config or secret store makes that one in which can be written; it makes no KV store.
func TestSettings(t *testing.T) {
	load := func(text string) (*App, error) {
		file := filepath.Join(t.TempDir(), "wedge.toml")
		if err := os.WriteFile(file, []byte("name = \"shop\"\nlanguage = \"go\"\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
		return Load(file)
	}
	app, err := load("[config.flags]\nbeta = \"no\"\n[secrets.keys]\n[stores.flags]\nscope = \"core\"\n[stores.keys]\n[stores.pages]\n")
	if err != nil {
		t.Fatal(err)
	}
	v := &app.Version
	if _, kv := v.KVStores["pages"]; len(v.KVStores) != 1 || !kv || v.Stores["flags"].Scope != wedge.ScopeCore || len(v.Stores) != 3 {
		t.Errorf("%+v %+v", v.KVStores, v.Stores)
	}
	held := v.Held()
	if len(held) != 3 || len(held["flags"]) != 1 || string(held["flags"][0].Value) != "no" || len(held["keys"]) != 0 {
		t.Errorf("%+v", held)
	}
	for text, want := range map[string]string{
		"[config.a]\n[secrets.a]\n[stores.a]\n":                "more than one of a KV, a config and a secret store",
		"[config.a]\n[kv.a]\n[stores.a]\n":                     "more than one of a KV, a config and a secret store",
		"[secrets.a]\n[stores.a]\njurisdiction = \"eu\"\n":     "in no jurisdiction",
		"[config.a]\n[stores.a]\nscope = \"everywhere\"\n":     "unknown scope",
		"[config.a]\n[stores.a]\nscope = \"core\"\nkind = 1\n": "kind",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
