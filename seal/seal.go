// Package seal closes secrets so that only who holds a fleet's keys can read them: on disks, in logs and in what travels lie sealed ones only.
//
// A fleet has a key for each epoch; a new epoch begins when a PoP is expelled. All of them come of one root, which only the core
// has. Whoever deploys has the newest public key, and can seal. A PoP has a [Ring] of the private ones, in memory, as long as it is trusted.
package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/wedge-cloud/wedge"
)

// The suite of HPKE (RFC 9180): its key agreement stays closed also to who records now and has a quantum computer later.
var (
	kem  = hpke.MLKEM768X25519()
	kdf  = hpke.HKDFSHA256()
	aead = hpke.ChaCha20Poly1305()
)

// What is sealed begins with magic and the epoch of its key, big-endian.
const (
	magic    = "wedge\x00s1"
	headSize = len(magic) + 4
)

// Overhead is how much longer a sealed secret is than an open one, in bytes.
const Overhead = headSize + 1120 + 16

// MaxEpochs bounds how many keys a ring has.
const MaxEpochs = 20_000

// Public is a public key and its epoch: who has it can seal.
type Public struct {
	Epoch int    `json:"epoch"`
	Key   []byte `json:"key"`
}

// Seal closes a secret. Where says where it belongs; it opens nowhere else. The error is of kind Invalid if the key is none.
func (p *Public) Seal(where string, secret []byte) ([]byte, error) {
	key, err := kem.NewPublicKey(p.Key)
	if err == nil && (p.Epoch < 0 || p.Epoch > MaxEpochs) {
		err = fmt.Errorf("there is no epoch %d", p.Epoch)
	}
	var b []byte
	if err == nil {
		b, err = hpke.Seal(key, kdf, aead, []byte(where), secret)
	}
	if err != nil {
		return nil, &wedge.Error{Op: "seal secret", Kind: wedge.Invalid, Err: err, Hint: "Ask the core for its key anew."}
	}
	return append(binary.BigEndian.AppendUint32([]byte(magic), uint32(p.Epoch)), b...), nil
}

// Sealed reports whether b looks like what Seal made, and of which epoch.
func Sealed(b []byte) (epoch int, ok bool) {
	if len(b) < headSize || !bytes.HasPrefix(b, []byte(magic)) {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b[len(magic):])
	return int(n), n <= MaxEpochs
}

// RootSize is how long a root is, in bytes.
const RootSize = 32

// Root is what all keys of a fleet come of.
type Root [RootSize]byte

// NewRoot makes one.
func NewRoot() (r Root) {
	rand.Read(r[:]) // never fails, by contract
	return r
}

// seed is what the private key of an epoch comes of.
func (r *Root) seed(epoch int) []byte {
	b, err := hkdf.Expand(sha256.New, r[:], fmt.Sprintf("wedge seal %d", epoch), sha256.Size)
	if err != nil { // of lengths that are right
		panic(err)
	}
	return b
}

// Ring returns the keys of all epochs up to one.
func (r *Root) Ring(epoch int) *Ring {
	ring := &Ring{}
	for e := range min(epoch, MaxEpochs) + 1 {
		ring.seeds = append(ring.seeds, r.seed(e))
	}
	return ring
}

// Ring opens what was sealed in its epochs. It is immutable.
type Ring struct{ seeds [][]byte }

// Epoch is the newest that it has a key of; -1: it has none.
func (r *Ring) Epoch() int {
	if r == nil {
		return -1
	}
	return len(r.seeds) - 1
}

// Public returns the newest public key.
func (r *Ring) Public() (Public, error) {
	key, err := kem.DeriveKeyPair(r.seeds[r.Epoch()])
	if err != nil {
		return Public{}, &wedge.Error{Op: "make key", Kind: wedge.Internal, Err: err}
	}
	return Public{r.Epoch(), key.PublicKey().Bytes()}, nil
}

// Open returns the secret that Seal has closed for the same place. The error is of kind Unavailable if the key is not here, Invalid if it was
// sealed for another place, or is damaged. r may be nil.
func (r *Ring) Open(where string, sealed []byte) ([]byte, error) {
	epoch, ok := Sealed(sealed)
	if !ok {
		return nil, openError(wedge.Invalid, errors.New("it is not sealed"))
	}
	if epoch > r.Epoch() {
		return nil, &wedge.Error{Op: "open secret", Kind: wedge.Unavailable, Err: fmt.Errorf("the key of epoch %d is not here", epoch),
			Hint: "A PoP gets keys from the core, and keeps them in memory: it needs the core once after its start."}
	}
	key, err := kem.DeriveKeyPair(r.seeds[epoch])
	if err != nil {
		return nil, openError(wedge.Internal, err)
	}
	b, err := hpke.Open(key, kdf, aead, []byte(where), sealed[headSize:])
	if err != nil {
		return nil, openError(wedge.Invalid, errors.New("it was sealed for another place or fleet, or is damaged"))
	}
	return b, nil
}

func openError(kind wedge.Kind, err error) error {
	return &wedge.Error{Op: "open secret", Kind: kind, Err: err, Hint: "Write the secret anew."}
}

// Asker gets a ring from who has it, closed for the asker alone.
type Asker struct{ key hpke.PrivateKey }

// NewAsker makes one, for one question.
func NewAsker() (*Asker, error) {
	key, err := kem.GenerateKey()
	if err != nil {
		return nil, &wedge.Error{Op: "make key", Kind: wedge.Internal, Err: err}
	}
	return &Asker{key}, nil
}

// Question is what the other has to know.
func (a *Asker) Question() []byte { return a.key.PublicKey().Bytes() }

// Answer closes the ring for who asked; name is the asker's. The error is of kind Invalid if the question is none.
func (r *Ring) Answer(name string, question []byte) ([]byte, error) {
	p := Public{Key: question}
	return p.Seal("ring for "+name, bytes.Join(r.seeds, nil))
}

// Read returns the ring that was answered.
func (a *Asker) Read(name string, answer []byte) (*Ring, error) {
	if _, ok := Sealed(answer); !ok {
		return nil, openError(wedge.Invalid, errors.New("the answer is no ring"))
	}
	b, err := hpke.Open(a.key, kdf, aead, []byte("ring for "+name), answer[headSize:])
	if err != nil {
		return nil, openError(wedge.Invalid, errors.New("the answer was not for this question"))
	}
	return ringOf(b)
}

func ringOf(b []byte) (*Ring, error) {
	if len(b) == 0 || len(b)%sha256.Size != 0 || len(b)/sha256.Size > MaxEpochs+1 {
		return nil, openError(wedge.Invalid, errors.New("not a ring of keys"))
	}
	r := &Ring{}
	for seed := range slices.Chunk(b, sha256.Size) {
		r.seeds = append(r.seeds, seed)
	}
	return r, nil
}

// Text is a ring as text, for a file that does not outlast the machine's power.
func (r *Ring) Text() []byte {
	return base64.StdEncoding.AppendEncode(nil, bytes.Join(r.seeds, nil))
}

// UnmarshalText reads what Text returns.
func (r *Ring) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return openError(wedge.Invalid, errors.New("not a ring of keys"))
	}
	read, err := ringOf(b)
	if err == nil {
		*r = *read
	}
	return err
}
