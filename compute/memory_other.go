//go:build !linux || plainmem

package compute

// backing holds an image's bytes. Elsewhere than on Linux instances copy them.
type backing struct {
	data   []byte
	length uint64
}

func newBacking(data []byte) (backing, error) {
	return backing{data: append([]byte(nil), data...), length: uint64(len(data))}, nil
}

func (b *backing) bytes() []byte { return b.data }

func (b *backing) close() { b.data = nil }

// region is a plain slice that grows when the guest asks.
type region struct {
	mem []byte
	max uint64
}

func newRegion(length uint64) (region, error) { return region{max: length}, nil }

func (r *region) bytes() []byte { return r.mem }

func (r *region) capacity() uint64 { return r.max }

func (r *region) grow(size uint64) bool {
	if size > r.max {
		return false
	}
	if n := uint64(len(r.mem)); size > n {
		r.mem = append(r.mem, make([]byte, size-n)...)
	}
	return true
}

func (r *region) close() { r.mem = nil }

func (r *region) show(img *image) error {
	r.grow(img.size)
	return r.reset(img)
}

func (r *region) reset(img *image) error {
	n := copy(r.mem, img.backing.data)
	clear(r.mem[n:])
	return nil
}
