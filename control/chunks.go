package control

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/wedge-cloud/wedge"
)

// Chunks are chunks in a directory, each a compressed file. They may be used by many goroutines, and by
// several processes.
type Chunks struct{ dir string }

// OpenChunks returns the chunks in a directory, which is made when there is something to keep.
func OpenChunks(dir string) *Chunks { return &Chunks{dir} }

var (
	packer, _   = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	unpacker, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxChunk))
)

func (c *Chunks) file(d Digest) string { return filepath.Join(c.dir, string(d[:2]), string(d)) }

// Has reports whether a chunk is there.
func (c *Chunks) Has(d Digest) bool {
	if !d.Valid() {
		return false
	}
	_, err := os.Stat(c.file(d))
	return err == nil
}

// Keep keeps a chunk.
func (c *Chunks) Keep(d Digest, b []byte) error {
	if len(b) > MaxChunk || DigestOf(b) != d {
		return &wedge.Error{Op: "keep chunk", What: string(d), Kind: wedge.Invalid, Err: errors.New("its bytes are not those that its name says")}
	}
	if c.Has(d) {
		return nil
	}
	return writeFile(c.file(d), packer.EncodeAll(b, nil))
}

// Get returns a chunk. The error is of kind NotExist if it is not there, Internal if it is damaged: then it is removed.
func (c *Chunks) Get(d Digest) ([]byte, error) {
	packed, err := c.Packed(d)
	if err != nil {
		return nil, err
	}
	return c.open(d, packed)
}

// Packed returns a chunk as it is kept and travels.
func (c *Chunks) Packed(d Digest) ([]byte, error) {
	if !d.Valid() {
		return nil, &wedge.Error{Op: "read chunk", What: string(d), Kind: wedge.Invalid, Err: errors.New("not a digest")}
	}
	b, err := os.ReadFile(c.file(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &wedge.Error{Op: "read chunk", What: string(d), Kind: wedge.NotExist, Err: errors.New("it is not here")}
	}
	if err != nil {
		return nil, &wedge.Error{Op: "read chunk", What: string(d), Kind: wedge.Unavailable, Err: err}
	}
	return b, nil
}

// KeepPacked keeps a chunk that came as it is kept.
func (c *Chunks) KeepPacked(d Digest, packed []byte) error {
	if err := CheckPacked(d, packed); err != nil {
		return err
	}
	return writeFile(c.file(d), packed)
}

// CheckPacked finds out whether a chunk that came as it is kept is the one that its name says; if not the error is of kind Invalid.
func CheckPacked(d Digest, packed []byte) error {
	b, err := unpacker.DecodeAll(packed, nil)
	if err != nil || DigestOf(b) != d {
		return &wedge.Error{Op: "check chunk", What: string(d), Kind: wedge.Invalid, Err: errors.New("its bytes are not those that its name says")}
	}
	return nil
}

// Sweep removes all chunks but those that are needed, and returns how many bytes they had.
func (c *Chunks) Sweep(needed map[Digest]bool) (freed int64, err error) {
	err = filepath.WalkDir(c.dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || needed[Digest(d.Name())] || !Digest(d.Name()).Valid() {
			return err
		}
		if info, err := d.Info(); err == nil {
			freed += info.Size()
		}
		return os.Remove(file)
	})
	if errors.Is(err, fs.ErrNotExist) { // none were ever kept, or another has removed one meanwhile
		err = nil
	}
	return freed, err
}

func (c *Chunks) open(d Digest, packed []byte) ([]byte, error) {
	b, err := unpacker.DecodeAll(packed, nil)
	if err != nil || DigestOf(b) != d {
		_ = os.Remove(c.file(d))
		return nil, &wedge.Error{Op: "read chunk", What: string(d), Kind: wedge.Internal, Err: errors.New("it is damaged")}
	}
	return b, nil
}
