package wasm

// dataSection moves active segments into the image. It returns what must stay in the code:
// nothing, unless the code refers to segments by index; then passive segments stay
// and each active one leaves an empty segment in its place.
func (s *splitter) dataSection() ([]byte, error) {
	if !s.has[11] {
		if s.w.uses.memoryInit {
			return []byte{0}, nil
		}
		return nil, nil
	}
	r := reader{b: s.sec[11]}
	n := r.count(2)
	type segment struct {
		at   uint64
		data []byte
	}
	var active []segment
	out := appendU32(nil, uint32(n))
	size := uint64(s.p.Image.MinPages) * PageSize
	end := uint64(0)
	for i := 0; i < n && r.err == nil; i++ {
		flags := r.u32()
		if flags > 2 {
			r.fail("segment %d has an unknown form", i)
			break
		}
		if flags == 2 && r.u32() != 0 {
			r.fail("segment %d is for a memory that does not exist", i)
		}
		if flags == 1 {
			data := r.bytes(uint64(r.u32()))
			out = append(appendU32(append(out, 1), uint32(len(data))), data...)
			continue
		}
		_, c := s.constExpr(&r)
		if r.err == nil && (!c.ok || c.typ != 0x7f) {
			r.fail("segment %d is placed by an expression; only constants are supported", i)
		}
		data := r.bytes(uint64(r.u32()))
		if c.bits+uint64(len(data)) > size {
			r.fail("segment %d does not fit the memory of %d pages", i, s.p.Image.MinPages)
		}
		out = append(out, 1, 0)
		active = append(active, segment{c.bits, data})
		if e := c.bits + uint64(len(data)); e > end {
			end = e
		}
	}
	if r.err == nil && r.pos != len(r.b) {
		r.fail("%d bytes too many", len(r.b)-r.pos)
	}
	if r.err != nil {
		return nil, badSection(11, r.err)
	}
	img := make([]byte, end)
	for _, seg := range active { // in order: a later segment may overwrite an earlier one
		copy(img[seg.at:], seg.data)
	}
	for len(img) > 0 && img[len(img)-1] == 0 {
		img = img[:len(img)-1]
	}
	s.p.Image.Data = img
	if s.w.uses.memoryInit {
		return out, nil
	}
	return nil, nil
}

// appendNames adds a name section with the function names, moved like the functions, so
// that traps name what trapped. Damaged names are left out: they are not worth a refusal.
func (s *splitter) appendNames(out []byte) []byte {
	r := reader{b: s.names}
	for !r.done() {
		id, body := r.byte(), r.bytes(uint64(r.u32()))
		if id != 1 || r.err != nil {
			continue
		}
		f := reader{b: body}
		n := f.count(2)
		m := appendU32(nil, uint32(n))
		for i := 0; i < n && f.err == nil; i++ {
			m = appendU32(m, s.w.moved(f.u32()))
			m = appendName(m, f.name())
		}
		if f.err != nil {
			return out
		}
		body = appendName(nil, "name")
		body = append(appendU32(append(body, 1), uint32(len(m))), m...)
		return appendSection(out, 0, body)
	}
	return out
}
