package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
)

// nodeTask is what a node child serves.
type nodeTask struct {
	Dir     string // of the app, built
	Start   wedge.Start
	Origin  string // URL of its backend "origin"; "": none
	Profile string // file for a CPU profile; "": none
	Access  bool   // a line per request, to nowhere
}

// childNode is a whole Wedge node.
func childNode(ctx context.Context, arg []byte) error {
	var task nodeTask
	if err := json.Unmarshal(arg, &task); err != nil {
		return err
	}
	raiseFiles(maxFiles)
	stop, err := startProfile(task.Profile)
	if err != nil {
		return err
	}
	defer stop()
	return node.Run(untilStdinEnds(ctx), node.Config{
		Load: node.One(func(context.Context) (*manifest.App, error) { return task.load() }),
		HTTP: []string{"127.0.0.1:0"}, Ephemeral: true, Quiet: !task.Access,
		Started: func(n *node.Node) {
			plain, _ := n.Addrs()
			fmt.Println(plain[0])
		},
	})
}

func (t nodeTask) load() (*manifest.App, error) {
	app, err := manifest.Load(t.Dir)
	if err != nil {
		return nil, err
	}
	v := &app.Version
	v.Start = t.Start
	if t.Origin != "" {
		u, err := url.Parse(t.Origin)
		if err != nil {
			return nil, err
		}
		v.Backends = []wedge.Backend{{Name: "origin", URL: u, AllowPrivateAddr: true,
			ConnectTimeout: time.Minute, FirstByteTimeout: 2 * time.Minute}}
	}
	v.Guest, err = app.ReadGuest()
	return app, err
}

// startNode starts a node that serves the app in dir.
func (l *lab) startNode(ctx context.Context, name string, task nodeTask) (*process, error) {
	if l.profile != "" {
		task.Profile = l.profile + "." + name
	}
	p, err := spawn(ctx, "node", task)
	if err != nil {
		return nil, err
	}
	p.addr, err = p.line()
	return p, err
}

// startWorkerd starts workerd with a hello worker, from the packages in bench; kind NotExist if
// they are not and cannot be installed.
func (l *lab) startWorkerd(ctx context.Context) (*process, error) {
	bin, err := l.workerd(ctx)
	if err != nil {
		return nil, &wedge.Error{Op: "find workerd", Kind: wedge.NotExist, Err: err, Hint: "Run: npm ci --prefix bench"}
	}
	// Descriptor 3 is where workerd says which port it got.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, bin, "serve", filepath.Join(l.root, "bench", "testdata", "workerd", "config.capnp"), "--control-fd=3")
	cmd.ExtraFiles = []*os.File{w}
	p, err := start(ctx, cmd)
	w.Close()
	if err != nil {
		return nil, err
	}
	var listening struct{ Port int }
	if err := json.NewDecoder(r).Decode(&listening); err != nil {
		p.kill()
		return nil, fmt.Errorf("workerd did not say where it listens: %w", err)
	}
	p.addr = fmt.Sprintf("127.0.0.1:%d", listening.Port)
	return p, nil
}

// workerd returns the path of its program, installing it if need be.
func (l *lab) workerd(ctx context.Context) (string, error) {
	dir := filepath.Join(l.root, "bench")
	find := func() string {
		arch := map[string]string{"amd64": "64", "arm64": "arm64"}[runtime.GOARCH]
		bin := filepath.Join(dir, "node_modules", "@cloudflare", "workerd-"+runtime.GOOS+"-"+arch, "bin", "workerd")
		if _, err := os.Stat(bin); err != nil {
			return ""
		}
		return bin
	}
	if bin := find(); bin != "" {
		return bin, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not installed")
	}
	defer l.progress("installing workerd")()
	cmd := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if bin := find(); bin != "" {
		return bin, nil
	}
	return "", fmt.Errorf("its package has no program for %s/%s", runtime.GOOS, runtime.GOARCH)
}
