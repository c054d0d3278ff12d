package manifest

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/wedge-cloud/wedge"
)

// NodeFile is what wedge node reads: what a node needs that only a restart can change.
type NodeFile struct {
	Roles []string // core, pop
	Data  string   // directory of everything that is kept

	Place wedge.PoP // with the role pop

	Core struct { // with the role core
		Listen string // host:port for PoPs
		Public string // host:port where they reach it, if that is another
		API    string // host:port of the control API
	}
	Join struct { // with the role pop, where the core is elsewhere
		Invitation string // what wedge pops add has printed
		File       string // a file with that
	}
	HTTP  struct{ Listen []string } // host:port
	HTTPS struct {
		Listen    []string
		Cert, Key string // PEM files

		ClientCA          string `toml:"client_ca"`           // PEM file of who signs clients' certificates; clients are asked for one
		RequireClientCert bool   `toml:"require_client_cert"` // who has none is not served
	}
	Ops   struct{ Listen string } // host:port
	Cache struct{ Memory, Disk string }

	CacheMemory, CacheDisk int64 `toml:"-"` // of Cache, in bytes; 0: the default
}

// Roles of nodes.
const (
	RoleCore = "core"
	RolePoP  = "pop"
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
	for _, path := range []*string{&n.Data, &n.Join.File, &n.HTTPS.Cert, &n.HTTPS.Key, &n.HTTPS.ClientCA} {
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

func (n *NodeFile) check(bad func(why, hint string)) {
	for _, r := range n.Roles {
		if r != RoleCore && r != RolePoP {
			bad(fmt.Sprintf("no such role: %q", r), `There are "core" and "pop".`)
		}
	}
	switch {
	case len(n.Roles) == 0:
		bad("no roles", `Write roles = ["core"], ["pop"], or both.`)
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
		if n.Join.Invitation != "" && n.Join.File != "" {
			bad("[join] has both an invitation and a file", "One will do.")
		}
	}
	if n.Has(RoleCore) && n.Core.API == "" {
		bad("a core without an API decides nothing", `Write [core] with api = "127.0.0.1:7670".`)
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
