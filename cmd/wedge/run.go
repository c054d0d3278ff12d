package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/handover"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
)

const runUsage = "[FLAGS] [DIR | app.wasm [ARGS] | wedge.toml | fastly.toml]"

const defaultAddr = "127.0.0.1:7676"

// runOptions is a command line of wedge run, checked.
type runOptions struct {
	Path      string   // of the app; "" with Manifest: the manifest's own
	Manifest  string   // -C: bindings for the guest at Path; "": Path's own
	Addr      string   // host:port of the plain listener
	OpsAddr   string   // host:port for operators; "": none
	TLSAddr   string   // of the TLS listener; "": none
	Cert, Key string   // PEM files, with TLSAddr
	ClientCA  string   // PEM file, with TLSAddr: clients are asked for a certificate
	NeedCert  bool     // with ClientCA: who has none is not served
	Watch     bool     // build and load anew on changes
	Trace     bool     // show every request's steps
	Once      bool     // serve one request and end
	DataDir   string   // of the stores; "": the app's .wedge/data
	Ephemeral bool     // the stores keep nothing
	CacheMem  int64    // bytes of stored responses in memory; 0: the cache's default
	CacheDisk int64    // bytes of stored responses in DataDir; negative: none
	JSON      bool     // logs and traces as JSON
	Args      []string // WASI arguments after the program's name
}

// parseRun reads the command line. Everything after a .wasm file or "--" is the guest's. With -C what
// follows is the program whatever its name: "go test -exec" gives it none that ends in .wasm. It may stand
// behind "--", as in the runner that cargo is given.
func parseRun(args []string) (runOptions, error) {
	var o runOptions
	fs := newFlags("run")
	fs.StringVar(&o.Addr, "addr", defaultAddr, "`HOST:PORT` to listen at; port 0 takes a free one")
	fs.StringVar(&o.OpsAddr, "ops-addr", "", "`HOST:PORT` for operators: /metrics, /healthz, /readyz, /debug/pprof")
	fs.StringVar(&o.TLSAddr, "tls-addr", "", "`HOST:PORT` to listen at with TLS; needs --cert and --key")
	fs.StringVar(&o.Cert, "cert", "", "PEM `FILE` with the certificate chain for --tls-addr")
	fs.StringVar(&o.Key, "key", "", "PEM `FILE` with the key for --tls-addr")
	fs.StringVar(&o.ClientCA, "client-ca", "", "PEM `FILE` of who signs clients' certificates; clients at --tls-addr are asked for one")
	fs.BoolVar(&o.NeedCert, "require-client-cert", false, "serve only clients with a certificate; with --client-ca")
	fs.BoolVar(&o.Watch, "watch", false, "build and load anew when a file of the app changes")
	fs.BoolVar(&o.Trace, "trace", false, "show every request's steps")
	fs.BoolVar(&o.Once, "once", false, "serve one request and end")
	fs.StringVar(&o.DataDir, "data", "", "`DIR` where stores keep what is written (default .wedge/data of the app)")
	fs.BoolVar(&o.Ephemeral, "ephemeral", false, "stores keep nothing")
	fs.Func("cache-memory", "`SIZE` of responses kept in memory, such as 512MiB (default 256MiB)", o.setCacheMemory)
	fs.Func("cache-disk", "`SIZE` of responses kept in the data directory, such as 512MiB; 0 keeps none (default 1GiB)", o.setCacheDisk)
	fs.StringVar(&o.Manifest, "C", "", "`FILE` (wedge.toml or fastly.toml) with bindings for the program that follows")
	fs.BoolVar(&o.JSON, "json", false, "print access lines and traces as JSON")
	program := func(path string) bool { return isWasm(path) || o.Manifest != "" }
	rest, tail, err := parseUntil(fs, args, program)
	if err != nil {
		return o, err
	}
	if len(rest) == 0 && len(tail) > 0 && program(tail[0]) && !strings.HasPrefix(tail[0], "-") {
		rest, tail = tail[:1], tail[1:]
	}
	if len(rest) > 1 {
		return o, usage(fs, fmt.Errorf("unexpected argument %q", rest[1]))
	}
	o.Path, o.Args = first(rest, ""), tail
	if o.Path == "" && o.Manifest == "" {
		o.Path = "."
	}
	if err := o.check(); err != nil {
		return o, usage(fs, err)
	}
	return o, nil
}

// setCacheMemory reads --cache-memory.
func (o *runOptions) setCacheMemory(s string) error {
	n, err := manifest.ParseSize(s)
	if err != nil || n < leastCacheMemory {
		return errors.New("write a size such as 512MiB or 2GiB, at least 1MiB")
	}
	o.CacheMem = n
	return nil
}

const leastCacheMemory = 1 << 20

// setCacheDisk reads --cache-disk. In options and node, 0 is the default.
func (o *runOptions) setCacheDisk(s string) error {
	n, err := manifest.ParseSize(s)
	if err != nil {
		return errors.New("write a size such as 512MiB or 2GiB")
	}
	if o.CacheDisk = n; n == 0 {
		o.CacheDisk = -1
	}
	return nil
}

func isWasm(path string) bool { return filepath.Ext(path) == ".wasm" }

