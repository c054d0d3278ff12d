package compute

import (
	"sync/atomic"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/wasm"
)

// image is what a program's memory and globals hold before its first instruction. Instances
// of any program with the same code can be given it. It is immutable and counted: the
// module holds one reference and so does each instance mapped to it.
type image struct {
	refs    atomic.Int64
	backing backing       // the bytes, as the platform keeps them
	size    uint64        // initial memory size in bytes
	max     uint64        // how far the guest may grow it
	globals []wasm.Global // mutable globals and their values
}

// maxMemory is one page less than Wasm allows, so that growing by one, which makes wazero
// look at the memory anew, is always possible.
const maxMemory = 65535 * wasm.PageSize

func newImage(img wasm.Image, limits wedge.Limits) (*image, error) {
	b, err := newBacking(img.Data)
	if err != nil {
		return nil, &wedge.Error{Op: "create memory image", Kind: wedge.Unavailable, Err: err, Hint: "Check the node's memory and its limit on open files."}
	}
	i := &image{backing: b, size: uint64(img.MinPages) * wasm.PageSize, globals: img.Globals}
	i.max = min(uint64(img.MaxPages)*wasm.PageSize, limits.Memory/wasm.PageSize*wasm.PageSize)
	i.refs.Store(1)
	return i, nil
}

func (i *image) retain() *image {
	i.refs.Add(1)
	return i
}

func (i *image) release() {
	if i.refs.Add(-1) == 0 {
		i.backing.close()
	}
}
