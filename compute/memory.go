package compute

import "github.com/tetratelabs/wazero/experimental"

// memory is the linear memory of one instance, as wazero asks for it: a region reserved once
// whose first part shows an image. It belongs to its instance and is not safe for concurrent use.
type memory struct {
	region  region // reserved address space or, off Linux, a plain slice
	size    uint64 // current length of the guest's memory
	image   *image
	reimage bool // Reallocate is called to refresh the guest's view, not to grow
	denied  bool // growth beyond the limit was asked for and refused
}

var _ experimental.LinearMemory = (*memory)(nil)

// bytes returns the guest's memory as it is now.
func (m *memory) bytes() []byte { return m.region.bytes()[:m.size:m.size] }

// Reallocate implements experimental.LinearMemory. Returning nil makes memory.grow answer -1.
func (m *memory) Reallocate(size uint64) []byte {
	if m.reimage {
		return m.bytes()
	}
	if size > m.image.max || !m.region.grow(size) {
		m.denied = true
		return nil
	}
	m.size = size
	return m.bytes()
}

// Free implements experimental.LinearMemory.
func (m *memory) Free() {
	m.region.close()
	if m.image != nil {
		m.image.release()
		m.image = nil
	}
}

// show makes the memory that of img, as new.
func (m *memory) show(img *image) error {
	if err := m.region.show(img); err != nil {
		return err
	}
	if m.image != nil {
		m.image.release()
	}
	m.image = img.retain()
	m.size = img.size
	return nil
}

// reset makes the memory what its image says, undoing all the guest wrote.
func (m *memory) reset() error {
	m.denied = false
	err := m.region.reset(m.image)
	m.size = m.image.size
	return err
}
