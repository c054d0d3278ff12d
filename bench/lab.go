package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
)

// lab holds what several groups of rows use; it is made when first wanted.
type lab struct {
	root    string // of the module
	profile string // base name for CPU profiles; "": none
	alone   bool   // no alternatives in process
	rolling bool   // a profile of this process is being taken

	js        *jsDeploy // of the first group that wants it
	closeLast []func()
}

func newLab(profile string, alone bool) (*lab, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	return &lab{root: root, profile: profile, alone: alone}, nil
}

func (l *lab) close() {
	for i := len(l.closeLast) - 1; i >= 0; i-- {
		l.closeLast[i]()
	}
}

// atEnd has f called when all is measured.
func (l *lab) atEnd(f func()) { l.closeLast = append(l.closeLast, f) }

// roll begins the profile of this process, once: what goes before it, compiling above all, would
// drown what is measured.
func (l *lab) roll() error {
	if l.rolling {
		return nil
	}
	l.rolling = true
	stop, err := startProfile(l.profile)
	if err == nil {
		l.atEnd(stop)
	}
	return err
}

func findRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "arch_test.go")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside Wedge's source tree")
		}
	}
	return "", err
}

// progress says on stderr what takes longer than a second, every five.
func (l *lab) progress(what string) (done func()) {
	stop := make(chan struct{})
	began := time.Now()
	go func() {
		for wait := time.Second; ; wait = 5 * time.Second {
			select {
			case <-stop:
				return
			case <-time.After(wait):
				fmt.Fprintf(os.Stderr, "%s ... %ds\n", what, int(time.Since(began).Seconds()))
			}
		}
	}()
	return func() { close(stop) }
}

func startProfile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// app returns the app in a directory of the source tree, built.
func (l *lab) app(ctx context.Context, dir string) (*manifest.App, error) {
	app, err := manifest.Load(filepath.Join(l.root, filepath.FromSlash(dir)))
	if err != nil {
		return nil, err
	}
	stale, err := manifest.Stale(app)
	if err == nil && stale {
		err = manifest.Build(ctx, app, os.Stderr)
	}
	if err == nil {
		app.Version.Guest, err = app.ReadGuest()
	}
	return app, err
}

// missing reports whether err says that a tool is not there, so that the rows that
// need it are skipped.
func missing(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || wedge.KindOf(err) == wedge.NotExist
}
