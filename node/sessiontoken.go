package node

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
)

// A session's token says which session it is and where it was last. The home makes it, and signs it with a key of its own, the public half
// of which it says on the bus. So a PoP in somebody else's hands can lie about the sessions that came to it, and about no others.

// sessionToken is what a token says.
type sessionToken struct {
	ID           wedge.SessionID
	Epoch        uint64
	Write        uint64
	Expires      time.Time // whole seconds
	Home         string
	Standby      string
	Jurisdiction string
}

const (
	tokenFormat     = 1
	maxSessionToken = 400 // bytes
)

// Why a token is refused. The words are labels of a metric.
var (
	errTokenForm    = errors.New("malformed")
	errTokenForged  = errors.New("forged")
	errTokenUnknown = errors.New("unknown") // who signed it is not known here
	errTokenExpired = errors.New("expired")
)

func tokenOf(s *state.Session) sessionToken {
	return sessionToken{ID: s.ID, Epoch: s.Epoch, Write: s.Write, Expires: s.Expires.Truncate(time.Second), Home: s.Home, Standby: s.Standby, Jurisdiction: s.Jurisdiction}
}

func (t *sessionToken) encode() []byte {
	b := append([]byte{tokenFormat}, t.ID[:]...)
	for _, n := range [...]uint64{t.Epoch, t.Write, uint64(t.Expires.Unix())} {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range [...]string{t.Home, t.Standby, t.Jurisdiction} {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// signedToken is what is signed: a token is good for one service.
func signedToken(service string, payload []byte) []byte {
	return append([]byte("wedge session\x00"+service+"\x00"), payload...)
}

// sign returns the token as text that fits in a cookie.
func (t *sessionToken) sign(service string, key ed25519.PrivateKey) string {
	b := t.encode()
	return base64.RawURLEncoding.EncodeToString(append(b, ed25519.Sign(key, signedToken(service, b))...))
}

// parseToken takes a token apart, which anybody may have made, and checks nothing but its form.
func parseToken(text string) (t sessionToken, payload, signature []byte, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(text) > maxSessionToken || len(b) < 1+len(t.ID)+ed25519.SignatureSize || b[0] != tokenFormat {
		return t, nil, nil, errTokenForm
	}
	payload, signature = b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	rest := payload[1+copy(t.ID[:], payload[1:]):]
	seconds := uint64(0)
	for _, n := range [...]*uint64{&t.Epoch, &t.Write, &seconds} {
		v, size := binary.Uvarint(rest)
		if size <= 0 || v > state.MaxEpoch {
			return t, nil, nil, errTokenForm
		}
		*n, rest = v, rest[size:]
	}
	for _, s := range [...]*string{&t.Home, &t.Standby, &t.Jurisdiction} {
		if len(rest) == 0 || int(rest[0]) > len(rest)-1 {
			return t, nil, nil, errTokenForm
		}
		*s, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
	}
	t.Expires = time.Unix(int64(seconds), 0)
	if len(rest) > 0 || t.Home == "" || seconds > 1<<36 || !bytes.Equal(t.encode(), payload) {
		return t, nil, nil, errTokenForm
	}
	return t, payload, signature, nil
}

// signers knows the keys of PoPs: the newest of each, and the one before, since tokens outlive a change.
type signers struct {
	pop  string
	kv   *state.KV
	pops *popMap // nil: there are no others

	mu   sync.Mutex
	keys map[string][]byte // by PoP, one after the other
}

func openSigners(kv *state.KV, pop string, own ed25519.PublicKey) (*signers, error) {
	keys, err := kv.Signers()
	if err != nil {
		return nil, err
	}
	keys[pop] = own
	return &signers{pop: pop, kv: kv, keys: keys}, nil
}

// heard notes the key that a PoP has said.
func (s *signers) heard(p wedge.PoP) error {
	key, err := hex.DecodeString(p.Signs)
	if err != nil || len(key) != ed25519.PublicKeySize || p.Name == s.pop {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.keys[p.Name]
	if bytes.HasPrefix(old, key) || !known && len(s.keys) >= maxPoPs {
		return nil
	}
	s.keys[p.Name] = append(key, old[:min(len(old), ed25519.PublicKeySize)]...)
	return s.kv.KeepSigner(p.Name, s.keys[p.Name])
}

// check reads a token and finds out whether the PoP that it says is the session's home has made it for that service.
func (s *signers) check(service, text string, now time.Time) (sessionToken, error) {
	t, payload, signature, err := parseToken(text)
	if err != nil {
		return t, err
	}
	if s.pops != nil && s.pops.expelled(t.Home) {
		return t, errTokenForged
	}
	s.mu.Lock()
	keys := s.keys[t.Home]
	s.mu.Unlock()
	if len(keys) == 0 {
		return t, errTokenUnknown
	}
	good := false
	for ; len(keys) >= ed25519.PublicKeySize; keys = keys[ed25519.PublicKeySize:] {
		good = good || ed25519.Verify(ed25519.PublicKey(keys[:ed25519.PublicKeySize]), signedToken(service, payload), signature)
	}
	switch {
	case !good:
		return t, errTokenForged
	case !t.Expires.After(now):
		return t, errTokenExpired
	}
	return t, nil
}

// expelled reports whether a PoP is a member no more.
func (m *popMap) expelled(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out[name]
}

// mayCarry reports whether the operator has said that a PoP may carry a jurisdiction. One in the core's own process was let in by nobody.
func (m *popMap) mayCarry(name, jurisdiction string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	may, member := m.may[name]
	return jurisdiction == "" || !member || slices.Contains(may, jurisdiction)
}

// tokenIn returns the token in a request: in the field, or in the cookie of that name.
func tokenIn(field string, cookies []string, name string) string {
	if field != "" {
		return field
	}
	for _, line := range cookies {
		for part := range strings.SplitSeq(line, ";") {
			if n, v, ok := strings.Cut(strings.TrimSpace(part), "="); ok && n == name {
				return strings.Trim(v, `"`)
			}
		}
	}
	return ""
}
