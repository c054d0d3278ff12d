package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/wedge-cloud/wedge"
)

// NodeFile is what wedge node reads: what a node needs that only a restart can change.
type NodeFile struct {
	Roles []string // core, pop, dns
	Data  string   // directory of everything that is kept

	Place wedge.PoP // with the role pop; of a node with the role dns alone its name

	Core struct { // with the role core
		Listen string // host:port for PoPs
		Public string // host:port where they reach it, if that is another
		API    string // host:port of the control API

		Name    string   // of several servers of a core: each has its own
		Cluster string   // host:port for the others
		Peers   []string // host:port of all of them

		NATS struct { // one that is run apart from Wedge
			URLs            []string
			ForPoPs         []string `toml:"for_pops"` // other URLs for PoPs
			Copies          int
			Account, Issuer string // file with a seed; public key
		}
	}
	Join struct { // with the roles pop and dns, where the core is elsewhere
		Invitation string // what wedge pops add has printed
		File       string // a file with that
	}
	Peers struct { // with the role pop
		Listen string // host:port for other PoPs; "": none reaches this one, nor it them
		Public string // host:port where they reach it, if that is another
	}
	HTTP  struct{ Listen []string } // host:port
	HTTPS struct {
		Listen    []string
		Cert, Key string // PEM files

		ClientCA          string `toml:"client_ca"`           // PEM file of who signs clients' certificates; clients are asked for one
		RequireClientCert bool   `toml:"require_client_cert"` // who has none is not served
	}
	DNS   NodeDNS                 // with the role dns
	Ops   struct{ Listen string } // host:port
	Cache struct{ Memory, Disk string }
	Sinks map[string]*NodeSink // with the role pop, by name

	CacheMemory, CacheDisk int64 `toml:"-"` // of Cache, in bytes; 0: the default
}

// NodeDNS says what a node with the role dns answers.
type NodeDNS struct {
	Listen      []string            // host:port, for UDP and TCP
	Zones       []string            // names that the fleet has authority for
	NameServers map[string][]string // names, and the addresses of those in a zone
	TTL         string              // such as 30s; "": the default
	PoPs        int                 // in one answer; 0: the default
	Database    string              // file in MaxMind's format
	Subnet      []struct {          // where clients are, before the database is asked
		Net      string // such as 192.0.2.0/24
		Lat, Lon float64
	}

	TTLTime time.Duration  `toml:"-"` // of TTL
	Nets    []netip.Prefix `toml:"-"` // of Subnet
}

// NodeSink is where services may have raw events sent to: a file or a subject.
type NodeSink struct {
	File    string
	MaxSize string `toml:"max_size"` // of the file; "": the default

	NATS        []string
	Subject     string
	Credentials string // file

	Services []string // that may; none: all

	MaxBytes int64 `toml:"-"` // of MaxSize
}

// Roles of nodes.
const (
	RoleCore = "core"
	RolePoP  = "pop"
	RoleDNS  = "dns"
)

// Has reports whether the node has a role.
func (n *NodeFile) Has(role string) bool { return slices.Contains(n.Roles, role) }

// LoadNode reads a node file. A key that it does not know is an error, as is a value that makes no sense; of several
// faults each is one of the joined errors.
func LoadNode(file string) (*NodeFile, error) {
	text, err := readBounded(file, maxManifest)
	if err != nil {
		return nil, err
	}
	var n NodeFile
	meta, err := toml.Decode(string(text), &n)
	if err != nil {
		return nil, &wedge.Error{Op: "read node file", What: file, Kind: wedge.Invalid, Err: err}
	}
	var faults []error
	bad := func(why, hint string) {
		faults = append(faults, &wedge.Error{Op: "read node file", What: file, Kind: wedge.Invalid, Err: errors.New(why), Hint: hint})
	}
	for _, k := range meta.Undecoded() {
		bad(fmt.Sprintf("unknown key %s", k), "See deploy/wedge-node.toml, which has all there are.")
	}
	n.check(bad)
	dir := filepath.Dir(file)
	paths := []*string{}
	for _, s := range n.Sinks {
		paths = append(paths, &s.File, &s.Credentials)
	}
	for _, path := range append(paths, &n.Data, &n.Join.File, &n.HTTPS.Cert, &n.HTTPS.Key, &n.HTTPS.ClientCA, &n.Core.NATS.Account, &n.DNS.Database) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	if n.Join.File != "" && len(faults) == 0 {
		line, err := readBounded(n.Join.File, 16<<10)
		if err != nil {
			return nil, err
		}
		n.Join.Invitation = strings.TrimSpace(string(line))
	}
	return &n, errors.Join(faults...)
}

func (n *NodeFile) checkCore(bad func(why, hint string)) {
	c := &n.Core
	switch alone := c.Cluster == ""; {
	case c.API == "":
		bad("a core without an API decides nothing", `Write [core] with api = "127.0.0.1:7670".`)
	case len(c.NATS.URLs) > 0 && (c.Listen != "" || !alone):
		bad("[core.nats] has the servers, and [core] another", "Leave out listen and cluster, or [core.nats].")
	case alone != (len(c.Peers) == 0):
		bad("[core] cluster and peers go together", "")
	case !alone && (c.Name == "" || c.Listen == ""):
		bad("one of a core's servers needs a name of its own, and listen", "")
	case !alone && len(c.Peers) != 3 && len(c.Peers) != 5:
		bad(fmt.Sprintf("[core] peers names %d servers", len(c.Peers)), "A core has one server, three or five: more than half must be there. All of them name all, themselves too.")
	case c.NATS.Copies < 0 || c.NATS.Copies > 5:
		bad("[core.nats] copies is from 1 to 5", "")
	case c.NATS.Issuer != "" && c.NATS.Account == "":
		bad("[core.nats] issuer is of no use without account", "")
	}
}

