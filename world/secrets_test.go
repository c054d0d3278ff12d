package world

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// onDisks reports whether a text lies anywhere below a directory, also in chunks.
func onDisks(t *testing.T, dir, text string) (where string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil // it was removed meanwhile
		}
		if name := control.Digest(d.Name()); name.Valid() {
			if b, err = control.OpenChunks(filepath.Dir(filepath.Dir(file))).Get(name); err != nil {
				return nil
			}
		}
		if bytes.Contains(b, []byte(text)) {
			where = file
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}

// TestSecrets: what is secret in a version lies on no disk, and a PoP needs the core once after its start to run it.
func TestSecrets(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	v := l.site("one")
	v.APIKeys = []wedge.Secret{wedge.Secret("open sesame")}
	l.version(v)
	l.release(1, 0)
	purges := func(pop, key string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "PURGE", l.url(pop)+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "shop.example"
		req.Header.Set("Fastly-Key", key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, pop := range []string{"lhr", "nyc", "nrt"} {
		if yes, no := purges(pop, "open sesame"), purges(pop, "sealed 0"); yes != 200 || no == 200 {
			t.Errorf("%s: %d with the key, %d without", pop, yes, no)
		}
	}
	if at := onDisks(t, l.cfg.Dir, "open sesame"); at != "" {
		t.Errorf("the secret lies in %s", at)
	}
	if onDisks(t, l.cfg.Dir, "sealed 0") == "" {
		t.Error("the version is not found at all")
	}

	if err := l.Stop("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := l.Cut("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nyc"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nyc has its keys from before", 5*time.Second, func() bool { return l.get("nyc", "/") == "one" })
	if err := l.Stop("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(l.cfg.Dir, runtimeDir, "nyc")); err != nil { // the power was off
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nyc"); err != nil {
		t.Fatal(err)
	}
	if body := l.get("nyc", "/"); body == "one" {
		t.Error("a PoP runs what it has no keys for")
	}
	if err := l.Heal("nyc"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nyc has its keys", 5*time.Second, func() bool { return l.get("nyc", "/") == "one" })
	if got := purges("nyc", "open sesame"); got != 200 {
		t.Errorf("then: %d", got)
	}
	if key, err := l.client.SealingKey(t.Context()); err != nil || key.Epoch != 0 {
		t.Errorf("secrets are sealed with the key of epoch %d, %v", key.Epoch, err)
	}
}
