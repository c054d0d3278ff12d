package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
)

// hitServer is a cache on the server's core.
type hitServer struct {
	name string
	*process
	runs   []hitRun
	missed string // why it is not there
}

// hitServers starts Wedge, nginx, varnish, and Wedge without its hit path.
func (l *lab) hitServers(ctx context.Context, origin string) (all []*hitServer, end func(), err error) {
	dir, err := os.MkdirTemp("", "wedge-hits-")
	if err != nil {
		return nil, nil, err
	}
	_ = os.Chmod(dir, 0o755) // varnish's own user reads in it
	end = func() {
		for _, h := range all {
			if h.process != nil {
				h.end()
			}
		}
		os.RemoveAll(dir)
	}
	for _, name := range []string{"wedge", "nginx", "varnish", "wedge-net-http"} {
		h := &hitServer{name: name}
		all = append(all, h)
		h.process, err = l.startHits(ctx, name, dir, origin)
		if missing(err) {
			h.missed, err = name+" is not installed", nil
		}
		if err != nil {
			end()
			return nil, nil, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return all, end, nil
}

func (l *lab) startHits(ctx context.Context, name, dir, origin string) (*process, error) {
	switch name {
	case "nginx", "varnish":
		return l.startOther(ctx, name, dir, origin)
	}
	task := cacheTask{Origin: "http://" + origin, NoHits: name != "wedge"}
	if l.profile != "" {
		task.Profile = l.profile + "." + name
	}
	arg, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := pinned(ctx, self, "-child", "cache", string(arg))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // as many threads as nginx has workers
	p, err := start(ctx, cmd)
	if err != nil {
		return nil, err
	}
	p.self = true
	p.addr, err = p.line()
	return p, err
}

// pinned is a command on the server's core.
func pinned(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "taskset", append([]string{"-c", serverCore, name}, args...)...)
}

// startOther starts nginx or varnish with the configuration in testdata.
func (l *lab) startOther(ctx context.Context, name, dir, origin string) (*process, error) {
	program, file := "nginx", "nginx.conf"
	if name == "varnish" {
		program, file = "varnishd", "varnish.vcl"
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf, err := l.configure(file, dir, addr, origin)
	if err != nil {
		return nil, err
	}
	cmd := pinned(ctx, program, "-p", dir, "-c", conf)
	if name == "varnish" {
		cmd = pinned(ctx, program, "-F", "-n", filepath.Join(dir, "varnish"), "-a", addr, "-f", conf, "-s", "malloc,256m")
		cmd.Stderr = nil
	}
	p, err := start(ctx, cmd)
	if err != nil {
		return nil, err
	}
	p.addr = addr
	if err := answers200(ctx, "http://"+addr+"/1"); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// configure fills in a configuration.
func (l *lab) configure(file, dir, addr, origin string) (string, error) {
	b, err := os.ReadFile(filepath.Join(l.root, "bench", "testdata", "hits", file))
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(origin)
	if err != nil {
		return "", err
	}
	text := strings.NewReplacer("DIR", dir, "ADDR", addr, "ORIGINHOST", host, "ORIGINPORT", port, "ORIGIN", origin).Replace(string(b))
	out := filepath.Join(dir, file)
	return out, os.WriteFile(out, []byte(text), 0o644)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// answers200 waits for a server to serve.
func answers200(ctx context.Context, url string) error {
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answers %s", resp.Status)
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}

// cacheTask is a node that serves an origin through its cache.
type cacheTask struct {
	Origin  string // its URL
	NoHits  bool
	Profile string // file for a CPU profile; "": none
}

// childCache is a whole Wedge node without a guest.
func childCache(ctx context.Context, arg []byte) error {
	var task cacheTask
	if err := json.Unmarshal(arg, &task); err != nil {
		return err
	}
	origin, err := url.Parse(task.Origin)
	if err != nil {
		return err
	}
	stop, err := startProfile(task.Profile)
	if err != nil {
		return err
	}
	defer stop()
	app := &manifest.App{Version: wedge.Version{Service: "hits",
		Backends: []wedge.Backend{{Name: "origin", URL: origin, AllowPrivateAddr: true}}}}
	return node.Run(untilStdinEnds(ctx), node.Config{
		Load: func(context.Context) ([]*manifest.App, error) { return []*manifest.App{app}, nil },
		HTTP: []string{"127.0.0.1:0"}, Ephemeral: true, Quiet: true, NoHits: task.NoHits,
		Started: func(n *node.Node) {
			plain, _ := n.Addrs()
			fmt.Println(plain[0])
		},
	})
}
