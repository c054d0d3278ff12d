package abi

import "testing"

func TestTableIsWhole(t *testing.T) {
	calls := 0
	for _, d := range Hostcalls {
		if d.Module != "wasi_snapshot_preview1" {
			calls++
		}
		for _, p := range d.Params {
			if p.Shape == Out && p.Width == 0 {
				t.Errorf("%s: out parameter %s has no width", d, p.Name)
			}
		}
	}
	if calls < 252 {
		t.Errorf("%d hostcalls, the published ABI has 252", calls)
	}
}

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		module, name string
		params       string
	}{
		{"fastly_abi", "init", "\x7e"},
		{"fastly_http_req", "header_names_get", "\x7f\x7f\x7f\x7f\x7f\x7f"},
		{"fastly_http_req", "pending_req_select", "\x7f\x7f\x7f\x7f\x7f"},
		{"env", "xqd_pending_req_wait", "\x7f\x7f\x7f"},
		{"env", "xqd_body_close_downstream", "\x7f"},
		{"wasi_snapshot_preview1", "fd_seek", "\x7f\x7e\x7f\x7f"},
	} {
		d := Lookup(c.module, c.name)
		if d == nil {
			t.Errorf("%s.%s: not found", c.module, c.name)
			continue
		}
		if p, _ := d.Types(); string(p) != c.params {
			t.Errorf("%s: parameters %x, want %x", d, p, c.params)
		}
	}
	if Lookup("env", "memory") != nil || Lookup("fastly_http_req", "nope") != nil {
		t.Error("found a call that does not exist")
	}
}
