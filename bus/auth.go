package bus

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/wedge-cloud/wedge"
)

// A Member's key pair is made where the member is, and its secret half never leaves that place. A core signs the public half
// into a pass, which says what the member may say and hear.

// Keys are a core's own, with which it signs passes.
type Keys struct {
	operator, account, system nkeys.KeyPair

	issuer string // the account's public key, if account is one of its signing keys
}

// AccountKeys reads the key of an account at a NATS that is run apart from Wedge, from a file with its seed. issuer is the account's
// public key; "": the seed is its own.
func AccountKeys(file, issuer string) (*Keys, error) {
	k, err := openKey(file, func() (nkeys.KeyPair, error) { return nil, errors.New("there is no such file") })
	if err != nil {
		return nil, err
	}
	own, err := k.PublicKey()
	if err != nil || !nkeys.IsValidPublicAccountKey(own) || issuer != "" && !nkeys.IsValidPublicAccountKey(issuer) {
		return nil, &wedge.Error{Op: "open key", What: file, Kind: wedge.Invalid, Err: errors.New("not the key of an account"), Hint: "Its seed begins with SA, its public key with A."}
	}
	if issuer == own {
		issuer = ""
	}
	return &Keys{account: k, issuer: issuer}, nil
}

// Files of a core's keys.
const (
	operatorFile = "operator.nk"
	accountFile  = "account.nk"
	systemFile   = "system.nk"
)

