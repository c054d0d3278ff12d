package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Build makes the guest: it runs the app's build command, or that of its language, in the
// app's directory. What the tools print goes to out, and so do lines of progress when it
// takes more than a second. An app that is not built is left alone. Cancelling ctx ends
// the command with all processes it started. Kinds of error: NotExist (a tool or the
// result is missing), Invalid (the build failed), Timeout and Unavailable (ctx ended).
func Build(ctx context.Context, a *App, out io.Writer) error {
	if a.Build.none() {
		return nil
	}
	start := time.Now()
	steps, err := a.buildSteps()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.GuestPath), 0o755); err != nil {
		return fileError("make directory", filepath.Dir(a.GuestPath), err, "")
	}
	o := &output{w: out}
	stop := progress(ctx, o, "building "+a.Version.Service)
	defer stop()
	for _, s := range steps {
		if err := a.runStep(ctx, s, o); err != nil {
			return err
		}
	}
	return a.collect(start)
}

func (a *App) buildSteps() ([]step, error) {
	if a.Build.Command != "" {
		return append(installSteps(a), shellStep(a.Build.Command)), nil
	}
	return languages[a.Build.Language](a)
}

// collect puts the guest where it belongs and dates it to the start of the build, so that
// what was edited meanwhile counts as newer.
func (a *App) collect(start time.Time) error {
	if a.Build.Language == "rust" {
		if err := a.collectRust(); err != nil {
			return err
		}
	}
	if _, err := os.Stat(a.GuestPath); err != nil {
		return &wedge.Error{Op: "build", What: a.Version.Service, Kind: wedge.NotExist,
			Err:  fmt.Errorf("the command succeeded and made no %s", a.GuestPath),
			Hint: "Let the build command write that file, or set guest in wedge.toml to the one it writes."}
	}
	if err := os.Chtimes(a.GuestPath, start, start); err != nil {
		return fileError("date", a.GuestPath, err, "")
	}
	return nil
}

// A step is one command of a build.
type step struct {
	argv []string
	env  []string
	text string // as shown
	hint string // when it fails; "": that its output says why
}

func shellStep(command string) step {
	argv := []string{"sh", "-c", command}
	if runtime.GOOS == "windows" {
		argv = []string{"cmd", "/C", command}
	}
	line, _, more := strings.Cut(strings.TrimSpace(command), "\n")
	if more {
		line += " ..."
	}
	return step{argv: argv, text: line}
}

func (a *App) runStep(ctx context.Context, s step, o *output) error {
	fail := &wedge.Error{Op: "build", What: a.Version.Service, Kind: wedge.Invalid, Hint: s.hint}
	name, err := exec.LookPath(s.argv[0])
	if err != nil {
		fail.Kind, fail.Hint = wedge.NotExist, tools[filepath.Base(s.argv[0])]
		fail.Err = fmt.Errorf("%s is not installed, or not in PATH", s.argv[0])
		return fail
	}
	if abs, err := filepath.Abs(name); err == nil {
		name = abs // the command runs in another directory
	}
	cmd := exec.CommandContext(ctx, name, s.argv[1:]...)
	cmd.Dir = a.Dir
	cmd.Env = append(append(os.Environ(), s.env...), a.Build.Env...)
	cmd.Stdout, cmd.Stderr = o, o
	cmd.WaitDelay = 2 * time.Second
	ownGroup(cmd)
	if err = cmd.Run(); err == nil {
		return nil
	}
	fail.Err = fmt.Errorf("%s: %w", s.text, err)
	var exit *exec.ExitError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		fail.Kind, fail.Hint = wedge.Timeout, "Give the build more time."
	case ctx.Err() != nil:
		fail.Kind, fail.Err, fail.Hint = wedge.Unavailable, errors.New("stopped"), ""
	case strings.Contains(o.last(), "target may not be installed"):
		fail.Hint = "Run: rustup target add wasm32-wasip1"
	case errors.As(err, &exit) && exit.ExitCode() == 127:
		fail.Hint = "The shell did not find a command; install it or change the build command."
	case fail.Hint == "":
		fail.Hint = "Its own messages are above."
	}
	return fail
}
