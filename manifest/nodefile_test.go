package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// TestNodeSample: the file with comments is one that a node takes.
func TestNodeSample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "deploy", "wedge-node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "wedge-node.toml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), `roles = ["core", "pop"] `, `roles = ["core", "pop", "dns"] `, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := LoadNode(file)
	if err != nil {
		t.Fatal(err)
	}
	if !n.Has(RoleCore) || !n.Has(RolePoP) || n.Place.Name != "fra1" || n.Place.Jurisdictions[0] != "eu" || n.Core.Public != "core.example:7671" || n.CacheDisk != 20<<30 || n.Ops.Listen == "" || n.Peers.Listen != "0.0.0.0:7674" || n.Peers.Public != "192.0.2.1:7674" {
		t.Errorf("%+v", n)
	}
	if s := n.Sinks["lake"]; s == nil || s.File != "/var/lib/wedge-events/lake.ndjson" || s.MaxBytes != 4<<30 || s.Services[0] != "shop" {
		t.Errorf("%+v", s)
	}
	if s := n.Sinks["stream"]; s == nil || s.Subject != "events.raw" || s.NATS[0] != "tls://nats.example:4222" || !filepath.IsAbs(s.Credentials) {
		t.Errorf("%+v", s)
	}
	d := &n.DNS
	if !n.Has(RoleDNS) || len(n.Place.Addresses) != 2 || d.TTLTime != 30*time.Second || d.PoPs != 2 || len(d.NameServers["ns2.edge.example"]) != 2 || d.Nets[0].Bits() != 24 || d.Subnet[0].Lat != 48.9 {
		t.Errorf("%+v", n)
	}
}

func TestNodeFaults(t *testing.T) {
	dir := t.TempDir()
	pop := "roles = [\"pop\"]\ndata = \"d\"\n[http]\nlisten = [\"127.0.0.1:0\"]\n[place]\nname = \"fra1\"\nlat = 1\nlon = 1\n"
	dns := "roles = [\"dns\"]\ndata = \"d\"\n[place]\nname = \"ns1\"\n[dns]\nlisten = [\"127.0.0.1:0\"]\n"
	for text, want := range map[string]string{
		"":                                 "no roles",
		"roles = [\"pop\"":                 "read node file",
		"roles = [\"edge\"]\ndata = \"d\"": "no such role: \"edge\"",
		"roles = [\"core\"]\ndata = \"d\"": "a core without an API",
		"roles = [\"pop\"]\n[http]\nlisten = [\"a\"]\n[place]\nname = \"fra1\"": "no data",
		strings.Replace(pop, "fra1", "Fra 1", 1):                                "not a name for a PoP",
		strings.Replace(pop, "lat = 1", "lat = 100", 1):                         "latitude",
		strings.Replace(pop, "\"127.0.0.1:0\"", "", 1):                          "listens nowhere",
		pop + "colour = \"red\"\n":                                              "unknown key place.colour",
		pop + "[cache]\nmemory = \"lots\"\n":                                    "[cache]",
		pop + "[https]\nlisten = [\"a\"]\n":                                     "needs cert and key",
		pop + "[join]\ninvitation = \"x\"\nfile = \"y\"\n":                      "both an invitation and a file",
		pop + "[join]\nfile = \"none\"\n":                                       "none",
		strings.Replace(pop, "lat = 1", "addresses = [\"here\"]", 1):            "no address of a PoP",
		pop + "[peers]\nlisten = \"0.0.0.0:7674\"\n":                            "cannot reach 0.0.0.0:7674",
		pop + "[peers]\nlisten = \":7674\"\n":                                   "cannot reach :7674",
		pop + "[peers]\nlisten = \"0.0.0.0:1\"\npublic = \"fra1.example\"\n":    "cannot reach fra1.example",
		pop + "[peers]\npublic = \"192.0.2.1:7674\"\n":                          "no listen",
		pop + "print = \"00\"\n":                                                "unknown key place.print",
		strings.Replace(dns, "ns1", "", 1):                                      "not a name for a PoP",
		strings.Replace(dns, "\"127.0.0.1:0\"", "", 1):                          "DNS listens nowhere",
		pop + "[sinks.a]\n":                                                     "a file or a nats",
		pop + "[sinks.A]\nfile = \"f\"\n":                                       "bad name",
		pop + "[sinks.a]\nnats = [\"nats://x\"]\nsubject = \"a.>\"\n":           "none to send to",
		pop + "[sinks.a]\nfile = \"f\"\nmax_size = \"lots\"\n":                  "[sinks.a]",
		pop + "[sinks.a]\nfile = \"f\"\nsubject = \"x\"\n":                      "of a nats",
		dns + "ttl = \"soon\"\n":                                                "ttl",
		dns + "[[dns.subnet]]\nnet = \"10.0.0.1\"\n":                            "no network",
	} {
		file := filepath.Join(dir, "node.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadNode(file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n%v\nnot %s", text, err, want)
		}
		for _, e := range append(unjoined(err), err) {
			if k := wedge.KindOf(e); k != wedge.Invalid && k != wedge.NotExist && k != wedge.Internal {
				t.Errorf("%q: %v", text, k)
			}
		}
	}
}

func unjoined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return nil
}
