package wasm

// How a guest is made to call in. Compiled code cannot be preempted: while a guest runs, a garbage
// collection cannot begin, and as one that wants to begin stops everybody else, nobody is left who
// could tell the guest to make way. So the guest has to notice by itself, after a bounded amount
// of work. The rewrite adds a mutable global, the fuel. A check subtracts what may have been done
// since the one before and calls the host when the fuel is used up; the host ends the guest, or
// lets others run for a moment, and gives it new fuel. To have a guest call in sooner, the
// host takes its fuel away.
//
// Whatever a hostile guest is made of, what it does between two checks must be little and paid for.
// So there is a check
//   - at the head of each loop;
//   - at the entry of functions that call others or are long, unless straight code leads from there
//     to another check. A short function that calls none needs none: its callers pay for it;
//   - before instructions whose work depends on an operand, which then is paid for too;
//   - and wherever a way without any has become long.
//
// A check pays for the longest way that leads to it. What a call does after its last check is paid
// for by its first one.
//
// In a loop, a global is loaded and stored again in each round, and each round waits for the one
// before. So a loop whose rounds are short, for else it does not matter, buys a chunk of fuel at a
// time and counts it down in a local, which all such loops of the function share. What is left of it when the function returns is lost: guests pay
// rather too much than too little, and nothing has to be paid at the many ways out.
//
// When the chunk is used up, the loop is left and entered again, by a loop around it. If the host
// were called inside, whatever a round changes would have to be in memory there, and the engine
// would store it in each round. For the same reason, where the host is called is the else of an if
// that is empty otherwise: the engine gives out registers as the first way needs them.
const (
	// Fuel is what a guest should be given at a time: at a nanosecond or a few a unit, enough to
	// make calling in cheap, and little enough for the pause of a garbage collection.
	Fuel = 1 << 17

	unitBytes       = 16 // of code that cost one unit of fuel
	unitShift       = 9  // 512 bytes or elements of a bulk instruction cost one unit
	chunk           = 256
	shortRound      = 32 // units, of loops that count in a local
	longFunction    = 64
	longStretch     = 2048
	longInstruction = 32
)

// A round that cost more than a chunk could never begin. A way is made longer by at most one
// instruction or call at a time before it is checked.
const _ = uint(chunk - 1 - (longStretch+longFunction+longInstruction)/unitBytes)

// units is what a way costs.
func units(way int) int { return 1 + way/unitBytes }

// assemble returns the rewritten body with its checks, whose need and cost show only when all
// of it has been read. A long function pays for itself.
func (w *rewriter) assemble(long bool) []byte {
	marks := w.flow.marks
	out, from := w.declare(), marks[0].out
	first := w.flow.first(long)
	for i := range marks {
		m := &marks[i]
		out = append(out, w.out[from:m.out]...)
		from = m.out
		switch m.kind {
		case atEnd:
			if marks[m.loop].counts {
				out = append(out, 0x0b)
			}
		case atBranch: // out of the loops that were put around
			r := reader{b: w.out, pos: from}
			out = appendU32(out, r.u32()+uint32(w.flow.around(m.loop)-w.flow.around(m.to)))
			from = r.pos
		default:
			out = w.appendMark(out, i, first)
		}
	}
	w.whole = append(out, w.out[from:]...)
	return w.whole
}

// declare begins a body with its locals, and one more if loops count in it.
func (w *rewriter) declare() []byte {
	r := reader{b: w.out[:w.flow.marks[0].out]}
	if !w.flow.nest() {
		return append(w.whole[:0], r.b...)
	}
	out := appendU32(w.whole[:0], r.u32()+1)
	// An i64 like most locals: spilled ones lie side by side, and would be less well aligned.
	return append(append(out, r.b[r.pos:]...), 1, 0x7e)
}

