package manifest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxWatched is how many files are looked at before Modified stops counting.
const maxWatched = 50_000

// watch notes what the app is made of: the given paths, or else its whole directory, and
// in any case every file that was read for it.
func (a *App) watch(paths []string, r *report) {
	if len(paths) == 0 {
		a.Watch = []string{a.Dir}
	}
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			p = filepath.Join(a.Dir, filepath.FromSlash(p))
		}
		a.Watch = append(a.Watch, p)
	}
	a.Watch = append(append(a.Watch, a.File), r.files...)
	slices.Sort(a.Watch)
	a.Watch = slices.Compact(a.Watch)
}

// Ignored reports whether a directory in the app's holds what tools made, not what its
// author wrote: nothing in it is watched.
func (a *App) Ignored(dir string) bool {
	name := filepath.Base(dir)
	if filepath.Clean(dir) == filepath.Clean(a.Dir) {
		return false
	}
	if strings.HasPrefix(name, ".") || name == "node_modules" || name == "target" {
		return true
	}
	// Only at the top: src/bin is where Rust keeps sources.
	top := filepath.Clean(filepath.Dir(dir)) == filepath.Clean(a.Dir)
	return top && (name == "bin" || name == "pkg" || name == "dist")
}

// Modified returns when any of the files that make the app was last modified. The built
// guest is not one of them, unless the app is nothing else.
func (a *App) Modified() (time.Time, error) {
	var newest time.Time
	seen := 0
	for _, root := range a.Watch {
		err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // gone while we look, or never there
				return nil
			case err != nil:
				return err
			case d.IsDir() && file != root && a.Ignored(file):
				return fs.SkipDir
			case d.IsDir() || file == a.GuestPath && file != a.File:
				return nil
			}
			if seen++; seen > maxWatched {
				return fs.SkipAll
			}
			if info, err := d.Info(); err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
			return nil
		})
		if err != nil {
			return newest, fileError("watch", root, err, "")
		}
	}
	return newest, nil
}

// Stale reports whether the guest must be built: it can be, and is missing or older than
// any of the files that make the app.
func Stale(a *App) (bool, error) {
	if a.Build.none() {
		return false, nil
	}
	info, err := os.Stat(a.GuestPath)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fileError("look at", a.GuestPath, err, "")
	}
	newest, err := a.Modified()
	return newest.After(info.ModTime()), err
}
