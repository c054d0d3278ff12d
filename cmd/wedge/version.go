package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

const versionUsage = "[--json]"

// buildInfo is what the binary knows of its own making.
type buildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"` // built from files that were not committed
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func runVersion(_ context.Context, std stdio, args []string) error {
	fs := newFlags("version")
	asJSON := fs.Bool("json", false, "answer in JSON")
	if _, err := parse(fs, args, 0); err != nil {
		return err
	}
	b := readBuildInfo()
	if *asJSON {
		return printJSON(std.out, b)
	}
	commit := b.Commit
	if len(commit) > 12 {
		commit = commit[:12]
	}
	if b.Dirty {
		commit += "+"
	}
	if commit != "" {
		commit = " " + commit
	}
	_, err := fmt.Fprintf(std.out, "wedge %s%s %s %s/%s\n", b.Version, commit, b.Go, b.OS, b.Arch)
	return err
}

func readBuildInfo() buildInfo {
	b := buildInfo{Version: "devel", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}
