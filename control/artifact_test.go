package control

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func someVersion(t *testing.T) *wedge.Version {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "css"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"index.html": "<h1>hello", "css/a.css": "a{}", "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ttl := 5 * time.Second
	origin := &url.URL{Scheme: "https", Host: "origin.example:8443", Path: "/base"}
	guest := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range guest {
		guest[i] = byte(r.UintN(64))
	}
	return &wedge.Version{
		Service: "shop", Hosts: []string{"shop.example"}, GeoDatabase: []byte("where things are"), Guest: guest, Args: []string{"a"}, Env: map[string]string{"A": "B"},
		Backends: []wedge.Backend{{Name: "site", Dir: dir}, {Name: "origin", URL: origin, ConnectTimeout: time.Second}},
		Rules:    []wedge.Rule{{Path: "/a", TTL: &ttl, Backends: []wedge.Share{{Backend: "site"}}}},
		Egress:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, SecretStores: map[string]map[string]wedge.Secret{"s": {"k": wedge.Secret("hush")}},
		Geo: map[netip.Addr]json.RawMessage{netip.MustParseAddr("192.0.2.1"): json.RawMessage(`{"a":1}`)}, ErrorPages: map[int]wedge.Page{0: {Type: "text/html", Body: []byte("sorry")}},
		KVStores: map[string][]wedge.KVSeed{"kv": {{Key: "k", Value: []byte("v")}}}, APIKeys: []wedge.Secret{wedge.Secret("key")},
	}
}

// TestArtifact packs a version and unpacks it elsewhere.
func TestArtifact(t *testing.T) {
	v := someVersion(t)
	chunks := OpenChunks(t.TempDir())
	a, err := Pack(v, nil, chunks.Keep)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Pack(v, nil, chunks.Keep); err != nil || again.Digest() != a.Digest() {
		t.Error("the same version is another artifact", err)
	}
	dir := t.TempDir()
	got, err := a.Unpack(dir, nil, chunks.Get)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(got.Backends[0].Dir, "css", "a.css")); err != nil || string(b) != "a{}" {
		t.Errorf("%q %v", b, err)
	}
	got.Backends[0].Dir = v.Backends[0].Dir
	if !bytes.Equal(got.Guest, v.Guest) {
		t.Error("the guest is another one")
	}
	got.Guest, v.Guest = nil, nil
	if !reflect.DeepEqual(got, v) {
		t.Errorf("%+v\n%+v", got, v)
	}
}

// TestArtifactShares: a guest that changed a little brings little.
func TestArtifactShares(t *testing.T) {
	v := someVersion(t)
	kept := map[Digest]int{}
	keep := func(d Digest, b []byte) error {
		kept[d] = len(b)
		return nil
	}
	if _, err := Pack(v, nil, keep); err != nil {
		t.Fatal(err)
	}
	before := len(kept)
	v.Guest = append(append(bytes.Clone(v.Guest[:500_000]), "something new"...), v.Guest[500_000:]...)
	if _, err := Pack(v, nil, keep); err != nil {
		t.Fatal(err)
	}
	if fresh := len(kept) - before; fresh > 3 || before < 8 {
		t.Errorf("%d chunks, and %d more for 13 bytes", before, fresh)
	}
}

// TestArtifactHostile: names that lead elsewhere, lies about sizes and damaged chunks are refused.
func TestArtifactHostile(t *testing.T) {
	ok := Chunk{DigestOf([]byte("x")), 1}
	part := func(name string) Part { return Part{name, 1, []Chunk{ok}} }
	for name, a := range map[string]Artifact{
		"nothing": {}, "no version": {Parts: []Part{part("guest")}}, "outside": {Parts: []Part{part("version"), part("files/../../etc/passwd")}},
		"absolute": {Parts: []Part{part("version"), part("/etc/passwd")}}, "twice": {Parts: []Part{part("version"), part("version")}},
		"short": {Parts: []Part{{"version", 2, []Chunk{ok}}}}, "large": {Parts: []Part{{"version", 1 << 30, []Chunk{{ok.Digest, 1 << 30}}}}},
		"digest": {Parts: []Part{{"version", 1, []Chunk{{"../x", 1}}}}}, "drive": {Parts: []Part{part("version"), part(`files/c:\x`)}},
	} {
		if err := a.Check(); wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := Artifact{Parts: []Part{part("version")}}
	if _, err := a.Unpack(t.TempDir(), nil, func(Digest) ([]byte, error) { return []byte("y"), nil }); err == nil {
		t.Error("a chunk with other bytes was taken")
	}
	if _, err := a.Unpack(t.TempDir(), nil, func(Digest) ([]byte, error) { return []byte("x"), nil }); wedge.KindOf(err) != wedge.Invalid {
		t.Error(err)
	}
}

func TestChunks(t *testing.T) {
	c := OpenChunks(t.TempDir())
	b := bytes.Repeat([]byte("text "), 1000)
	d := DigestOf(b)
	if err := c.Keep(d, b); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(d); err != nil || !bytes.Equal(got, b) {
		t.Error(err)
	}
	packed, err := c.Packed(d)
	if err != nil || len(packed) > len(b)/4 {
		t.Error(len(packed), err)
	}
	other := OpenChunks(t.TempDir())
	if err := other.KeepPacked(d, packed[:len(packed)-1]); err == nil {
		t.Error("half a chunk was taken")
	}
	if err := other.KeepPacked(d, packed); err != nil || !other.Has(d) {
		t.Error(err)
	}
	if err := c.Keep(d, []byte("another")); wedge.KindOf(err) != wedge.Invalid {
		t.Error(err)
	}
	if _, err := c.Get(DigestOf(nil)); wedge.KindOf(err) != wedge.NotExist {
		t.Error(err)
	}
	if err := os.WriteFile(c.file(d), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(d); wedge.KindOf(err) != wedge.Internal || c.Has(d) {
		t.Error("damaged, and still there", err)
	}
}
