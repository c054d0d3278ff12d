package wasm

// immediates steps over what follows an opcode.
func (w *rewriter) immediates(op byte) {
	r := &w.r
	switch {
	case op == 0x00 || op == 0x0f: // unreachable, return
		w.flow.leave()
		w.flow.stop()
	case op >= 0x45 && op <= 0xc4, op == 0x01, op == 0x1a, op == 0x1b, op == 0xd1, op == 0xd3, op == 0xd4:
	case op == 0x11 || op == 0x13: // call_indirect, return_call_indirect
		r.u32()
		r.u32()
	case op == 0x14 || op == 0x15: // call_ref, return_call_ref
		r.u32()
	case op == 0x23 || op == 0x24: // global.get, global.set
		w.global(r, r.u32())
	case op >= 0x20 && op <= 0x22: // local
		r.u32()
	case op == 0x0c, op == 0x0d, op == 0xd5, op == 0xd6: // br, br_if, br_on_null, br_on_non_null
		w.branch()
		if op == 0x0c {
			w.flow.stop()
		}
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
			w.branch()
		}
		w.flow.stop()
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
			w.branch() // labels are those outside the try_table
		}
		w.flow.enter(nowhere)
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
