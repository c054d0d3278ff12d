package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/wedge-cloud/wedge"
)

// Sizes in bytes beyond which a file cannot be what it is said to be.
const (
	maxManifest = 1 << 20
	maxJSON     = 64 << 20
	maxPEM      = 64 << 10
	maxSeeds    = 512 << 20 // all KV seeds of an app together
)

// readBounded reads a whole regular file of at most limit bytes. Anything else that has a
// path (a device, a pipe) is refused, as it might never end.
func readBounded(file string, limit int64) ([]byte, error) {
	const op = "read"
	f, err := os.Open(file)
	if err != nil {
		return nil, fileError(op, file, err, "")
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, &wedge.Error{Op: op, What: file, Kind: wedge.Invalid, Err: errors.New("not a regular file")}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fileError(op, file, err, "")
	}
	if int64(len(data)) > limit {
		return nil, &wedge.Error{Op: op, What: file, Kind: wedge.Exhausted, Err: fmt.Errorf("larger than %d bytes", limit),
			Hint: "Make the file smaller; this limit is fixed."}
	}
	return data, nil
}

// fileError turns what the os package reports into an error of ours, whose text does not
// name the path twice.
func fileError(op, file string, err error, hint string) *wedge.Error {
	e := &wedge.Error{Op: op, What: file, Kind: wedge.Internal, Err: err, Hint: hint}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		e.Err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = wedge.NotExist
		if hint == "" {
			e.Hint = "Check the path; paths in a manifest are relative to it."
		}
	case errors.Is(err, fs.ErrPermission):
		e.Kind = wedge.Denied
		e.Hint = "Check the file's permissions."
	}
	return e
}
