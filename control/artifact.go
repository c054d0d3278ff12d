package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/restic/chunker"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/seal"
)

// Digest names bytes by their SHA-256, in hex.
type Digest string

// DigestOf returns the name of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(hex.EncodeToString(sum[:]))
}

// Valid reports whether d can be a digest at all.
func (d Digest) Valid() bool {
	b, err := hex.DecodeString(string(d))
	return err == nil && len(b) == sha256.Size && strings.ToLower(string(d)) == string(d)
}

// Artifact says what a version is made of: parts, each a sequence of chunks. Where chunks end depends on what they contain, so
// a part that changed a little shares most of its chunks with what it was before.
type Artifact struct {
	Parts []Part `json:"parts"`
}

// Part is a file of an artifact: "version", "secrets" of that, sealed, "guest", "geo" for its geolocation database, or "files/BACKEND/PATH" of a directory that is a backend.
type Part struct {
	Name   string  `json:"name"`
	Size   int64   `json:"size"`
	Chunks []Chunk `json:"chunks"`
}

// Chunk is some bytes of a part.
type Chunk struct {
	Digest Digest `json:"digest"`
	Size   int    `json:"size"`
}

// Bounds of what an artifact may be.
const (
	MaxChunk    = 256 << 10
	MaxArtifact = 1 << 30
	maxParts    = 20_000
	minChunk    = 16 << 10
	chunkBits   = 16 // 64 KiB on average
)

// polynomial is fixed: everybody has to cut at the same places.
const polynomial = chunker.Pol(0x3DA3358B4DC173)

// Digest names the artifact.
func (a *Artifact) Digest() Digest {
	b, err := json.Marshal(a) // cannot fail for these types
	if err != nil {
		panic(err)
	}
	return DigestOf(b)
}

// Size returns how many bytes the artifact is.
func (a *Artifact) Size() (n int64) {
	for _, p := range a.Parts {
		n += p.Size
	}
	return n
}

// Digests names the artifact's chunks, each once.
func (a *Artifact) Digests() (list []Digest) {
	seen := map[Digest]bool{}
	for _, p := range a.Parts {
		for _, c := range p.Chunks {
			if !seen[c.Digest] {
				seen[c.Digest] = true
				list = append(list, c.Digest)
			}
		}
	}
	return list
}

// ownParts are those that are no files.
var ownParts = []string{"version", "secrets", "guest", "geo"}

// Check finds what is wrong with an artifact from outside; the error is of kind Invalid.
func (a *Artifact) Check() error {
	bad := func(what, why string) error {
		return &wedge.Error{Op: "check artifact", What: what, Kind: wedge.Invalid, Err: errors.New(why)}
	}
	if len(a.Parts) == 0 || len(a.Parts) > maxParts {
		return bad("", fmt.Sprintf("it has %d parts", len(a.Parts)))
	}
	seen := map[string]bool{}
	for _, p := range a.Parts {
		if rest, file := strings.CutPrefix(p.Name, "files/"); !slices.Contains(ownParts, p.Name) && (!file || !fs.ValidPath(rest) || strings.ContainsAny(rest, "\\:\x00")) {
			return bad(p.Name, "not a name for a part")
		}
		if seen[p.Name] {
			return bad(p.Name, "it is there twice")
		}
		seen[p.Name] = true
		size := int64(0)
		for _, c := range p.Chunks {
			if !c.Digest.Valid() || c.Size <= 0 || c.Size > MaxChunk {
				return bad(p.Name, "one of its chunks is none")
			}
			size += int64(c.Size)
		}
		if size != p.Size {
			return bad(p.Name, "its chunks are not as long as it is")
		}
	}
	if a.Size() > MaxArtifact {
		return bad("", fmt.Sprintf("it has %d MiB, and may have %d", a.Size()>>20, MaxArtifact>>20))
	}
	if !seen["version"] {
		return bad("", "it has no version")
	}
	return nil
}

// Pack makes an artifact of a version and passes each chunk to keep, which may see one twice. Its secrets are sealed with a
// fleet's key; without one they lie open.
func Pack(v *wedge.Version, to *seal.Public, keep func(Digest, []byte) error) (*Artifact, error) {
	a, own := &Artifact{}, *v
	own.Guest, own.GeoDatabase, own.Number, own.Backends = nil, nil, 0, slices.Clone(v.Backends)
	for i := range own.Backends {
		b := &own.Backends[i]
		if b.Dir == "" {
			continue
		}
		if err := a.addDir("files/"+b.Name, b.Dir, keep); err != nil {
			return nil, err
		}
		b.Dir = "."
	}
	b, err := encoding.Marshal(&own)
	sealed := []byte(nil)
	if err == nil && to != nil {
		b, sealed, err = closeSecrets(b, to)
	}
	if err != nil {
		return nil, &wedge.Error{Op: "pack version", What: v.Service, Kind: wedge.Internal, Err: err}
	}
	for name, b := range map[string][]byte{"version": b, "secrets": sealed, "guest": v.Guest, "geo": v.GeoDatabase} {
		if b == nil {
			continue
		}
		if err := a.add(name, bytes.NewReader(b), keep); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(a.Parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return a, a.Check()
}

// encoding writes the same version always as the same bytes.
var encoding = func() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	m, err := o.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func (a *Artifact) addDir(name, dir string, keep func(Digest, []byte) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return &wedge.Error{Op: "pack directory", What: dir, Kind: wedge.NotExist, Err: err}
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := root.Open(filepath.FromSlash(file))
		if err != nil {
			return &wedge.Error{Op: "pack file", What: file, Kind: wedge.Unavailable, Err: err}
		}
		defer f.Close()
		return a.add(path.Join(name, file), f, keep)
	})
}

