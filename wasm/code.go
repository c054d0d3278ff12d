package wasm

// rewriter copies function bodies, shifting function indices past the inserted import
// and putting interrupt checks where a guest could otherwise run for ever.
type rewriter struct {
	r     reader
	out   []byte
	shift uint32 // functions from this index on have moved up
	added uint32 // by so many: the imports added
	from  uint32 // calls of this import
	to    uint32 // go to this function instead, if it is not 0
	uses  uses

	host  uint32 // 1 + the function that checks call; 0: checks are left out
	fill  uint32 // 1 + the function that fills a place in the table; 0: none
	spare uint32 // with it: a local that we added to the present function

	checks int
	marks  []mark // of the present body
	kept   []mark // those that become checks
	open   []int  // the blocks around the present instruction: indices of marks, or notLoop
	whole  []byte // the body with its checks

	functions uint32 // how many the source has; an index beyond could name what the rewrite adds
	globals   uint32 // likewise
}

// uses notes what a program's code does that decides how its instances can be reused.
type uses struct {
	lasting    string // an instruction that changes what a reset does not set back, "" if none
	tables     bool   // does more with tables than call through them
	memoryInit bool   // refers to data segments by index
	simd       bool
	threads    bool
	exceptions bool
}

// function returns the index in the rewritten module of a function that r has just read.
func (w *rewriter) function(r *reader, i uint32) uint32 {
	if i >= w.functions {
		r.fail("function %d does not exist", i)
	}
	return w.moved(i)
}

// global returns the index of a global that r has just read.
func (w *rewriter) global(r *reader, i uint32) uint32 {
	if i >= w.globals {
		r.fail("global %d does not exist", i)
	}
	return i
}

// moved returns the index of function i in the rewritten module.
func (w *rewriter) moved(i uint32) uint32 {
	if i >= w.shift {
		return i + w.added
	}
	if w.to != 0 && i == w.from {
		return w.to
	}
	return i
}

// body rewrites one function body (locals and expression, without its size).
func (w *rewriter) body(b []byte, params int) []byte {
	w.r = reader{b: b}
	w.out = w.out[:0]
	w.locals(params)
	entry := mark{out: len(w.out), src: w.r.pos, straight: true}
	calls := w.expression()
	if w.r.err != nil || w.host == 0 {
		return w.out
	}
	return w.assemble(entry, mark{out: len(w.out), src: w.r.pos, calls: calls})
}

func (w *rewriter) locals(params int) {
	r := &w.r
	total := uint64(0)
	groups := r.count(2)
	start := r.pos
	for n := groups; n > 0 && r.err == nil; n-- {
		total += uint64(r.u32())
		if t := r.byte(); t == 0x63 || t == 0x64 {
			r.leb(5)
		}
		if total > maxLocals {
			r.fail("%d locals in one function, at most %d", total, maxLocals)
		}
	}
	if w.fill == 0 {
		w.out = append(w.out, r.b[:r.pos]...)
		return
	}
	w.spare = uint32(params) + uint32(total)
	w.out = append(appendU32(w.out, uint32(groups+1)), r.b[start:r.pos]...)
	w.out = append(w.out, 1, 0x7f)
}

const maxLocals = 50_000

// expression copies instructions to the end of the body, marks where checks may be needed and
// returns the number of calls. Runs of instructions that stay as they are get copied in one piece.
func (w *rewriter) expression() (calls int) {
	r := &w.r
	from, checked := r.pos, r.pos
	straight := true // no branch, call or return so far
	w.open, w.marks = w.open[:0], w.marks[:0]
	note := func(m mark) {
		w.out = append(w.out, r.b[from:m.src]...)
		from = m.src
		m.out, m.calls, m.straight = len(w.out), calls, straight
		w.marks = append(w.marks, m)
	}
	for !r.done() {
		at := r.pos
		if at-checked >= longStretch {
			checked = at
			note(mark{src: at})
		}
		op := r.byte()
		switch op {
		case 0x03: // loop
			r.leb(5)
			w.open = append(w.open, len(w.marks))
			note(mark{src: r.pos, loop: true})
		case 0x02, 0x04: // block, if
			straight = straight && op == 0x02
			r.leb(5)
			w.open = append(w.open, notLoop)
		case 0x0b: // end
			if n := len(w.open); n > 0 {
				w.open = w.open[:n-1]
			}
		case 0x10, 0x12, 0xd2: // call, return_call, ref.func
			if op != 0xd2 {
				calls, straight = calls+1, false
			} else {
				w.uses.lasting = "ref.func" // the engine keeps an object for each one executed
			}
			f := r.u32()
			if to := w.function(r, f); to != f {
				w.out = append(append(w.out, r.b[from:at]...), op)
				w.out = appendU32(w.out, to)
				from = r.pos
			}
		case 0x11, 0x13: // call_indirect, return_call_indirect
			calls, straight = calls+1, false
			r.u32()
			r.u32()
			if w.fill != 0 {
				w.out = w.appendLook(append(w.out, r.b[from:at]...))
				from = at
			}
		case 0x14, 0x15: // call_ref, return_call_ref
			calls, straight = calls+1, false
			r.u32()
		case 0xfc:
			if w.bulk(r.u32()) && r.err == nil {
				checked = at
				note(mark{src: at, bulk: true})
			}
		default:
			switch op {
			case 0x0c, 0x0d, 0x0e, 0x0f, 0x1f, 0xd5, 0xd6: // branches, return, try_table
				straight = false
			}
			w.immediates(op)
		}
	}
	if r.err == nil {
		w.out = append(w.out, r.b[from:r.pos]...)
	}
	return calls
}

