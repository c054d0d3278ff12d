package bus

import (
	"slices"
	"testing"

	"github.com/wedge-cloud/wedge"
)

var things = &Shelf{Name: "THINGS"}

// TestShelf: what was put there is found under its key, also after a restart, until it is dropped.
func TestShelf(t *testing.T) {
	dir := t.TempDir()
	core := openCore(t, dir)
	l := connect(t, core.Dial)
	if err := l.KeepShelf(t.Context(), things, 1); err != nil {
		t.Fatal(err)
	}
	for key, text := range map[string]string{"a": "first", "b": "second", "c": ""} {
		if err := l.Put(t.Context(), things, key, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	core.Close()
	core = openCore(t, dir)
	defer core.Close()
	l = connect(t, core.Dial)
	defer l.Close()
	if err := l.KeepShelf(t.Context(), things, 1); err != nil {
		t.Fatal(err)
	}
	if b, err := l.Get(t.Context(), things, "b"); err != nil || string(b) != "second" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := l.Drop(t.Context(), things, "b"); err != nil {
		t.Fatal(err)
	}
	if b, err := l.Get(t.Context(), things, "b"); wedge.KindOf(err) != wedge.NotExist {
		t.Errorf("got %q, %v", b, err)
	}
	for key, want := range map[string]bool{"a": true, "b": false, "d": false} {
		if has, err := l.Has(t.Context(), things, key); err != nil || has != want {
			t.Errorf("%s: %v, %v", key, has, err)
		}
	}
	var keys []string
	if err := l.Keys(t.Context(), things, func(k string) { keys = append(keys, k) }); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(keys); !slices.Equal(keys, []string{"a", "c"}) {
		t.Errorf("keys %q", keys)
	}
}
