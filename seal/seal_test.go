package seal

import (
	"bytes"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// TestSeal: a secret opens where it belongs, for who has the key of its epoch, and not otherwise.
func TestSeal(t *testing.T) {
	root := NewRoot()
	old, all := root.Ring(0), root.Ring(2)
	pub, err := all.Public()
	if err != nil || pub.Epoch != 2 {
		t.Fatal(pub.Epoch, err)
	}
	sealed, err := pub.Seal("shop/api", []byte("hush"))
	if err != nil || bytes.Contains(sealed, []byte("hush")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	if b, err := all.Open("shop/api", sealed); err != nil || string(b) != "hush" {
		t.Errorf("%q, %v", b, err)
	}
	first, err := old.Public()
	if err != nil {
		t.Fatal(err)
	}
	before, err := first.Seal("shop/api", []byte("older"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := all.Open("shop/api", before); err != nil || string(b) != "older" {
		t.Errorf("of an epoch before: %q, %v", b, err)
	}
	other := NewRoot()
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	another := bytes.Clone(sealed)
	another[headSize-1] = 1
	for what, c := range map[string]struct {
		ring  *Ring
		where string
		b     []byte
		kind  wedge.Kind
	}{
		"another place":  {all, "other/api", sealed, wedge.Invalid},
		"another fleet":  {other.Ring(2), "shop/api", sealed, wedge.Invalid},
		"an epoch later": {old, "shop/api", sealed, wedge.Unavailable},
		"no ring":        {nil, "shop/api", sealed, wedge.Unavailable},
		"a flipped bit":  {all, "shop/api", flipped, wedge.Invalid},
		"another epoch":  {all, "shop/api", another, wedge.Invalid},
		"cut":            {all, "shop/api", sealed[:headSize+10], wedge.Invalid},
		"plain":          {all, "shop/api", []byte("hush"), wedge.Invalid},
		"nothing":        {all, "shop/api", nil, wedge.Invalid},
	} {
		if b, err := c.ring.Open(c.where, c.b); err == nil || wedge.KindOf(err) != c.kind {
			t.Errorf("%s: %q, %v", what, b, err)
		}
	}
	for _, p := range []Public{{}, {Key: []byte("x")}, {Epoch: -1, Key: pub.Key}, {Epoch: MaxEpochs + 1, Key: pub.Key}} {
		if _, err := p.Seal("", nil); wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("%d: %v", p.Epoch, err)
		}
	}
}

// TestAsk: a ring travels closed for who asked, and no other.
func TestAsk(t *testing.T) {
	root := NewRoot()
	ring := root.Ring(3)
	asker, err := NewAsker()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ring.Answer("fra1", asker.Question())
	if err != nil || bytes.Contains(answer, ring.seeds[0]) {
		t.Fatal(err)
	}
	got, err := asker.Read("fra1", answer)
	if err != nil || got.Epoch() != 3 {
		t.Fatal(got.Epoch(), err)
	}
	pub, _ := ring.Public()
	sealed, _ := pub.Seal("x", []byte("y"))
	if b, err := got.Open("x", sealed); err != nil || string(b) != "y" {
		t.Errorf("%q, %v", b, err)
	}
	stranger, _ := NewAsker()
	if _, err := stranger.Read("fra1", answer); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("another asker: %v", err)
	}
	if _, err := asker.Read("lhr1", answer); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("another name: %v", err)
	}
	if _, err := ring.Answer("fra1", []byte("what?")); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("no question: %v", err)
	}
	var back Ring
	if err := back.UnmarshalText(append(ring.Text(), '\n')); err != nil || back.Epoch() != 3 {
		t.Error(err)
	}
	for _, text := range []string{"", "x", "eHh4"} {
		if err := new(Ring).UnmarshalText([]byte(text)); wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzOpen: whatever is on a disk opens to an error, and no more.
func FuzzOpen(f *testing.F) {
	ring := new(Root).Ring(1)
	pub, err := ring.Public()
	if err != nil {
		f.Fatal(err)
	}
	good, err := pub.Seal("x", []byte("y"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := ring.Open("x", b); err == nil && !bytes.Equal(b, good) {
			t.Errorf("%q opens %q", b, got)
		}
		_ = new(Ring).UnmarshalText(b)
	})
}

func BenchmarkOpen(b *testing.B) {
	ring := new(Root).Ring(1)
	pub, err := ring.Public()
	if err != nil {
		b.Fatal(err)
	}
	good, err := pub.Seal("x", []byte("y"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ring.Open("x", good); err != nil {
			b.Fatal(err)
		}
	}
}