// check finds what is wrong with the options together.
func (o *runOptions) check() error {
	if err := checkAddr(o.Addr); err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	if o.TLSAddr != "" {
		if err := checkAddr(o.TLSAddr); err != nil {
			return fmt.Errorf("--tls-addr: %w", err)
		}
	}
	if o.OpsAddr != "" {
		if err := checkAddr(o.OpsAddr); err != nil {
			return fmt.Errorf("--ops-addr: %w", err)
		}
	}
	switch {
	case (o.Cert == "") != (o.Key == ""):
		return errors.New("--cert and --key go together")
	case o.TLSAddr != "" && o.Cert == "":
		return errors.New("--tls-addr needs --cert and --key")
	case o.TLSAddr == "" && o.Cert != "":
		return errors.New("--cert and --key are of no use without --tls-addr")
	case o.ClientCA != "" && o.TLSAddr == "":
		return errors.New("--client-ca is of no use without --tls-addr")
	case o.NeedCert && o.ClientCA == "":
		return errors.New("--require-client-cert needs --client-ca")
	case o.TLSAddr == o.Addr && !freePort(o.Addr):
		return errors.New("--addr and --tls-addr are the same")
	case o.Ephemeral && o.DataDir != "":
		return errors.New("--ephemeral and --data contradict each other")
	case o.Once && o.Watch:
		return errors.New("--once and --watch contradict each other")
	}
	return nil
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is not a port from 0 to 65535", port)
	}
	return nil
}

func freePort(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	return port == "0"
}

// load reads the app that the options mean; with --watch the node calls it again. With
// -C the guest is the given one, which is not built.
func (o *runOptions) load(talk io.Writer) (*manifest.App, error) {
	path := o.Path
	if o.Manifest != "" {
		path = o.Manifest
	}
	app, err := loadApp(path, talk)
	if err != nil {
		return nil, err
	}
	if o.Manifest != "" && o.Path != "" {
		app.GuestPath, app.Build = o.Path, manifest.Recipe{}
		app.Watch = append(app.Watch, o.Path)
	}
	if o.Once && app.Version.Limits.Fetches == 0 {
		app.Version.Limits.Fetches = onceFetches
	}
	if len(o.Args) > 0 {
		name := first(app.Version.Args, "compute-app") // what the ABI calls the program
		app.Version.Args = append([]string{name}, o.Args...)
	}
	return app, nil
}

// onceFetches bounds the backend requests of a guest that is run once: it may be a whole suite of tests.
const onceFetches = 1000

// prepare loads the app and builds it if it must be: what runs is what is on disk.
func (o *runOptions) prepare(ctx context.Context, talk io.Writer) (*manifest.App, error) {
	app, err := o.load(talk)
	if err != nil {
		return nil, err
	}
	if app.GuestPath == "" && !o.Once {
		return app, nil
	}
	stale, err := manifest.Stale(app)
	if err != nil {
		return nil, err
	}
	if stale {
		fmt.Fprintf(talk, "building %s\n", app.Version.Service)
		if err := manifest.Build(ctx, app, talk); err != nil {
			return nil, err
		}
	}
	if app.Version.Guest, err = app.ReadGuest(); err != nil {
		return nil, err
	}
	return app, nil
}

func runRun(ctx context.Context, std stdio, args []string) error {
	o, err := parseRun(args)
	if err != nil {
		return err
	}
	cfg := node.Config{
		Load: node.One(func(ctx context.Context) (*manifest.App, error) { return o.prepare(ctx, std.err) }),
		HTTP: []string{o.Addr}, DataDir: o.DataDir, Ephemeral: o.Ephemeral || o.Once, CacheDisk: o.CacheDisk,
		Watch: o.Watch, Trace: o.Trace, JSON: o.JSON, Stdout: std.out, Stderr: std.err,
	}
	cfg.Ops, cfg.CacheMemory = o.OpsAddr, o.CacheMem
	if o.TLSAddr != "" {
		cfg.HTTPS = []string{o.TLSAddr}
		cfg.Certificates = []front.CertificateFiles{{Cert: o.Cert, Key: o.Key}}
		if err := askClients(&cfg, o.ClientCA, o.NeedCert); err != nil {
			return err
		}
	}
	if cfg.DataDir == "" && !cfg.Ephemeral {
		if cfg.DataDir, err = o.dataDir(std.err); err != nil {
			return err
		}
	}
	if o.Once {
		return node.Once(ctx, cfg)
	}
	return inTerms(ctx, std, func(ctx context.Context, term *handover.Term) error {
		cfg.Term = term
		return node.Run(ctx, cfg)
	})
}

// askClients has TLS clients asked for a certificate that one of the authorities in a file has signed.
func askClients(cfg *node.Config, file string, require bool) (err error) {
	if file == "" {
		return nil
	}
	cfg.ClientCert = front.ClientCertRequest
	if require {
		cfg.ClientCert = front.ClientCertRequire
	}
	cfg.ClientCAs, err = front.ReadCAs(file)
	return err
}

// dataDir is where the app's stores lie unless told otherwise.
func (o *runOptions) dataDir(talk io.Writer) (string, error) {
	app, err := o.load(talk)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(app.Dir, ".wedge", "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", &wedge.Error{Op: "make data directory", What: dir, Kind: wedge.Unavailable, Err: err, Hint: "Choose another with --data, or use --ephemeral."}
	}
	return dir, nil
}
