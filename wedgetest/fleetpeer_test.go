package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestPeerProcesses: of two PoPs, processes that have joined by invitation, one is the shield of the other, until it is removed.
func TestPeerProcesses(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, asked.Add(1))
	}))
	defer origin.Close()
	bin, dir := wedgeBinary(t), t.TempDir()
	addrs := freePorts(t, 4)
	conf := fmt.Sprintf("roles = [\"core\"]\ndata = %q\n[core]\nlisten = %q\napi = %q\n", dir, addrs[0], addrs[1])
	core := begin(t, exec.Command(bin, "node", "--config", file(t, "node.toml", []byte(conf))))
	o := &operator{t: t, bin: bin, api: "http://" + addrs[1], config: dir}
	eventually(t, "the core has made a token\n"+core.out.String(), func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "core", "admin-token"))
		o.token = strings.TrimSpace(string(b))
		return err == nil
	})
	eventually(t, "the core answers", func() bool { _, err := o.try("pops"); return err == nil })
	o.begin("fra", addrs[2])
	lhr := o.begin("lhr", addrs[3])
	app := t.TempDir()
	text := fmt.Sprintf("name = \"site\"\nhosts = [\"site.example\"]\n[backends.origin]\nurl = %q\nshield = \"fra\"\n", origin.URL)
	if err := os.WriteFile(filepath.Join(app, "wedge.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are there", func() bool {
		out, err := o.try("pops")
		return err == nil && strings.Contains(out, "fra") && strings.Contains(out, "lhr")
	})
	if out, err := o.try("deploy", "--hold", "0", app); err != nil {
		t.Fatal(out)
	}
	n := 0
	status := 0
	through := func() bool {
		n++
		req, err := http.NewRequest("GET", fmt.Sprintf("http://%s/page-%d", lhr.addr, n), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "site.example"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			status = 0
			return false
		}
		status = resp.StatusCode
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return status == 200 && strings.Contains(strings.Join(resp.Header["Cache-Status"], ","), "Wedge-fra;")
	}
	eventually(t, "lhr goes through fra\n"+lhr.out.String(), through)
	if out, err := o.try("pops", "remove", "fra"); err != nil {
		t.Fatal(out)
	}
	eventually(t, "lhr does without", func() bool { return !through() && status == 200 })
}