func (a *Artifact) add(name string, r io.Reader, keep func(Digest, []byte) error) error {
	p := Part{Name: name}
	c := chunker.NewWithBoundaries(r, polynomial, minChunk, MaxChunk)
	c.SetAverageBits(chunkBits)
	buf := make([]byte, MaxChunk)
	for {
		got, err := c.Next(buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			return &wedge.Error{Op: "pack", What: name, Kind: wedge.Unavailable, Err: err}
		}
		d := DigestOf(got.Data)
		if err := keep(d, got.Data); err != nil {
			return err
		}
		p.Chunks = append(p.Chunks, Chunk{d, len(got.Data)})
		p.Size += int64(len(got.Data))
	}
	a.Parts = append(a.Parts, p)
	return nil
}

// Unpack makes a version of an artifact whose chunks get returns. Files go below dir, which is made; what it holds
// counts as theirs already if it is there. ring opens its secrets; the error is of kind Unavailable if their key is not in it.
func (a *Artifact) Unpack(dir string, ring *seal.Ring, get func(Digest) ([]byte, error)) (*wedge.Version, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	v := new(wedge.Version)
	var guest, geo, secrets []byte
	for _, p := range a.Parts {
		b, err := p.read(get)
		if err != nil {
			return nil, err
		}
		switch p.Name {
		case "version":
			if err := decode(b, v); err != nil {
				return nil, &wedge.Error{Op: "unpack version", What: string(a.Digest()), Kind: wedge.Invalid, Err: err, Hint: "If it was made by a newer Wedge, upgrade this node."}
			}
		case "guest":
			guest = b
		case "geo":
			geo = b
		case "secrets":
			secrets = b
		default:
			if err := writeFile(filepath.Join(dir, filepath.FromSlash(p.Name)), b); err != nil {
				return nil, err
			}
		}
	}
	if v.Guest, v.GeoDatabase = guest, geo; secrets != nil {
		if err := openSecrets(v, secrets, ring); err != nil {
			return nil, &wedge.Error{Op: "unpack version", What: string(a.Digest()), Kind: wedge.KindOf(err), Err: err}
		}
	}
	for i := range v.Backends {
		if b := &v.Backends[i]; b.Dir != "" {
			b.Dir = filepath.Join(dir, "files", b.Name)
			if err := os.MkdirAll(b.Dir, 0o700); err != nil {
				return nil, &wedge.Error{Op: "unpack", What: b.Dir, Kind: wedge.Unavailable, Err: err}
			}
		}
	}
	return v, nil
}

var decoding = func() cbor.DecMode {
	o := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 32, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 20}
	m, err := o.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// decode reads a version, all of it: what it says and this Wedge does not know is an error, for it would be run otherwise than it
// was meant. What is there and says nothing, as a field that is not set, may be overlooked.
func decode(b []byte, v *wedge.Version) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return err
	}
	own, err := encoding.Marshal(v)
	if err != nil {
		return err
	}
	var said, understood any
	if err := errors.Join(decoding.Unmarshal(b, &said), decoding.Unmarshal(own, &understood)); err != nil {
		return err
	}
	return overlooked(said, understood, "version")
}

// overlooked finds what is said and not understood.
func overlooked(said, understood any, where string) error {
	switch s := said.(type) {
	case map[any]any:
		u, _ := understood.(map[any]any)
		for name, value := range s {
			at := fmt.Sprintf("%s.%v", where, name)
			known, ok := u[name]
			if !ok && !saysNothing(value) {
				return fmt.Errorf("this Wedge does not know what %.100s is", at)
			}
			if err := overlooked(value, known, at); ok && err != nil {
				return err
			}
		}
	case []any:
		u, _ := understood.([]any)
		if len(u) < len(s) {
			return fmt.Errorf("this Wedge does not know all of %.100s", where)
		}
		for i, value := range s {
			if err := overlooked(value, u[i], where); err != nil {
				return err
			}
		}
	}
	return nil
}

// saysNothing reports whether a value is one that is not set, however deep.
func saysNothing(value any) bool {
	switch v := value.(type) {
	case map[any]any:
		for _, inner := range v {
			if !saysNothing(inner) {
				return false
			}
		}
		return true
	case []any:
		return len(v) == 0
	case []byte:
		return len(v) == 0
	}
	return value == nil || value == false || value == "" || value == uint64(0) || value == int64(0) || value == 0.0
}

func (p *Part) read(get func(Digest) ([]byte, error)) ([]byte, error) {
	b := make([]byte, 0, p.Size)
	for _, c := range p.Chunks {
		got, err := get(c.Digest)
		if err != nil {
			return nil, err
		}
		if len(got) != c.Size || DigestOf(got) != c.Digest {
			return nil, &wedge.Error{Op: "unpack", What: p.Name, Kind: wedge.Internal, Err: fmt.Errorf("chunk %s is damaged", c.Digest)}
		}
		b = append(b, got...)
	}
	return b, nil
}

// writeFile writes a file that is whole or not there.
func writeFile(file string, b []byte) error {
	fail := func(err error) error {
		return &wedge.Error{Op: "write", What: file, Kind: wedge.Unavailable, Err: err, Hint: "Look at the disk that holds the data directory."}
	}
	if info, err := os.Stat(file); err == nil && info.Size() == int64(len(b)) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fail(err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".tmp-")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
