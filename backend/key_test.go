package backend

import (
	"crypto/tls"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// perRequest are the fields of a backend that connections do not depend on.
var perRequest = []string{
	"Name", "Dynamic", "HostOverride", "ConnectTimeout", "FirstByteTimeout", "BetweenBytesTimeout", "HealthCheck", "Health",
	"Shield", "ShieldPoP", // is another backend
	"AtPoP", "AtService", // is reached by the peers' own connections
	"Dir", // such a backend has no connections
}

// TestKeyKnowsEveryField sets each field of a backend in turn, so that a field added
// later cannot be forgotten: connections would be shared between backends that differ.
func TestKeyKnowsEveryField(t *testing.T) {
	base := wedge.Backend{URL: &url.URL{Scheme: "https", Host: "o.test"}}
	var walk func(path string, get func(*wedge.Backend) reflect.Value)
	walk = func(path string, get func(*wedge.Backend) reflect.Value) {
		b := base
		v := get(&b)
		switch v.Interface().(type) {
		case wedge.BackendTLS:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, func(b *wedge.Backend) reflect.Value { return get(b).Field(i) })
			}
			return
		case *url.URL:
			v.Set(reflect.ValueOf(&url.URL{Scheme: "https", Host: "other.test"}))
		case *wedge.HealthCheck:
			v.Set(reflect.ValueOf(&wedge.HealthCheck{Window: 1}))
		case []netip.Prefix:
			v.Set(reflect.ValueOf(prefixes("10.0.0.0/8")))
		default:
			set(t, v)
		}
		if differs := keyOf(&b) != keyOf(&base); differs == slices.Contains(perRequest, path) {
			t.Errorf("%s makes a difference to the key: %v", path, differs)
		}
	}
	for i := range reflect.TypeFor[wedge.Backend]().NumField() {
		walk(reflect.TypeFor[wedge.Backend]().Field(i).Name, func(b *wedge.Backend) reflect.Value { return reflect.ValueOf(b).Elem().Field(i) })
	}
}

func set(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(7)
	case reflect.Slice:
		v.SetBytes([]byte("x"))
	default:
		t.Fatalf("kind %s: teach the test", v.Kind())
	}
}

func TestCiphers(t *testing.T) {
	for _, c := range []struct {
		list  string
		want  []uint16
		tls13 bool
	}{
		{"ECDHE-RSA-AES128-GCM-SHA256", []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, false},
		{"TLS_RSA_WITH_AES_128_CBC_SHA, AES256-SHA", []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA}, false},
		{"ECDHE+AESGCM:!aRSA:!AES256", []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, false},
		{"!ECDHE:ECDHE+AESGCM:AES128-SHA", []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}, false},
		{"AES128-SHA:AES256-SHA:-AES128-SHA", []uint16{tls.TLS_RSA_WITH_AES_256_CBC_SHA}, false},
		{"CHACHA20:@STRENGTH:+CHACHA20", []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}, false},
		{"TLS_AES_128_GCM_SHA256", nil, true},
		{"DHE-RSA-AES128-SHA:NULL:!", nil, false},
	} {
		got, tls13 := parseCiphers(c.list)
		if !slices.Equal(got, c.want) || tls13 != c.tls13 {
			t.Errorf("%s: got %v %v, want %v %v", c.list, got, tls13, c.want, c.tls13)
		}
	}
	if ids, _ := parseCiphers("ALL"); len(ids) != len(suites) {
		t.Error("ALL is not all")
	}
	cfg := &tls.Config{MaxVersion: tls.VersionTLS12}
	if setCiphers(cfg, "TLS_AES_128_GCM_SHA256") == nil {
		t.Error("TLS 1.3 alone with 1.2 at most must fail")
	}
}

// TestSuiteNames holds the table to crypto/tls's own names.
func TestSuiteNames(t *testing.T) {
	for _, s := range suites {
		if !s.matches(tls.CipherSuiteName(s.id)) {
			t.Errorf("%s is not known by that name", tls.CipherSuiteName(s.id))
		}
	}
}

func FuzzCiphers(f *testing.F) {
	for _, s := range []string{"HIGH:!aNULL:!MD5", "ECDHE+AESGCM:+RSA:@STRENGTH", "!:-:+::", "ALL:-ALL"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		ids, _ := parseCiphers(list)
		seen := map[uint16]bool{}
		for _, id := range ids {
			if seen[id] {
				t.Errorf("%q gives %#x twice", list, id)
			}
			seen[id] = true
		}
	})
}
