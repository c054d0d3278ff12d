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
	flow   flow
	copied int    // the source is copied up to there
	left   uint32 // the local that loops count down, if there are any that repeat
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

// body rewrites one function body (locals and expression, without its size) of a function with so
// many parameters.
func (w *rewriter) body(b []byte, params int) []byte {
	w.r = reader{b: b}
	w.out = w.out[:0]
	w.left = uint32(params) + w.locals(params)
	code := w.r.pos
	calls := w.expression()
	if w.r.err != nil || w.host == 0 {
		return w.out
	}
	return w.assemble(calls || w.r.pos-code > longFunction)
}

// locals copies a body's locals, with a spare one if tables are filled late, and returns how many there are then.
func (w *rewriter) locals(params int) uint32 {
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
		return uint32(total)
	}
	w.spare = uint32(params) + uint32(total)
	w.out = append(appendU32(w.out, uint32(groups+1)), r.b[start:r.pos]...)
	w.out = append(w.out, 1, 0x7f)
	return uint32(total) + 1
}

const maxLocals = 50_000

// flush copies the source up to a place.
func (w *rewriter) flush(to int) {
	if to > w.copied { // not behind the end of a body that is cut off
		w.out = append(w.out, w.r.b[w.copied:to]...)
		w.copied = to
	}
}

// note marks a place.
func (w *rewriter) note(m mark, at int) {
	w.flush(at)
	m.out = len(w.out)
	w.flow.marks = append(w.flow.marks, m)
}

// check marks a place where the way so far is paid for.
func (w *rewriter) check(k kind, at int) {
	f := &w.flow
	w.note(mark{kind: k, way: max(f.way, 0), straight: f.straight}, at)
	f.way = min(f.way, 0)
}

// expression copies instructions to the end of the body, marks where something may have to be put
// and reports whether there are calls. Runs of instructions that stay as they are get copied in one piece.
func (w *rewriter) expression() (calls bool) {
	r, f := &w.r, &w.flow
	w.copied = r.pos
	f.begin()
	w.check(atEntry, r.pos)
	for !r.done() {
		at := r.pos
		if f.way >= longStretch {
			w.check(atStretch, at)
		}
		f.walk(1)
		op := r.byte()
		switch op {
		case 0x02, 0x03, 0x04, 0x05, 0x0b: // block, loop, if, else, end
			w.structure(op, at)
		case 0x10, 0x11, 0x12, 0x13, 0x14, 0x15: // calls
			w.call(op, at)
			calls = true
		case 0xd2: // ref.func
			w.uses.lasting = "ref.func" // the engine keeps an object for each one executed
			w.index(op, at)
		case 0xfc:
			if w.bulk(r.u32()) && r.err == nil {
				w.check(atBulk, at)
			}
		default:
			w.immediates(op)
		}
		f.walk(min(r.pos-at-1, longInstruction)) // very long immediates do not take as long
	}
	if r.err == nil {
		w.flush(r.pos)
	}
	return calls
}

// structure steps over the beginning or the end of a block.
func (w *rewriter) structure(op byte, at int) {
	r, f := &w.r, &w.flow
	switch op {
	case 0x02, 0x03, 0x04:
		r.leb(5)
		if op == 0x02 {
			f.enter(nowhere)
		} else if op == 0x04 {
			f.straight = false
			f.enter(f.way)
		} else if r.err == nil {
			w.check(atLoop, r.pos)
			f.enterLoop(r.pos - at)
		}
	case 0x05:
		f.orElse()
	case 0x0b:
		if loop := f.exit(); loop != noLoop {
			w.note(mark{kind: atEnd, loop: loop}, r.pos)
		}
	}
}

// call steps over a call. The callee may be short and leave it to its callers to pay for it.
func (w *rewriter) call(op byte, at int) {
	f := &w.flow
	f.walk(longFunction)
	f.leave()
	if op == 0x10 || op == 0x12 { // call, return_call
		w.index(op, at)
	} else {
		w.immediates(op)
	}
	if w.fill != 0 && (op == 0x11 || op == 0x13) { // call_indirect, return_call_indirect
		w.flush(at)
		w.out = w.appendLook(w.out)
	}
	if op == 0x12 || op == 0x13 || op == 0x15 {
		f.stop()
	}
}

// index copies an instruction that names a function.
func (w *rewriter) index(op byte, at int) {
	r := &w.r
	f := r.u32()
	if to := w.function(r, f); to != f {
		w.flush(at)
		w.out = appendU32(append(w.out, op), to)
		w.copied = r.pos
	}
}

// branch follows a branch whose label comes next.
func (w *rewriter) branch() {
	r, f := &w.r, &w.flow
	at := r.pos
	if to := f.branch(r.u32()); to != f.inner() && r.err == nil {
		w.note(mark{kind: atBranch, loop: f.inner(), to: to}, at)
	}
}
