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
	"github.com/wedge-cloud/wedge/dns"
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
		if core, err = node.OpenCore(ctx, coreConfig(n)); err != nil {
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
		if n.Has(manifest.RoleDNS) {
			return node.RunDNS(ctx, dnsOf(n, core))
		}
		<-ctx.Done()
		return nil
	}
	cfg := node.Config{
		HTTP: n.HTTP.Listen, HTTPS: n.HTTPS.Listen, DataDir: filepath.Join(n.Data, "pop"), Ops: n.Ops.Listen, CacheMemory: n.CacheMemory, CacheDisk: n.CacheDisk,
		JSON: *asJSON, Quiet: *quiet, Stdout: std.out, Stderr: std.err,
		Fleet: &node.FleetConfig{PoP: n.Place, Invitation: n.Join.Invitation, Peers: node.PeerConfig{Listen: n.Peers.Listen, Public: n.Peers.Public}},
	}
	if len(n.HTTPS.Listen) > 0 {
		cfg.Certificates = []front.CertificateFiles{{Cert: n.HTTPS.Cert, Key: n.HTTPS.Key}}
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

// coreConfig is what the node file says of the core.
func coreConfig(n *manifest.NodeFile) node.CoreConfig {
	c := &n.Core
	cfg := node.CoreConfig{Dir: filepath.Join(n.Data, "core"), Listen: c.Listen, Public: c.Public, Name: c.Name, Cluster: c.Cluster, Peers: c.Peers}
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
