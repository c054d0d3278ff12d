package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

// importing writes a module that imports "module.call" with that many i32 parameters each.
func importing(t *testing.T, calls map[string]int) string {
	m := w.New()
	for name, params := range calls {
		module, call, _ := strings.Cut(name, ".")
		m.Import(module, call, strings.Repeat("i32 ", params)+"-> i32")
	}
	m.Memory(1, 1)
	m.Main("")
	file := filepath.Join(t.TempDir(), "app.wasm")
	if err := os.WriteFile(file, m.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestInspectVerdict(t *testing.T) {
	complete := map[string]int{"fastly_http_body.new": 1, "wasi_snapshot_preview1.sched_yield": 0}
	with := func(name string, params int) map[string]int {
		all := map[string]int{name: params}
		for k, v := range complete {
			all[k] = v
		}
		return all
	}
	for _, c := range []struct {
		calls   map[string]int
		verdict string
		why     string // a line of it
		exit    int
		strict  int
	}{
		{complete, "complete: 2 complete, 0 partial, 0 unsupported", "", 0, 0},
		{with("fastly_geo.lookup", 5), "partial: 2 complete, 1 partial,", "partial  fastly_geo.lookup: ", 0, 0},
		{with("fastly_http_req.on_behalf_of", 3), "unsupported: 2 complete, 0 partial, 1 unsupported", "missing  fastly_http_req.on_behalf_of: no service", 0, 76},
		{with("fastly_acl.open", 1), "unsupported: ", "missing  fastly_acl.open: the ABI's call of that name has another signature", 0, 76},
		{with("fastly_new.call", 1), "unsupported: ", "missing  fastly_new.call: the ABI has no such call", 0, 76},
		{with("env.abort", 4), "refused: 2 complete, 0 partial, 0 unsupported", "unknown  env.abort: the guest is refused for it", 76, 76},
	} {
		file := importing(t, c.calls)
		var out, errs bytes.Buffer
		if code := run(context.Background(), []string{"inspect", file}, nil, &out, &errs); code != c.exit {
			t.Errorf("%v: exit code %d\n%s", c.calls, code, &errs)
		}
		if !strings.Contains(out.String(), "verdict  "+c.verdict) || !strings.Contains(out.String(), "\n"+c.why) {
			t.Errorf("%v:\n%s", c.calls, &out)
		}
		out.Reset()
		if code := run(context.Background(), []string{"inspect", "--strict", "--json", file}, nil, &out, &errs); code != c.strict {
			t.Errorf("%v: exit code %d with --strict", c.calls, code)
		}
		var in inspection
		if err := json.Unmarshal(out.Bytes(), &in); err != nil || !strings.HasPrefix(c.verdict, string(in.Verdict)+":") {
			t.Errorf("%v: %v, verdict %q", c.calls, err, in.Verdict)
		}
		if len(in.Reasons) != len(in.Partial)+len(in.Unsupported) {
			t.Errorf("%v: reasons %v", c.calls, in.Reasons)
		}
	}
}
