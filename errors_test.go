package wedge

import (
	"errors"
	"testing"
)

func TestEveryKindHasAFace(t *testing.T) {
	names, exits := map[string]Kind{}, map[int]Kind{}
	for k := Kind(0); k < numKinds; k++ {
		f := k.face()
		if f.name == "" || f.status < 400 || f.status > 599 || f.guest == 0 || f.guest > 14 || f.exit == 0 {
			t.Errorf("kind %d lacks a face: %+v", k, f)
		}
		if o, ok := names[f.name]; ok {
			t.Errorf("kinds %d and %d are both called %q", o, k, f.name)
		}
		if o, ok := exits[f.exit]; ok {
			t.Errorf("kinds %d and %d share exit code %d", o, k, f.exit)
		}
		names[f.name], exits[f.exit] = k, k
	}
	if numKinds.String() != "internal" {
		t.Error("a kind from nowhere must count as internal")
	}
}

func TestErrorText(t *testing.T) {
	inner := &Error{Op: "parse section", What: "code", Kind: Invalid, Hint: "Build it again."}
	outer := &Error{Op: "load guest", What: "app.wasm", Kind: Invalid, Err: inner}
	if got, want := outer.Error(), "load guest app.wasm: parse section code: invalid"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if HintOf(outer) != "Build it again." || KindOf(outer) != Invalid || KindOf(errors.New("x")) != Internal {
		t.Error("hint or kind not found in the chain")
	}
}
