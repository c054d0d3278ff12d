package conformance

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"testing"
	"time"
)

// TestMain lets more tests run at a time than there are processors: nearly all they do is wait.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func runAll(t *testing.T, cfg Config) []Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begin := time.Now()
	results, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases in %v", len(results), time.Since(begin).Round(time.Millisecond))
	return results
}

func table(t *testing.T, results []Result) string {
	var b bytes.Buffer
	if err := Table(&b, results); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func mustPass(t *testing.T, results []Result, names ...string) {
	t.Helper()
	outcomes := map[string]Result{}
	for _, r := range results {
		outcomes[r.Name] = r
	}
	for _, name := range names {
		if r := outcomes[name]; r.Outcome != Pass {
			t.Errorf("%s: %q: %s\n%s", name, r.Outcome, r.Reason, r.Transcript)
		}
	}
}