func (n *NodeFile) check(bad func(why, hint string)) {
	for _, r := range n.Roles {
		if r != RoleCore && r != RolePoP && r != RoleDNS {
			bad(fmt.Sprintf("no such role: %q", r), `There are "core", "pop" and "dns".`)
		}
	}
	switch {
	case len(n.Roles) == 0:
		bad("no roles", `Write roles = ["core"], ["pop"], ["dns"], or several of them.`)
	case n.Data == "":
		bad("no data", "Name the directory where the node keeps everything.")
	}
	if n.Has(RolePoP) {
		if err := n.Place.Check(); err != nil {
			bad("[place]: "+err.Error(), wedge.HintOf(err))
		}
		if len(n.HTTP.Listen)+len(n.HTTPS.Listen) == 0 {
			bad("a PoP listens nowhere", `Write [http] with listen = ["0.0.0.0:80"].`)
		}
		n.checkPeers(bad)
	}
	for name, s := range n.Sinks {
		if why := s.check(); !nameRule.MatchString(name) || why != "" {
			bad("[sinks."+name+"]: "+cmp.Or(why, "bad name"), `Write file = "events.ndjson", or nats = ["nats://127.0.0.1:4222"] and subject = "events".`)
		}
	}
	if n.Join.Invitation != "" && n.Join.File != "" {
		bad("[join] has both an invitation and a file", "One will do.")
	}
	if n.Has(RoleDNS) {
		n.checkDNS(bad)
	}
	if n.Has(RoleCore) {
		n.checkCore(bad)
	}
	if len(n.HTTPS.Listen) > 0 && (n.HTTPS.Cert == "" || n.HTTPS.Key == "") {
		bad("[https] needs cert and key", "They are PEM files.")
	}
	if n.HTTPS.RequireClientCert && n.HTTPS.ClientCA == "" {
		bad("[https] requires client certificates of nobody", "Name a PEM file of who signs them as client_ca.")
	}
	for _, s := range []struct {
		text string
		into *int64
	}{{n.Cache.Memory, &n.CacheMemory}, {n.Cache.Disk, &n.CacheDisk}} {
		if s.text == "" {
			continue
		}
		size, err := ParseSize(s.text)
		if err != nil {
			bad("[cache]: "+err.Error(), "Write a size such as 512MiB.")
		}
		*s.into = size
	}
}

func (s *NodeSink) check() (why string) {
	isFile := s.File != ""
	switch {
	case isFile == (len(s.NATS) > 0):
		return "it is to have a file or a nats"
	case isFile && s.Subject+s.Credentials != "":
		return "subject and credentials are of a nats"
	case !isFile && (s.Subject == "" || strings.ContainsAny(s.Subject, "*> \t\r\n")):
		return "its subject is none to send to"
	case !isFile && s.MaxSize != "":
		return "max_size is of a file"
	case s.MaxSize == "":
		return ""
	}
	var err error
	if s.MaxBytes, err = ParseSize(s.MaxSize); err != nil {
		return err.Error()
	}
	return ""
}

func (n *NodeFile) checkPeers(bad func(why, hint string)) {
	c := &n.Peers
	reached := wedge.PoP{Name: "any", Peer: cmp.Or(c.Public, c.Listen), Print: strings.Repeat("0", 64)}
	switch {
	case c.Listen == "" && c.Public != "":
		bad("[peers] has public, and no listen", "")
	case c.Listen != "" && reached.Check() != nil && !(c.Public == "" && strings.HasSuffix(c.Listen, ":0")):
		bad(fmt.Sprintf("[peers]: other PoPs cannot reach %s", reached.Peer), `Write where they can, such as public = "192.0.2.1:7674".`)
	}
}

// checkDNS reads what is text in [dns]; what is a name, and how many there may be, is for package dns to say.
func (n *NodeFile) checkDNS(bad func(why, hint string)) {
	if !n.Has(RoleCore) && !n.Has(RolePoP) {
		name := wedge.PoP{Name: n.Place.Name}
		if err := name.Check(); err != nil {
			bad("[place]: "+err.Error(), "A node that answers DNS alone is a member by that name: wedge pops add NAME makes its invitation.")
		}
	}
	d := &n.DNS
	if len(d.Listen) == 0 {
		bad("DNS listens nowhere", `Write [dns] with listen = ["0.0.0.0:53"].`)
	}
	var err error
	if d.TTL != "" {
		if d.TTLTime, err = time.ParseDuration(d.TTL); err != nil || d.TTLTime < time.Second {
			bad(fmt.Sprintf("[dns]: ttl: %q is no time of a second or more", d.TTL), "Write one such as 30s.")
		}
	}
	for _, s := range d.Subnet {
		net, err := netip.ParsePrefix(s.Net)
		if err != nil {
			bad(fmt.Sprintf("[[dns.subnet]]: %q is no network", s.Net), "Write one such as 192.0.2.0/24.")
		}
		d.Nets = append(d.Nets, net)
	}
}
