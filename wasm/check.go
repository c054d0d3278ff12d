package wasm

// How a guest is made to call in. Compiled code cannot be preempted: while a guest runs, a garbage
// collection cannot begin, and as one that wants to begin stops everybody else, nobody is left who
// could tell the guest to make way. So the guest has to notice by itself, after a bounded amount
// of work. The rewrite adds a mutable global, the fuel. A check subtracts what the code up to the
// next check costs and calls the host when the fuel is used up; the host ends the guest, or
// lets others run for a moment, and gives it new fuel. To have a guest call in sooner, the
// host takes its fuel away.
//
// Whatever a hostile guest is made of, what it does between two checks must be little and paid for.
// So there is a check
//   - at the head of each loop that something branches back to;
//   - at the entry of functions that call others or are long, unless straight code leads from there
//     to another check. A short function that calls none needs none: its callers pay for it;
//   - before instructions whose work depends on an operand, which then is paid for too;
//   - and after so many bytes of code without any.
const (
	// Fuel is what a guest should be given at a time: at a nanosecond or a few a unit, enough to
	// make calling in cheap, and little enough for the pause of a garbage collection.
	Fuel = 1 << 17

	unitBytes    = 16 // of code that cost one unit of fuel
	unitShift    = 9  // 512 bytes or elements of a bulk instruction cost one unit
	longFunction = 64
	longStretch  = 512
	maxCost      = 1<<13 - 1 // fits two bytes of signed LEB128
)

// mark is a place in a body for a check.
type mark struct {
	out, src int  // where that is in the output and in the source
	calls    int  // that the body has before it
	straight bool // reached from the entry without a branch, call or return
	bulk     bool // stands before a bulk instruction, whose size is on the stack
	loop     bool // is the head of a loop
	repeats  bool // to which something branches back
}

// notLoop stands for any block but a loop among the open ones.
const notLoop = -1

// branch notes a branch to the block that many levels out. The Go compiler wraps every function
// that calls another in a loop which mostly nothing branches back to: that is none.
func (w *rewriter) branch(depth uint32) {
	if n := len(w.open); uint64(depth) < uint64(n) {
		if l := w.open[n-1-int(depth)]; l != notLoop {
			w.marks[l].repeats = true
		}
	}
}

// assemble returns the rewritten body with its checks, whose need and cost show only when all
// of it has been read. entry and end are the marks around its code.
func (w *rewriter) assemble(entry, end mark) []byte {
	kept := append(w.kept[:0], entry)
	for _, m := range w.marks {
		if !m.loop || m.repeats {
			kept = append(kept, m)
		}
	}
	kept = append(kept, end)
	w.kept = kept
	long := end.calls > 0 || end.src-entry.src > longFunction
	if next := kept[1]; !long || next.straight && next.src-entry.src <= longFunction {
		kept = kept[1:]
	}
	out := append(w.whole[:0], w.out[:entry.out]...)
	from := entry.out
	for i, m := range kept[:len(kept)-1] {
		out = append(out, w.out[from:m.out]...)
		out = w.appendCheck(out, m.bulk, cost(m, kept[i+1]))
		from = m.out
	}
	w.checks += len(kept) - 1
	w.whole = append(out, w.out[from:]...)
	return w.whole
}

// cost is what the code from one mark to the next costs at most, calls of short functions included.
func cost(m, next mark) int {
	return min(1+(next.src-m.src+(next.calls-m.calls)*longFunction)/unitBytes, maxCost)
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
	b = append(b, 0x41, byte(cost)|0x80, byte(cost>>7)) // i32.const, in two bytes
	b = appendU32(append(b, 0x6b, 0x24), fuel)          // i32.sub, global.set
	b = appendU32(append(b, 0x23), fuel)
	b = append(b, 0x41, 0, 0x4c, 0x04, 0x40, 0x10) // i32.const, i32.le_s, if, call
	b = append(appendU32(b, w.host-1), 0x0b)
	if bulk {
		b = appendU32(append(b, 0x23), size)
	}
	return b
}
