package wedgetest

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// Need ends the test unless the tool can be run: it is skipped with a note, or, with CI=true in
// the environment, it fails.
func Need(t testing.TB, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		Missing(t, tool+" is not installed")
	}
}

// Missing skips the test because of what is missing on this machine, or fails it with CI=true.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and with CI=true nothing may be left out", what)
	}
	t.Skipf("%s: this test is left out", what)
}

// Soak reports whether long tests were asked for, with WEDGE_SOAK=1.
func Soak() bool { return os.Getenv("WEDGE_SOAK") == "1" }

// Patience is how long [Eventually] waits. It is long because it only passes when something is wrong.
const Patience = 20 * time.Second

// Eventually waits until cond holds; what names it in the failure.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for wait := time.Millisecond; !cond(); wait = min(2*wait, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
		time.Sleep(wait)
	}
}

// Soon receives from ch; what names the event in the failure.
func Soon[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(Patience):
		t.Fatalf("waited %v in vain: %s", Patience, what)
	}
	panic("not reached")
}
