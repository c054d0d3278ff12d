package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
)

const newUsage = "--lang go|js|rust|c DIR"

// templates holds a directory for each language. Files end in .tmpl, so that no tool
// takes them for part of this module; in their text {{name}} stands for the service.
//
// The Go project brings the SDK along in wedge-sdk, a copy of sdk/go: so it builds
// before the SDK is published, and without a network. TestSDKCopy keeps the copy equal.
//
//go:generate go test -run TestSDKCopy -update .
//go:embed all:templates
var templates embed.FS

// created is the answer of wedge new.
type created struct {
	Dir     string   `json:"dir"`
	Service string   `json:"service"`
	Lang    string   `json:"lang"`
	Files   []string `json:"files"` // paths in Dir
}

func runNew(_ context.Context, std stdio, args []string) error {
	flags := newFlags("new")
	lang := flags.String("lang", "", "`LANGUAGE` of the project: go, js, rust or c")
	asJSON := flags.Bool("json", false, "answer in JSON")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return usage(flags, errors.New("no directory given"))
	}
	files, err := project(*lang)
	if err != nil {
		return usage(flags, err)
	}
	dir := rest[0]
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	answer := created{Dir: dir, Service: manifest.ServiceName(filepath.Base(abs)), Lang: *lang}
	if err := emptyDir(dir); err != nil {
		return err
	}
	for name, text := range files {
		text = strings.ReplaceAll(text, "{{name}}", answer.Service)
		if err := writeNew(filepath.Join(dir, filepath.FromSlash(name)), text); err != nil {
			return err
		}
		answer.Files = append(answer.Files, name)
	}
	sort.Strings(answer.Files)
	if *asJSON {
		return printJSON(std.out, answer)
	}
	fmt.Fprintf(std.err, "next: wedge run %s\n", dir)
	_, err = fmt.Fprintln(std.out, dir)
	return err
}

// project returns the files of a new project by their paths.
func project(lang string) (map[string]string, error) {
	switch lang {
	case "go", "js", "rust", "c":
	case "":
		return nil, errors.New("no language given: --lang go, js, rust or c")
	default:
		return nil, fmt.Errorf("no templates for language %q: there are go, js, rust and c", lang)
	}
	sub, err := fs.Sub(templates, "templates/"+lang)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	err = fs.WalkDir(sub, ".", func(path string, d fs.DirEntry, err error) error {
		name, ok := strings.CutSuffix(path, ".tmpl")
		if err != nil || d.IsDir() || !ok {
			return err
		}
		text, err := fs.ReadFile(sub, path)
		files[name] = string(text)
		return err
	})
	return files, err
}

// emptyDir makes dir, or sees that it has nothing in it.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return &wedge.Error{Op: "new", What: dir, Kind: wedge.Denied, Err: cause(err), Hint: "Choose a directory that can be made."}
		}
	case err != nil:
		return &wedge.Error{Op: "new", What: dir, Kind: wedge.Invalid, Err: cause(err), Hint: "Choose a directory that is empty or absent."}
	case len(entries) > 0:
		return &wedge.Error{Op: "new", What: dir, Kind: wedge.Exist, Err: errors.New("the directory is not empty"),
			Hint: "Choose a directory that is empty or absent."}
	}
	return nil
}

// writeNew writes a file that must not be there yet.
func writeNew(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return &wedge.Error{Op: "new", What: file, Kind: wedge.Denied, Err: cause(err)}
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return &wedge.Error{Op: "new", What: file, Kind: wedge.Denied, Err: cause(err), Hint: "Check the directory's permissions and free space."}
	}
	return nil
}

// cause strips the path, which our own error names already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
