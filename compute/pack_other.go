//go:build !linux || plainmem

package compute

// packing is nothing here: a plain slice gives no pages back.
type packing struct{}

func (r *region) pack(*image, *packing) bool { return false }

func (r *region) unpack(*image) {}
