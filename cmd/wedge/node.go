package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
)

const nodeUsage = "--config FILE"

func runNode(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("node")
	file := fs.String("config", "wedge-node.toml", "node `FILE`; deploy/wedge-node.toml is one with comments")
	asJSON := fs.Bool("json", false, "print access lines as JSON")
	quiet := fs.Bool("quiet", false, "print no access lines")
	if _, err := parse(fs, args, 0); err != nil {
		return err
	}
	n, err := manifest.LoadNode(*file)
	if err != nil {
		return err
	}
	var core *node.Core
	if n.Has(manifest.RoleCore) {
		if core, err = node.OpenCore(ctx, node.CoreConfig{Dir: filepath.Join(n.Data, "core"), Listen: n.Core.Listen, Public: n.Core.Public}); err != nil {
			return err
		}
		defer core.Close()
		stop, err := serveAPI(std, core, n.Core.API)
		if err != nil {
			return err
		}
		defer stop()
	}
	if !n.Has(manifest.RolePoP) {
		<-ctx.Done()
		return nil
	}
	cfg := node.Config{
		HTTP: n.HTTP.Listen, HTTPS: n.HTTPS.Listen, DataDir: filepath.Join(n.Data, "pop"), Ops: n.Ops.Listen, CacheMemory: n.CacheMemory, CacheDisk: n.CacheDisk,
		JSON: *asJSON, Quiet: *quiet, Stdout: std.out, Stderr: std.err,
		Fleet: &node.FleetConfig{PoP: n.Place, Invitation: n.Join.Invitation},
	}
	if len(n.HTTPS.Listen) > 0 {
		cfg.Certificates = []front.CertificateFiles{{Cert: n.HTTPS.Cert, Key: n.HTTPS.Key}}
		if err := askClients(&cfg, n.HTTPS.ClientCA, n.HTTPS.RequireClientCert); err != nil {
			return err
		}
	}
	if core != nil {
		cfg.Fleet.Dial, cfg.Fleet.Pass = core.Dial, func(public string) (string, error) { return core.Pass(n.Place.Name, public) }
	}
	return node.Run(ctx, cfg)
}

// serveAPI serves the control API: with TLS, unless it is for this machine alone.
func serveAPI(std stdio, core *node.Core, addr string) (stop func(), err error) {
	fail := func(err error, hint string) (func(), error) {
		return nil, &wedge.Error{Op: "listen", What: addr, Kind: wedge.Unavailable, Err: err, Hint: hint}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fail(err, "Is something else listening there?")
	}
	scheme := "http"
	if a, err := netip.ParseAddrPort(l.Addr().String()); err != nil || !a.Addr().IsLoopback() {
		if core.Print() == "" {
			l.Close()
			return fail(errors.New("an API for other machines needs a certificate"), "Give the core an address for PoPs, too: [core] listen.")
		}
		l, scheme = tls.NewListener(l, core.TLS()), "https"
	}
	server := http.Server{Handler: core, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	fmt.Fprintf(std.err, "control API at %s://%s, its first token in %s\n", scheme, l.Addr(), core.TokenFile())
	if scheme == "https" {
		fmt.Fprintf(std.err, "who speaks with it from elsewhere: WEDGE_CORE_PRINT=%s\n", core.Print())
	}
	return func() { _ = server.Close() }, nil
}
