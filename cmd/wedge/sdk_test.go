package main

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "copy sdk/go into the Go template")

const (
	sdkSource = "../../sdk/go"
	sdkCopy   = "templates/go/wedge-sdk"
)

// TestSDKCopy sees that the SDK which wedge new writes is the one of this tree. With
// -update it makes it so, which is what go generate does.
func TestSDKCopy(t *testing.T) {
	want := sdkFiles(t)
	if *update {
		writeSDK(t, want)
	}
	got := map[string]string{}
	walkFiles(t, sdkCopy, func(name, text string) { got[name] = text })
	for name, text := range want {
		if have, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		} else if have != text {
			t.Errorf("%s differs from sdk/go", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is not in sdk/go", name)
		}
	}
	if t.Failed() {
		t.Log("run: go generate ./cmd/wedge")
	}
}

// sdkFiles returns what is to be copied, by name in the copy: no tests, but the licence.
func sdkFiles(t *testing.T) map[string]string {
	files := map[string]string{}
	walkFiles(t, sdkSource, func(name, text string) {
		base := filepath.Base(name)
		if strings.HasSuffix(base, "_test.go") || strings.Contains(name, "testdata/") || strings.HasPrefix(name, "guesttest/") {
			return
		}
		if strings.HasSuffix(base, ".go") || base == "go.mod" || base == "go.sum" {
			files[name+".tmpl"] = text
		}
	})
	licence, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	files["LICENSE.tmpl"] = string(licence)
	return files
}

func writeSDK(t *testing.T, files map[string]string) {
	if err := os.RemoveAll(sdkCopy); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		file := filepath.Join(sdkCopy, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func walkFiles(t *testing.T, root string, f func(name, text string)) {
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		f(filepath.ToSlash(name), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
