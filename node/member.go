package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/bus"
)

// How a PoP becomes a member of a fleet. An operator has the core make a secret that is good for one join; it travels in an
// invitation, with the core's address and the print of its certificate, so that the PoP knows whom it speaks with. The PoP makes a
// key pair, whose secret half stays on its disk, and gets a pass for the public half. From then on pass and key are
// all it needs.

// Invitation is what a PoP needs to join.
type Invitation struct {
	Name   string `json:"name"`   // of the PoP
	URL    string `json:"url"`    // of the control API
	Print  string `json:"print"`  // SHA-256 of the core's certificate, in hex; "": the API speaks no TLS
	Secret string `json:"secret"` // good for once
}

const invitationPrefix = "wedge-join."

// String is the invitation as a line to be pasted.
func (i Invitation) String() string {
	b, err := json.Marshal(i)
	if err != nil { // strings only
		return ""
	}
	return invitationPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseInvitation reads such a line.
func ParseInvitation(line string) (i Invitation, err error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(line), invitationPrefix)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &i)
	}
	if !ok || err != nil || i.Name == "" || i.URL == "" {
		return i, &wedge.Error{Op: "read invitation", Kind: wedge.Invalid, Err: errors.New("not what wedge pops add prints"), Hint: "Paste the whole line, from wedge-join. to its end."}
	}
	return i, nil
}

// membership is what a member keeps, besides its key.
type membership struct {
	Pass  string   `json:"pass,omitempty"` // "": the core lets in who has its URLs
	URLs  []string `json:"urls"`
	Print string   `json:"print,omitempty"` // of the certificate of the core's servers; "": they are known as others are
}

// write keeps it.
func (m *membership) write(dir string) error {
	file := filepath.Join(dir, membershipFile)
	b, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(file+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return &wedge.Error{Op: "keep membership", What: file, Kind: wedge.Unavailable, Err: err}
	}
	return nil
}

// learned returns what keeps in mind which servers the core has, so that a PoP finds it if those that it joined by are gone.
func (m membership) learned(dir string) func(urls []string) {
	return func(urls []string) {
		slices.Sort(urls)
		if len(urls) > maxServers || slices.Equal(urls, m.URLs) {
			return
		}
		m.URLs = urls
		_ = m.write(dir) // it is learned again
	}
}

// maxServers bounds how many of the core's servers are kept in mind.
const maxServers = 100

const (
	memberKeyFile  = "member.nk"
	membershipFile = "member.json"
)

// openMember returns the PoP's key with its pass, which it gets first if it has none.
func (f *FleetConfig) openMember(ctx context.Context, dir string) (m *bus.Member, kept membership, err error) {
	if m, err = bus.OpenMember(filepath.Join(dir, memberKeyFile)); err != nil {
		return nil, kept, err
	}
	if f.Pass != nil {
		pass, err := f.Pass(m.Public())
		return carrying(m, pass), kept, err
	}
	if b, err := os.ReadFile(filepath.Join(dir, membershipFile)); err == nil && json.Unmarshal(b, &kept) == nil && len(kept.URLs) > 0 {
		return carrying(m, kept.Pass), kept, nil
	}
	if kept, err = f.join(ctx, m.Public()); err == nil {
		err = kept.write(dir)
	}
	return carrying(m, kept.Pass), kept, err
}

// carrying gives a member its pass; one that needs none is nobody in particular.
func carrying(m *bus.Member, pass string) *bus.Member {
	if pass == "" {
		return nil
	}
	m.Carry(pass)
	return m
}

// join asks the core for a pass.
func (f *FleetConfig) join(ctx context.Context, public string) (membership, error) {
	if f.Invitation == "" {
		return membership{}, &wedge.Error{Op: "join", What: f.PoP.Name, Kind: wedge.Invalid, Err: errors.New("this PoP is no member yet, and has no invitation"),
			Hint: "Have one made with: wedge pops add " + f.PoP.Name}
	}
	i, err := ParseInvitation(f.Invitation)
	if err != nil {
		return membership{}, err
	}
	if i.Name != f.PoP.Name {
		return membership{}, &wedge.Error{Op: "join", What: f.PoP.Name, Kind: wedge.Invalid, Err: errors.New("the invitation is for " + i.Name), Hint: "Give each PoP its own."}
	}
	client := api.Client{URL: i.URL, HTTP: &http.Client{Timeout: 30 * time.Second}}
	if i.Print != "" {
		client.HTTP.Transport = &http.Transport{TLSClientConfig: Pinned(i.Print)}
	}
	j, err := client.Join(ctx, api.Join{Name: i.Name, Secret: i.Secret, Public: public})
	return membership{Pass: j.Pass, URLs: j.URLs, Print: j.Print}, err
}

// Pinned trusts the certificate with that print, and no other.
func Pinned(print string) *tls.Config {
	return pinned(print, errors.New("the core has another certificate than the invitation says"))
}

func pinned(print string, other error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // in place of names and issuers: this very certificate
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || printOf(s.PeerCertificates[0].Raw) != print {
				return other
			}
			return nil
		},
	}
}

func printOf(certificate []byte) string {
	sum := sha256.Sum256(certificate)
	return hex.EncodeToString(sum[:])
}

const (
	coreCertFile = "core.crt"
	coreKeyFile  = "core.key"
	certTime     = 20 * 365 * 24 * time.Hour // who trusts it knows it by its print
)

// openCertificate reads the certificate of a name from files of a directory, where it is made if it is not there.
func openCertificate(dir, certFile, keyFile, name string) (tls.Certificate, error) {
	cert, key := filepath.Join(dir, certFile), filepath.Join(dir, keyFile)
	fail := func(err error) (tls.Certificate, error) {
		return tls.Certificate{}, &wedge.Error{Op: "open certificate", What: cert, Kind: wedge.Unavailable, Err: err}
	}
	if _, err := os.Stat(cert); err == nil {
		c, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fail(err)
		}
		return c, nil
	}
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certTime), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	if err != nil {
		return fail(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return fail(err)
	}
	return tls.LoadX509KeyPair(cert, key)
}
