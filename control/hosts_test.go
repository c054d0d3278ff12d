package control

import (
	"slices"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// versionOf is an artifact whose part "version" has these bytes.
func versionOf(b []byte) (*Artifact, func(Digest) ([]byte, error)) {
	p := Part{Name: "version", Size: int64(len(b))}
	kept := map[Digest][]byte{}
	for chunk := range slices.Chunk(b, MaxChunk) {
		d := DigestOf(chunk)
		kept[d] = chunk
		p.Chunks = append(p.Chunks, Chunk{d, len(chunk)})
	}
	return &Artifact{Parts: []Part{p}}, func(d Digest) ([]byte, error) { return kept[d], nil }
}

// FuzzHosts: whatever the bytes, what the core reads off a version is what PoPs read, and they could answer for it.
func FuzzHosts(f *testing.F) {
	for _, v := range []*wedge.Version{{Service: "shop"}, {Service: "shop", Hosts: []string{"Shop.example", "*.shop.example.", "*", "[::1]"}}, {Service: "other"}, {Service: "shop", Hosts: []string{"a b"}}} {
		b, err := encoding.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\xa2\x65Hosts\x81\x61a\x65hosts\x81\x61b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, get := versionOf(b)
		if a.Check() != nil {
			return
		}
		hosts, err := a.Hosts("shop", get)
		if err != nil {
			if wedge.KindOf(err) != wedge.Invalid {
				t.Error(err)
			}
			return
		}
		v := new(wedge.Version)
		if decode(b, v) != nil {
			return // no PoP runs it
		}
		if v.Service != "shop" {
			t.Errorf("it is of %q", v.Service)
		}
		for _, h := range v.Hosts {
			if !slices.Contains(hosts, strings.TrimSuffix(strings.ToLower(h), ".")) {
				t.Errorf("PoPs read %q, the core %q", v.Hosts, hosts)
			}
		}
	})
}

// TestHostsBounded: names of hostile form, many of them, and a part that is too large are refused.
func TestHostsBounded(t *testing.T) {
	many := make([]string, maxHosts+1)
	for i := range many {
		many[i] = "a.example"
	}
	for name, hosts := range map[string][]string{
		"empty": {""}, "a dot": {"."}, "dots": {"a..b"}, "a path": {"a/b"}, "a port": {"a:80"}, "a line": {"a\nb"}, "a NUL": {"a\x00"}, "a wildcard within": {"a.*.b"}, "two dots at the end": {"a.."},
		"long": {strings.Repeat("a", 256)}, "look-alike": {"sh\u043ep.example"}, "many": many,
	} {
		b, err := encoding.Marshal(&wedge.Version{Service: "shop", Hosts: hosts})
		if err != nil {
			t.Fatal(err)
		}
		a, get := versionOf(b)
		if got, err := a.Hosts("shop", get); wedge.KindOf(err) != wedge.Invalid || err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	large := &Artifact{Parts: []Part{{Name: "version", Size: maxVersionPart + 1}}}
	if _, err := large.Hosts("shop", nil); wedge.KindOf(err) != wedge.Invalid {
		t.Error(err)
	}
	a, _ := versionOf([]byte("x"))
	if _, err := a.Hosts("shop", func(Digest) ([]byte, error) { return []byte("y"), nil }); err == nil {
		t.Error("another chunk was taken")
	}
}