// immediates steps over what follows an opcode.
func (w *rewriter) immediates(op byte) {
	r := &w.r
	switch {
	case op >= 0x45 && op <= 0xc4, op == 0x00, op == 0x01, op == 0x05, op == 0x0f,
		op == 0x1a, op == 0x1b, op == 0xd1, op == 0xd3, op == 0xd4:
	case op == 0x23 || op == 0x24: // global.get, global.set
		w.global(r, r.u32())
	case op >= 0x20 && op <= 0x22: // local
		r.u32()
	case op == 0x0c, op == 0x0d, op == 0xd5, op == 0xd6: // br, br_if, br_on_null, br_on_non_null
		w.branch(r.u32())
	case op == 0x25: // table.get
		w.uses.tables = true
		r.u32()
	case op == 0x26:
		w.uses.lasting, w.uses.tables = "table.set", true
		r.u32()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.memarg()
	case op == 0x3f || op == 0x40: // memory.size, memory.grow
		r.u32()
	case op == 0x41:
		r.leb(5)
	case op == 0x42:
		r.leb(10)
	case op == 0x43:
		r.skip(4)
	case op == 0x44:
		r.skip(8)
	case op == 0x0e: // br_table
		for n := r.count(1); n >= 0 && r.err == nil; n-- {
			w.branch(r.u32())
		}
	case op == 0x1c: // select with types
		for n := r.count(1); n > 0 && r.err == nil; n-- {
			if t := r.byte(); t == 0x63 || t == 0x64 {
				r.leb(5)
			}
		}
	case op == 0xd0: // ref.null
		r.leb(5)
	case op == 0x08 || op == 0x0a || op == 0x1f:
		w.exception(op)
	case op == 0xfd:
		w.uses.simd = true
		r.simd(r.u32())
	case op == 0xfe:
		w.uses.threads = true
		if r.u32() == 0x03 { // atomic.fence
			r.byte()
		} else {
			r.memarg()
		}
	default:
		r.fail("opcode 0x%02x at byte %d of the function is not known", op, r.pos-1)
	}
}

func (w *rewriter) exception(op byte) {
	r := &w.r
	w.uses.exceptions = true
	switch op {
	case 0x08: // throw
		r.u32()
	case 0x1f: // try_table
		r.leb(5)
		for n := r.count(2); n > 0 && r.err == nil; n-- {
			if kind := r.byte(); kind < 2 {
				r.u32()
			}
			w.branch(r.u32()) // labels are those outside the try_table
		}
		w.open = append(w.open, notLoop)
	}
}

// lasting names the 0xfc instructions that change a table or drop a segment.
var lasting = map[uint32]string{9: "data.drop", 12: "table.init", 13: "elem.drop", 14: "table.copy", 15: "table.grow", 17: "table.fill"}

// bulk steps over the immediates of a 0xfc instruction and reports whether it may take long.
func (w *rewriter) bulk(sub uint32) (slow bool) {
	r := &w.r
	if name, ok := lasting[sub]; ok {
		w.uses.lasting = name
	}
	w.uses.tables = w.uses.tables || sub >= 12
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncations
	case 8:
		w.uses.memoryInit = true
		r.u32()
		r.u32()
	case 9:
		w.uses.memoryInit = true
		r.u32()
	case 10, 12, 14: // memory.copy, table.init, table.copy
		r.u32()
		r.u32()
	case 11, 13, 15, 16, 17: // memory.fill, elem.drop, table.grow, size, fill
		r.u32()
	default:
		r.fail("opcode 0xfc %d is not known", sub)
	}
	switch sub {
	case 8, 10, 11, 12, 14, 15, 17: // init, copy, fill, grow
		return true
	}
	return false
}

func (r *reader) memarg() {
	align := r.u32()
	if align&0x40 != 0 { // multi-memory: an index follows
		r.u32()
	}
	r.leb(10)
}

// simd steps over the immediates of a 0xfd instruction.
func (r *reader) simd(sub uint32) {
	switch {
	case sub <= 11 || sub == 92 || sub == 93: // loads and stores
		r.memarg()
	case sub == 12 || sub == 13: // v128.const, i8x16.shuffle
		r.skip(16)
	case sub >= 21 && sub <= 34: // lanes
		r.byte()
	case sub >= 84 && sub <= 91: // lane loads and stores
		r.memarg()
		r.byte()
	case sub > 0x113:
		r.fail("opcode 0xfd %d is not known", sub)
	}
}