// OpenKeys reads a core's keys from a directory, where they are made if they are not there.
func OpenKeys(dir string) (k *Keys, err error) {
	k = &Keys{}
	for _, f := range []struct {
		name string
		key  *nkeys.KeyPair
		make func() (nkeys.KeyPair, error)
	}{{operatorFile, &k.operator, nkeys.CreateOperator}, {accountFile, &k.account, nkeys.CreateAccount}, {systemFile, &k.system, nkeys.CreateAccount}} {
		if *f.key, err = openKey(filepath.Join(dir, f.name), f.make); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Derive returns 32 bytes that come of the operator's key, others for each purpose; nil if there is no such key here.
func (k *Keys) Derive(purpose string) []byte {
	if k == nil || k.operator == nil {
		return nil
	}
	seed, err := k.operator.Seed()
	if err != nil {
		return nil
	}
	b, err := hkdf.Key(sha256.New, seed, nil, "wedge "+purpose, sha256.Size)
	if err != nil { // of lengths that are right
		return nil
	}
	return b
}

// openKey reads a key pair's seed from a file, or makes one and writes it there.
func openKey(file string, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	fail := func(kind wedge.Kind, err error) (nkeys.KeyPair, error) {
		return nil, &wedge.Error{Op: "open key", What: file, Kind: kind, Err: err}
	}
	seed, err := os.ReadFile(file)
	if err == nil {
		k, err := nkeys.FromSeed(seed)
		if err != nil {
			return fail(wedge.Invalid, errors.New("it is no key")) // its text is not to be shown
		}
		return k, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fail(wedge.Unavailable, err)
	}
	k, err := create()
	if err != nil {
		return fail(wedge.Internal, err)
	}
	if seed, err = k.Seed(); err != nil {
		return fail(wedge.Internal, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fail(wedge.Unavailable, err)
	}
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		return fail(wedge.Unavailable, err)
	}
	return k, nil
}

// Member is who a link belongs to.
type Member struct {
	key  nkeys.KeyPair
	pass string
}

// OpenMember reads a member's key from a file, where it is made if it is not there.
func OpenMember(file string) (*Member, error) {
	k, err := openKey(file, nkeys.CreateUser)
	return &Member{key: k}, err
}

// Public returns the public half of the member's key, for a pass.
func (m *Member) Public() string {
	p, err := m.key.PublicKey()
	if err != nil { // not for a pair that was made or read
		return ""
	}
	return p
}

// Carry gives the member its pass.
func (m *Member) Carry(pass string) { m.pass = strings.TrimSpace(pass) }

// CorePass signs a pass for a core itself, which may do all.
func (k *Keys) CorePass(public string) (string, error) {
	c := jwt.NewUserClaims(public)
	c.Name = "core"
	return k.sign(c)
}

// Pass signs a pass for the PoP of a name: it writes to its own place in logs, says what it does in its own name,
// follows these logs, takes from these shelves, and asks the core what is at these subjects. A PoP that is in somebody else's hands can lie about itself and no other.
func (k *Keys) Pass(pop, public string, logs []*Log, shelves []*Shelf, asks []string) (string, error) {
	if !nkeys.IsValidPublicUserKey(public) {
		return "", &wedge.Error{Op: "sign pass", What: pop, Kind: wedge.Invalid, Err: errors.New("not a public key")}
	}
	c := jwt.NewUserClaims(public)
	c.Name = pop
	c.Pub.Allow = jwt.StringList{"now.*", "applied.*." + pop, "pop." + pop, "runs." + pop}
	c.Pub.Allow.Add(asks...)
	c.Sub.Allow = jwt.StringList{"now.*", "applied.>", "pop.*", "head.*", "event.*", "state." + pop, inbox(pop) + ".>"}
	c.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: askTimeout} // who is asked may answer
	for _, s := range shelves {
		c.Pub.Allow.Add("$JS.API.DIRECT.GET."+s.Name, "$JS.API.STREAM.MSG.GET."+s.Name)
	}
	for _, g := range logs {
		c.Pub.Allow.Add("$JS.API.STREAM.INFO."+g.Name, "$JS.API.DIRECT.GET."+g.Name, "$JS.API.STREAM.MSG.GET."+g.Name)
		c.Sub.Allow.Add(g.tail() + ".>")
		if !g.Core {
			c.Pub.Allow.Add(g.subject(pop + ".>"))
		}
	}
	return k.sign(c)
}

func (k *Keys) sign(c *jwt.UserClaims) (string, error) {
	c.IssuerAccount = k.issuer
	pass, err := c.Encode(k.account)
	if err != nil {
		return "", &wedge.Error{Op: "sign pass", What: c.Name, Kind: wedge.Internal, Err: err}
	}
	return pass, nil
}

// inbox is where answers to a PoP go, which no other hears.
func inbox(name string) string {
	if name == "" {
		return "_INBOX"
	}
	return "_INBOX_" + name
}

// guard lets only members in. Passes of these public keys are of no use any more.
func (k *Keys) guard(o *server.Options, expelled []string) error {
	fail := func(err error) error {
		return &wedge.Error{Op: "open core", Kind: wedge.Internal, Err: fmt.Errorf("keys: %w", err)}
	}
	operator, err1 := k.operator.PublicKey()
	account, err2 := k.account.PublicKey()
	system, err3 := k.system.PublicKey()
	if err := errors.Join(err1, err2, err3); err != nil {
		return fail(err)
	}
	oc := jwt.NewOperatorClaims(operator)
	oc.Name, oc.SystemAccount = "wedge", system
	signed, err := oc.Encode(k.operator)
	if err != nil {
		return fail(err)
	}
	if oc, err = jwt.DecodeOperatorClaims(signed); err != nil {
		return fail(err)
	}
	resolver := &server.MemAccResolver{}
	for _, a := range []struct{ name, public string }{{"wedge", account}, {"system", system}} {
		text, err := k.accountPass(a.name, a.public, expelled)
		if err != nil {
			return fail(err)
		}
		if err := resolver.Store(a.public, text); err != nil {
			return fail(err)
		}
	}
	o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{oc}, resolver, system
	return nil
}

// never is later than any pass.
var never = time.Unix(1<<40, 0)

// accountPass signs what the server is to know of an account.
func (k *Keys) accountPass(name, public string, expelled []string) (string, error) {
	ac := jwt.NewAccountClaims(public)
	ac.Name = name
	if name == "wedge" {
		ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
		for _, key := range expelled {
			ac.RevokeAt(key, never) // whatever the clock said when its pass was signed
		}
	}
	return ac.Encode(k.operator)
}
