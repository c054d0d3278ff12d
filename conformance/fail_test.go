package conformance

import "testing"

// TestCasesCanFail runs every case against proxies that are wrong in different ways: one never
// stores, one always answers with what it saw first, one loses what it should forward. A case
// that passes with all three asks nothing.
func TestCasesCanFail(t *testing.T) {
	t.Parallel()
	var never, always, loses []Result
	t.Run("proxies", func(t *testing.T) {
		t.Run("never", func(t *testing.T) { t.Parallel(); never = overFake(t, transport(), Config{Anyway: true}) })
		t.Run("always", func(t *testing.T) {
			t.Parallel()
			always = overFake(t, &hoarder{next: transport(), stored: map[string]kept{}}, Config{Anyway: true})
		})
		t.Run("loses", func(t *testing.T) { t.Parallel(); loses = overFake(t, mangler{transport()}, Config{Anyway: true}) })
	})
	a, l := outcomes(always), outcomes(loses)
	for _, r := range never {
		if r.Outcome == Pass && a[r.Name] == Pass && l[r.Name] == Pass {
			t.Errorf("%s:%d: case %s passes whatever a proxy does", r.File, r.Line, r.Name)
		}
	}
}

// TestPassThrough: a proxy that stores nothing passes what is about forwarding, fails what expects
// a hit, and is not praised for what it never stored.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	results := overFake(t, transport(), Config{})
	t.Log("pass-through\n" + table(t, results))
	o := outcomes(results)
	if o["store-fresh"] != Fail {
		t.Errorf("store-fresh: %q; a proxy that stores nothing cannot pass it", o["store-fresh"])
	}
	for _, name := range []string{"no-store-first", "vary-no-match", "fresh-max-age-expires", "invalidate-POST"} {
		if o[name] != Skip {
			t.Errorf("%s: %q; without store-fresh it says nothing", name, o[name])
		}
	}
	for _, r := range results {
		if r.Section == "RFC 9110 7.6" && r.Level == Required && r.Outcome != Pass {
			t.Errorf("%s: %s\n%s", r.Name, r.Reason, r.Transcript)
		}
	}
	mustPass(t, results, "interim-103", "interim-not-merged")
}
