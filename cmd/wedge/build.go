package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
)

const buildUsage = "[--json] [DIR]"

// built is the answer of wedge build.
type built struct {
	Service string `json:"service"`
	Guest   string `json:"guest"` // path
	Bytes   int64  `json:"bytes"`
	TookMS  int64  `json:"took_ms"`
}

func runBuild(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("build")
	asJSON := fs.Bool("json", false, "answer in JSON")
	rest, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	app, err := loadApp(first(rest, "."), std.err)
	if err != nil {
		return err
	}
	if app.Build.Language == "" && app.Build.Command == "" {
		return &wedge.Error{Op: "build", What: app.File, Kind: wedge.Invalid, Err: errors.New("it does not say how"),
			Hint: `Set language or build in wedge.toml, or build under [scripts] in fastly.toml.`}
	}
	start := time.Now()
	if err := manifest.Build(ctx, app, std.err); err != nil {
		return err
	}
	if _, err := app.ReadGuest(); err != nil { // better said now than when it is run
		return err
	}
	info, err := os.Stat(app.GuestPath)
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(std.out, built{app.Version.Service, app.GuestPath, info.Size(), time.Since(start).Milliseconds()})
	}
	_, err = fmt.Fprintln(std.out, app.GuestPath)
	return err
}

// loadApp reads an app and shows what is doubtful about it.
func loadApp(path string, talk io.Writer) (*manifest.App, error) {
	app, err := manifest.Load(path)
	if err != nil {
		return nil, err
	}
	for _, w := range app.Warnings {
		fmt.Fprintf(talk, "wedge: warning: %s\n", w)
	}
	return app, nil
}

func first(list []string, unset string) string {
	if len(list) > 0 {
		return list[0]
	}
	return unset
}
