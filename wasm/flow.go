package wasm

// flow follows the ways that execution can take through a body, to know at each place how much may
// have been done since the last check. Code branches back only to the heads of loops, and each of
// them has a check, so one pass from front to back sees every way.
type flow struct {
	way      int     // bytes of code since the last check on the longest way here, or nowhere
	leaving  int     // the longest way to where the function is left, by a return or for a while by a call
	straight bool    // this place is reached from the entry without a branch, call or return
	open     []block // the blocks around it
	marks    []mark  // of the present body
}

// nowhere is the length of the longest way to code that nothing leads to.
const nowhere = -1

// block is a block that has begun and not ended.
type block struct {
	loop  int // the loop that it is, or noLoop
	inner int // the innermost loop around what is in it
	way   int // the longest way by a branch to its end, or nowhere
	other int // the way into the else of an if, or past it
}

// noLoop stands for none. Loops are named by the indices of their marks.
const noLoop = -1

// mark is a place in the output where the rewrite may have to put something.
type mark struct {
	kind     kind
	straight bool
	repeats  bool // something branches back to the loop
	counts   bool // the loop counts in the local
	out      int  // where that is
	way      int  // what a check has to pay for; at a loop each round
	before   int  // what a loop has to pay for when it is entered
	head     int  // bytes of the loop instruction, which stands before the mark
	loop     int  // the loop around a loop or a branch, and the one that an end belongs to
	to       int  // the innermost loop around, or at, what a branch leads to
	around   int  // how many loops that count are around what is in this one
}

type kind uint8

const (
	atEntry   kind = iota
	atStretch      // after so many bytes without a check
	atBulk         // before a bulk instruction, whose size is on the stack
	atLoop         // at its head
	atEnd          // behind the end of a loop
	atBranch       // at the label of a branch that leaves loops
)

func (f *flow) begin() {
	f.way, f.leaving, f.straight = 0, 0, true
	f.open, f.marks = f.open[:0], f.marks[:0]
}

// inner is the innermost loop around the present place.
func (f *flow) inner() int {
	if n := len(f.open); n > 0 {
		return f.open[n-1].inner
	}
	return noLoop
}

// walk makes the way longer.
func (f *flow) walk(bytes int) {
	if f.way != nowhere {
		f.way += bytes
	}
}

// enter opens a block. In an if, other is the way that does not take its first part.
func (f *flow) enter(other int) {
	f.open = append(f.open, block{loop: noLoop, inner: f.inner(), way: nowhere, other: other})
}

// enterLoop opens the loop whose mark is the last one.
func (f *flow) enterLoop(head int) {
	i := len(f.marks) - 1
	m := &f.marks[i]
	m.before, m.way, m.head, m.loop = m.way, 0, head, f.inner()
	f.open = append(f.open, block{loop: i, inner: i, way: nowhere, other: nowhere})
	f.way = 0
}

// orElse begins the second part of an if.
func (f *flow) orElse() {
	if n := len(f.open); n > 0 {
		b := &f.open[n-1]
		b.way = max(b.way, f.way)
		f.way, b.other = b.other, nowhere
	}
}

// exit closes a block, or the function, and returns the loop that it was.
func (f *flow) exit() (loop int) {
	n := len(f.open)
	if n == 0 {
		f.leave()
		return noLoop
	}
	b := f.open[n-1]
	f.open = f.open[:n-1]
	f.way = max(f.way, b.way, b.other)
	return b.loop
}

// branch follows a branch to the block that many levels out and returns the innermost loop there.
func (f *flow) branch(depth uint32) (to int) {
	f.straight = false
	n := len(f.open)
	if uint64(depth) >= uint64(n) {
		f.leave()
		return noLoop
	}
	b := &f.open[n-1-int(depth)]
	if b.loop == noLoop {
		b.way = max(b.way, f.way)
	} else {
		m := &f.marks[b.loop]
		m.way, m.repeats = max(m.way, f.way), true
	}
	return b.inner
}

// leave notes that the function is left here.
func (f *flow) leave() { f.straight, f.leaving = false, max(f.leaving, f.way) }

// stop notes that the way goes nowhere from here.
func (f *flow) stop() { f.straight, f.way = false, nowhere }

// nest decides which loops count in the local and how many of these are around each loop, and
// reports whether there are any.
func (f *flow) nest() (any bool) {
	for i := range f.marks {
		if m := &f.marks[i]; m.kind == atLoop {
			m.counts = m.repeats && units(m.way) <= shortRound
			m.around = f.around(m.loop)
			if m.counts {
				m.around, any = m.around+1, true
			}
		}
	}
	return any
}

// around returns how many loops that count in the local are around what is in a loop.
func (f *flow) around(loop int) int {
	if loop == noLoop {
		return 0
	}
	return f.marks[loop].around
}

// first returns the check that every call of the function passes first: at its entry, or one to
// which straight code leads from there. A short function needs none.
func (f *flow) first(long bool) int {
	if !long {
		return noLoop
	}
	for i, m := range f.marks[1:] {
		if m.kind != atEnd && m.kind != atBranch {
			before := m.way
			if m.kind == atLoop {
				before = m.before
			}
			if m.straight && before <= longFunction {
				return i + 1
			}
			break
		}
	}
	return 0
}
