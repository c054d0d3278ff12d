package control

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/seal"
)

// TestSealedSecrets: an artifact that was made with a fleet's key shows none of a version's secrets, wherever they are, and who has
// the fleet's keys gets all of them back.
func TestSealedSecrets(t *testing.T) {
	v := someVersion(t)
	v.Backends[1].TLS.ClientKey = wedge.Secret("client key")
	v.Events = []wedge.Event{{Secret: wedge.Secret("webhook")}, {}}
	v.Collect = []wedge.Collect{{Name: "rum", Sink: wedge.CollectSink{Backend: "origin", Token: wedge.Secret("bearer")}}}
	v.SecretStores["t"] = map[string]wedge.Secret{"a": wedge.Secret("first"), "b": wedge.Secret("second")}
	ring := new(seal.Root).Ring(1)
	pub, err := ring.Public()
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Buffer{}
	chunks := OpenChunks(t.TempDir())
	a, err := Pack(v, &pub, func(d Digest, b []byte) error {
		all.Write(b)
		return chunks.Keep(d, b)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hush", "client key", "webhook", "bearer", "first", "second"} {
		if bytes.Contains(all.Bytes(), []byte(secret)) {
			t.Errorf("%q lies open", secret)
		}
	}
	if v.SecretStores["s"]["k"].String() == "" || string(v.SecretStores["s"]["k"]) != "hush" {
		t.Error("packing a version changes it")
	}
	got, err := a.Unpack(t.TempDir(), ring, chunks.Get)
	if err != nil {
		t.Fatal(err)
	}
	got.Backends[0].Dir = v.Backends[0].Dir
	if !reflect.DeepEqual(got, v) {
		t.Errorf("%+v is not %+v", got, v)
	}
	if _, err := a.Unpack(t.TempDir(), new(seal.Root).Ring(0), chunks.Get); wedge.KindOf(err) != wedge.Unavailable {
		t.Errorf("without the key: %v", err)
	}
	other := seal.NewRoot()
	if _, err := a.Unpack(t.TempDir(), other.Ring(1), chunks.Get); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("with another fleet's: %v", err)
	}
	if said, err := a.Says("shop", chunks.Get); err != nil || string(said.SecretStores["s"]["k"]) == "hush" {
		t.Errorf("%v %v", said, err)
	}
	stolen := *v
	stolen.Service, stolen.SecretStores, stolen.APIKeys = "thief", map[string]map[string]wedge.Secret{"mine": {"a": wedge.Secret("x")}}, nil
	b, err := Pack(&stolen, &pub, chunks.Keep)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Parts {
		for _, p := range a.Parts {
			if p.Name == "secrets" && b.Parts[i].Name == p.Name {
				b.Parts[i] = p
			}
		}
	}
	if _, err := b.Unpack(t.TempDir(), ring, chunks.Get); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("another service's secrets: %v", err)
	}
}
