package wasm

// Why tables are filled late. The engine makes an object for each element of a function table, in
// each instance: 8,000 of them and 250 KB on the Go heap for a JS guest, which calls a few
// hundred. So the initialisers are taken out of the module. Each call_indirect looks first whether the table
// has something there, and if not calls a function that puts there what the initialisers said:
//
//	if table[i] == null { fill(i) }
//
// That is invisible to a guest which does nothing with tables but call through them. For
// others, and for small tables, everything stays as it is.
const (
	minLazy    = 64      // elements, below which it is not worth the trouble
	maxLazy    = 1 << 15 // elements
	groupShift = 7       // elements of the table that one filling function knows: 128
	groupSize  = 1 << groupShift
)

// lazyTable is a table that is filled late.
type lazyTable struct {
	elements []uint32 // 1 + function in the source, by place; 0: none
	typ      uint32   // i32 -> (), that of the added functions
	first    uint32   // index of fill in the rewritten module; the groups follow
}

// groups returns how many filling functions there are.
func (t *lazyTable) groups() int { return (len(t.elements) + groupSize - 1) >> groupShift }

// functions returns how many functions are added.
func (t *lazyTable) functions() int {
	if t == nil {
		return 0
	}
	return 1 + t.groups()
}

// readLazy returns the module's table as its initialisers fill it, or nil if it must be filled at
// once. What is wrong with the sections is found out by those who rewrite them.
func (s *splitter) readLazy() *lazyTable {
	if !s.has[4] || !s.has[9] || s.opt.eager {
		return nil
	}
	r := reader{b: s.sec[4]}
	if r.u32() != 1 || r.byte() != 0x70 {
		return nil
	}
	r.byte()
	n := r.u32()
	if r.err != nil || n < minLazy || n > maxLazy {
		return nil
	}
	t := &lazyTable{elements: make([]uint32, n)}
	r = reader{b: s.sec[9]}
	for segments := r.u32(); segments > 0; segments-- {
		if !t.read(&r) {
			return nil
		}
	}
	return t
}

// read adds an active segment of function indices at a constant place.
func (t *lazyTable) read(r *reader) bool {
	if r.u32() != 0 || r.byte() != 0x41 {
		return false
	}
	at := uint64(uint32(r.s32()))
	if r.byte() != 0x0b {
		return false
	}
	n := uint64(r.count(1))
	if r.err != nil || at+n > uint64(len(t.elements)) {
		return false
	}
	for i := range n {
		t.elements[at+i] = r.u32() + 1
	}
	return r.err == nil
}

// appendType appends the type of the added functions, which has the given index.
func (t *lazyTable) appendType(b []byte, index uint32) []byte {
	t.typ = index
	return append(b, 0x60, 1, 0x7f, 0)
}

// appendDeclarations appends the types of the added functions.
func (t *lazyTable) appendDeclarations(b []byte) []byte {
	for range t.functions() {
		b = appendU32(b, t.typ)
	}
	return b
}

// segment is what replaces the initialisers: it says that the functions may be referred to.
func (t *lazyTable) segment(w *rewriter) []byte {
	n, list := uint32(0), []byte(nil)
	for _, f := range t.elements {
		if f != 0 {
			n, list = n+1, appendU32(list, w.moved(f-1))
		}
	}
	return append(appendU32([]byte{1, 3, 0}, n), list...)
}

// appendBodies appends the bodies of the added functions.
func (t *lazyTable) appendBodies(b []byte, w *rewriter) []byte {
	b = appendBody(b, t.fill())
	for g := range t.groups() {
		b = appendBody(b, t.group(g, w))
	}
	return b
}

func appendBody(b, body []byte) []byte { return append(appendU32(b, uint32(len(body))), body...) }

// fill calls the group that knows the place: block ... block (br_table) call end call end.
func (t *lazyTable) fill() []byte {
	n := t.groups()
	b := []byte{0}
	for range n {
		b = append(b, 0x02, 0x40)
	}
	b = append(b, 0x20, 0, 0x41, groupShift, 0x76) // local.get, i32.const, i32.shr_u
	b = appendBranches(b, n, func(i int) int { return i })
	for g := range n {
		b = append(b, 0x0b, 0x20, 0, 0x10)
		b = append(appendU32(b, t.first+1+uint32(g)), 0x0f)
	}
	return append(b, 0x0b)
}

// group puts a reference into the table: the place and a block that gives the reference, in which
// a br_table chooses among as many ref.func as there are elements.
func (t *lazyTable) group(g int, w *rewriter) []byte {
	list := t.elements[g<<groupShift : min((g+1)<<groupShift, len(t.elements))]
	n := 0
	for _, f := range list {
		if f != 0 {
			n++
		}
	}
	b := []byte{0, 0x20, 0, 0x02, 0x70}
	for range n + 1 {
		b = append(b, 0x02, 0x40)
	}
	b = append(b, 0x20, 0, 0x41, 0xff, (groupSize-1)>>7, 0x71) // local.get, i32.const, i32.and
	next := -1
	b = appendBranches(b, len(list), func(i int) int {
		if list[i] == 0 {
			return n
		}
		next++
		return next
	})
	for _, f := range list {
		if f != 0 {
			b = append(appendU32(append(b, 0x0b, 0xd2), w.moved(f-1)), 0x0c)
			n--
			b = appendU32(b, uint32(n+1))
		}
	}
	return append(b, 0x0b, 0x0f, 0x0b, 0x26, 0, 0x0b) // end, return: there is none; end, table.set, end
}

// appendBranches appends a br_table for n values; beyond them it goes where the last one does, which does not occur.
func appendBranches(b []byte, n int, label func(int) int) []byte {
	b = appendU32(append(b, 0x0e), uint32(n))
	last := 0
	for i := range n {
		last = label(i)
		b = appendU32(b, uint32(last))
	}
	return appendU32(b, uint32(last))
}

// appendLook appends what stands before a call_indirect. The place stays on the stack.
func (w *rewriter) appendLook(b []byte) []byte {
	b = appendU32(append(b, 0x22), w.spare)                // local.tee
	b = append(b, 0x25, 0, 0xd1, 0x04, 0x40)               // table.get, ref.is_null, if
	b = appendU32(append(b, 0x20), w.spare)                // local.get
	b = append(appendU32(append(b, 0x10), w.fill-1), 0x0b) // call, end
	return appendU32(append(b, 0x20), w.spare)
}
