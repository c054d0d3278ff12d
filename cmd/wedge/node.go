package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/dns"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/handover"
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
	return inTerms(ctx, std, func(ctx context.Context, term *handover.Term) error {
		return serveNode(ctx, std, n, node.Config{JSON: *asJSON, Quiet: *quiet, Term: term})
	})
}

// serveNode serves what the node file says, until ctx ends.
func serveNode(ctx context.Context, std stdio, n *manifest.NodeFile, cfg node.Config) error {
	if len(n.HTTPS.Listen) > 0 { // what can be found wrong is, while a predecessor serves
		if err := (front.CertificateFiles{Cert: n.HTTPS.Cert, Key: n.HTTPS.Key}).Check(); err != nil {
			return err
		}
	}
	if err := cfg.Term.Prepared(ctx); err != nil {
		return err
	}
	var core *node.Core
	if n.Has(manifest.RoleCore) {
		var err error
		if core, err = node.OpenCore(ctx, coreConfig(n)); err != nil {
			return err
		}
		end := sync.OnceFunc(core.Close)
		defer end()
		cfg.Term.OnLetGo(end)
		stop, err := serveAPI(ctx, std, core, cfg.Term, n.Core.API)
		if err != nil {
			return err
		}
		defer stop()
		cfg.Term.OnLetGo(stop)
	}
	if !n.Has(manifest.RolePoP) {
		if n.Has(manifest.RoleDNS) {
			cfg.Term.Serving()
			err := node.RunDNS(ctx, dnsOf(n, core))
			if context.Cause(ctx) == handover.ErrSucceeded {
				cfg.Term.LetGo()
			}
			return err
		}
		cfg.Term.Serving()
		<-ctx.Done()
		if context.Cause(ctx) == handover.ErrSucceeded {
			cfg.Term.LetGo()
		}
		return nil
	}
	cfg.HTTP, cfg.HTTPS, cfg.Ops, cfg.DataDir = n.HTTP.Listen, n.HTTPS.Listen, n.Ops.Listen, filepath.Join(n.Data, "pop")
	cfg.CacheMemory, cfg.CacheDisk, cfg.Stdout, cfg.Stderr = n.CacheMemory, n.CacheDisk, std.out, std.err
	cfg.Fleet = &node.FleetConfig{PoP: n.Place, Invitation: n.Join.Invitation, Peers: node.PeerConfig{Listen: n.Peers.Listen, Public: n.Peers.Public}}
	cfg.Fleet.RuntimeDir = runtimeDir(n.Place.Name)
	cfg.Sinks = map[string]node.SinkConfig{}
	for name, s := range n.Sinks {
		cfg.Sinks[name] = node.SinkConfig{File: s.File, MaxSize: s.MaxBytes, NATS: s.NATS, Subject: s.Subject, Credentials: s.Credentials, Services: s.Services}
	}
	if len(n.HTTPS.Listen) > 0 {
		cfg.Certificates = []front.CertificateFiles{{Cert: n.HTTPS.Cert, Key: n.HTTPS.Key}}
		if err := askClients(&cfg, n.HTTPS.ClientCA, n.HTTPS.RequireClientCert); err != nil {
			return err
		}
	}
	if core != nil {
		core.Join(cfg.Fleet)
	}
	if n.Has(manifest.RoleDNS) {
		d := dnsOf(n, core)
		cfg.DNS = &d
	}
	return node.Run(ctx, cfg)
}

// runtimeDir returns where a PoP keeps what outlasts its process and not the machine's power: systemd's directory for the unit (see deploy/wedge.service), or one
// in the user's; "" if there is neither.
func runtimeDir(pop string) string {
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, pop)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "wedge", pop)
	}
	return ""
}

// coreConfig is what the node file says of the core.
func coreConfig(n *manifest.NodeFile) node.CoreConfig {
	c := &n.Core
	cfg := node.CoreConfig{Dir: filepath.Join(n.Data, "core"), Listen: c.Listen, Public: c.Public, Name: c.Name, Cluster: c.Cluster, Peers: c.Peers, Jurisdictions: n.Place.Jurisdictions}
	if len(c.NATS.URLs) > 0 {
		cfg.NATS = &node.NATSConfig{URLs: c.NATS.URLs, ForPoPs: c.NATS.ForPoPs, Copies: c.NATS.Copies, Account: c.NATS.Account, Issuer: c.NATS.Issuer}
	}
	return cfg
}

// dnsOf is what a node file says of DNS. Without a PoP or a core beside it, the node is a member on its own account.
func dnsOf(n *manifest.NodeFile, core *node.Core) node.DNSConfig {
	cfg := node.DNSConfig{
		Names:  dns.Config{Zones: n.DNS.Zones, NameServers: n.DNS.NameServers, TTL: n.DNS.TTLTime, PoPs: n.DNS.PoPs, Database: n.DNS.Database},
		Listen: n.DNS.Listen, Dir: filepath.Join(n.Data, "dns"), Ops: n.Ops.Listen,
		Core: core, Fleet: &node.FleetConfig{PoP: n.Place, Invitation: n.Join.Invitation},
	}
	for i, s := range n.DNS.Subnet {
		cfg.Names.Subnets = append(cfg.Names.Subnets, dns.Subnet{Net: n.DNS.Nets[i], Lat: s.Lat, Lon: s.Lon})
	}
	return cfg
}

// serveAPI serves the control API: with TLS, unless it is for this machine alone.
func serveAPI(ctx context.Context, std stdio, core *node.Core, term *handover.Term, addr string) (stop func(), err error) {
	fail := func(err error, hint string) (func(), error) {
		return nil, &wedge.Error{Op: "listen", What: addr, Kind: wedge.Unavailable, Err: err, Hint: hint}
	}
	l, err := term.Listen("api", addr)
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
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
	})
	context.AfterFunc(ctx, stop)
	return stop, nil
}