// appendMark appends the check for a mark. The first of the function pays for its last way, too.
func (w *rewriter) appendMark(b []byte, i, first int) []byte {
	m, last := &w.flow.marks[i], 0
	if i == first {
		last = w.flow.leaving / unitBytes
	}
	switch {
	case m.kind == atEntry && first != i:
		return b
	case m.counts && i == first: // entered, nothing is left from other loops
		b = w.appendChunk(b, last+units(m.before))
		b = w.appendRound(b, m)
	case m.counts:
		b = w.appendSpend(b, units(m.before))
		b = append(b, 0x42, 0, 0x57, 0x04, 0x40) // i64.const, i64.le_s, if
		b = append(w.appendChunk(b, 0), 0x0b)
		b = w.appendRound(b, m)
	case m.kind == atLoop:
		b = w.appendCheck(b, false, last+units(max(m.before, m.way)))
	default:
		b = w.appendCheck(b, m.kind == atBulk, last+units(m.way))
	}
	w.checks++
	return b
}

// appendRound appends the loop itself, inside the one that stands before it, and: left -= cost; if
// left < 0, begin the outer one again.
func (w *rewriter) appendRound(b []byte, m *mark) []byte {
	head := w.out[m.out-m.head : m.out]
	b = w.appendSpend(append(b, head...), units(m.way))
	b = append(b, 0x42, 0, 0x53) // i64.const, i64.lt_s
	if head[1]&0x40 == 0 || len(head) > 2 {
		return append(b, 0x0d, 1) // br_if: a loop with parameters must find them on the stack
	}
	return append(b, 0x04, 0x40, 0x0c, 2, 0x0b) // if, br, end: the engine compiles that better
}

// appendSpend appends left -= cost, and leaves it on the stack.
func (w *rewriter) appendSpend(b []byte, cost int) []byte {
	b = appendConst(appendU32(append(b, 0x20), w.left), 0x42, cost)
	return appendU32(append(b, 0x7d, 0x22), w.left) // i64.sub, local.tee
}

// appendChunk appends: fuel -= chunk + more - left; left = chunk; if fuel <= 0, call the host. What
// is left is a debt here.
func (w *rewriter) appendChunk(b []byte, more int) []byte {
	b = appendU32(append(b, 0x23), w.globals)
	b = append(appendU32(append(b, 0x20), w.left), 0xa7, 0x6a) // i32.wrap_i64, i32.add
	b = appendConst(b, 0x41, chunk+more)
	b = appendU32(append(b, 0x6b, 0x24), w.globals) // i32.sub, global.set
	b = appendU32(append(appendConst(b, 0x42, chunk), 0x21), w.left)
	return w.appendCallIn(b)
}

// appendCheck appends: fuel -= cost; if fuel <= 0, call the host.
func (w *rewriter) appendCheck(b []byte, bulk bool, cost int) []byte {
	fuel, size := w.globals, w.globals+1
	if bulk {
		b = appendU32(append(b, 0x24), size) // global.set: it is kept there for a moment
	}
	b = appendU32(append(b, 0x23), fuel)
	if bulk {
		b = appendU32(append(b, 0x23), size)
		b = append(b, 0x41, unitShift, 0x76, 0x6b) // i32.const, i32.shr_u, i32.sub
	}
	b = appendU32(append(appendConst(b, 0x41, cost), 0x6b, 0x24), fuel) // i32.sub, global.set
	b = w.appendCallIn(b)
	if bulk {
		b = appendU32(append(b, 0x23), size)
	}
	return b
}

// appendCallIn appends: if fuel > 0, nothing; else call the host.
func (w *rewriter) appendCallIn(b []byte) []byte {
	b = appendU32(append(b, 0x23), w.globals)
	b = append(b, 0x41, 0, 0x4a, 0x04, 0x40, 0x05, 0x10) // i32.const, i32.gt_s, if, else, call
	return append(appendU32(b, w.host-1), 0x0b)
}

// appendConst appends a constant from 0 to 8191, in two bytes.
func appendConst(b []byte, op byte, v int) []byte { return append(b, op, byte(v)|0x80, byte(v>>7)) }
