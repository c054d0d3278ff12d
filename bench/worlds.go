package main

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/world"
)

// startWorld starts a world whose PoPs all serve a version, as the service site; edit changes their nodes, if it is not nil. done ends it and removes its data.
func startWorld(ctx context.Context, pops []wedge.PoP, v wedge.Version, edit func(*node.Config)) (w *world.World, done func(), err error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, nil, err
	}
	v.Service = "site"
	quiet := slog.New(slog.DiscardHandler)
	w, err = world.Open(ctx, world.Config{PoPs: pops, Dir: dir, Log: quiet, Node: func(wedge.PoP) node.Config {
		app := &manifest.App{Version: v} // each numbers its own
		c := node.Config{Load: node.One(func(context.Context) (*manifest.App, error) { return app, nil }), HTTP: []string{"127.0.0.1:0"},
			Quiet: true, Log: quiet, CacheDisk: -1, DrainTimeout: time.Second}
		if edit != nil {
			edit(&c)
		}
		return c
	}})
	if err == nil {
		if err = w.Start(ctx); err != nil {
			w.Close()
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return w, func() {
		w.Close()
		os.RemoveAll(dir)
	}, nil
}

// addresses returns where the PoPs of a world answer, by their names.
func addresses(w *world.World) map[string]string {
	list := map[string]string{}
	for _, s := range w.Status() {
		list[s.PoP.Name] = s.URL
	}
	return list
}

// at parses a URL that stands in this program.
func at(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}
