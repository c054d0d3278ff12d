package wasm

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// Names that the rewrite adds to a module. A guest that uses the prefix itself is refused.
const (
	Prefix          = "__wedge_"
	FuelGlobal      = Prefix + "fuel"  // exported mutable i32: checks count it down and call in at 0
	StartFunction   = Prefix + "start" // exported function: what the module's start section named
	InterruptModule = Prefix + "host"  // import module of the function called by a check
	InterruptName   = "interrupt"      // () -> ()
	ParkName        = "park"           // import, with Options.Park: called in its place
	EndedName       = "ended"          // import, with Options.Park: () -> (), called when _start returns
	EnterFunction   = Prefix + "enter" // export, with Options.Park: start section, _start, ended
	MemoryName      = "memory"         // the guest's memory, as the ABI exports it
	EntryName       = "_start"         // the guest's entry
	globalPrefix    = Prefix + "g"
)

// GlobalExport returns the name under which mutable global i of the module is exported.
func GlobalExport(i uint32) string { return globalPrefix + strconv.Itoa(int(i)) }

// ParkAgain makes a parked guest call ParkName once more.
const ParkAgain = 0xFFFFFFFF

// Bounds on what a module may declare. They keep a hostile module from making the host
// allocate before its guest has run.
const (
	MaxTableElements  = 1 << 17 // in all tables, now or by table.grow
	maxMutableGlobals = 4096
	maxTypes          = 1 << 16
	maxImports        = 2048
	PageSize          = 64 << 10 // of Wasm memory
)

// Import is a function the guest asks for.
type Import struct {
	Module, Name    string
	Params, Results []byte // Wasm value types
}

// Global is a mutable global and its initial value.
type Global struct {
	Index uint32
	Name  string // as exported by the code
	Value uint64 // bits of the i32, i64, f32 or f64
}

// Image is what a program's memory and globals hold before its first instruction.
type Image struct {
	Data     []byte // memory from address 0 to the last byte that is not zero
	MinPages uint32 // initial size of the memory in 64 KiB pages
	MaxPages uint32 // declared maximum, 65,536 if none
	Globals  []Global
}

// Program is a module taken apart.
type Program struct {
	Code    []byte            // a module without data and with interrupt checks; the same for all programs that differ only in image
	Digest  [sha256.Size]byte // of Code
	Image   Image
	Imports []Import // without the one added for interrupt checks

	HasStart bool   // the module has a start section; call StartFunction before EntryName
	Unpooled string // why an instance cannot be put back as it was and is used once; "" if it can
	Checks   int    // interrupt checks inserted
}

// Options change how Split works.
type Options struct {
	// Park names an imported hostcall, as "module.name", at which the guest can be stopped and
	// begun again: its calls go to a function that calls ParkName with the same arguments until
	// that returns something other than ParkAgain. The hostcall takes and returns i32 only.
	Park string

	Library   bool   // the module need not export EntryName: it is no guest, but one that the host calls
	NoChecks  bool   // leave the interrupt checks out; for measuring what they cost
	MaxMemory uint64 // largest initial memory in bytes; 0: the default limit of 128 MiB

	eager bool // tables are filled by the engine
}

// Split takes the module in src apart. Errors are of kind Invalid or Unsupported and say
// which section is at fault. src is not changed, and the result does not refer to it.
func Split(src []byte, opt Options) (*Program, error) {
	if opt.MaxMemory == 0 {
		opt.MaxMemory = wedge.DefaultLimits.Memory
	}
	s := splitter{opt: opt, p: &Program{}}
	err := s.split(src)
	if err == nil && s.lazy != nil && s.w.uses.tables {
		opt.eager = true
		s = splitter{opt: opt, p: &Program{}}
		err = s.split(src)
	}
	if err != nil {
		return nil, err
	}
	s.p.Digest = sha256.Sum256(s.p.Code)
	return s.p, nil
}

type funcType struct{ params, results []byte }

type splitter struct {
	opt   Options
	p     *Program
	sec   [14][]byte // raw contents by section id
	has   [14]bool
	names []byte // contents of the "name" custom section

	types      []funcType
	checkType  uint32 // index of () -> ()
	importedFn uint32
	numGlobals uint32
	mutables   []Global
	start      uint32
	entry      uint32   // index of _start
	parkType   uint32   // type of the hostcall to park at
	defined    uint32   // functions the module defines
	funcs      []uint32 // their types
	lazy       *lazyTable
	w          rewriter
}

// Order in which sections must come; custom sections may stand anywhere.
var sectionOrder = [14]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 13: 6, 6: 7, 7: 8, 8: 9, 9: 10, 12: 11, 10: 12, 11: 13}

var sectionNames = [14]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count", "tag"}

func (s *splitter) split(src []byte) error {
	if err := s.sections(src); err != nil {
		return err
	}
	steps := []struct {
		id int
		f  func(*reader) []byte
	}{
		{1, s.typeSection}, {2, s.importSection}, {3, s.functionSection}, {4, s.tableSection}, {5, s.memorySection}, {13, keep},
		{6, s.globalSection}, {7, s.exportSection}, {9, s.elementSection},
	}
	out := append([]byte{}, header...)
	s.lazy = s.readLazy()
	if s.has[8] { // read before exports, which offer it
		r := reader{b: s.sec[8]}
		s.start, s.p.HasStart = r.u32(), true
		if r.err != nil {
			return badSection(8, r.err)
		}
	}
	for _, st := range steps {
		if !s.has[st.id] && st.id != 1 && st.id != 2 && st.id != 6 && st.id != 7 && st.id != 5 {
			continue
		}
		r := reader{b: s.sec[st.id]}
		b := st.f(&r)
		if r.err == nil && r.pos != len(r.b) {
			r.fail("%d bytes too many", len(r.b)-r.pos)
		}
		if r.err != nil {
			return badSection(st.id, r.err)
		}
		out = appendSection(out, st.id, b)
	}
	code, err := s.codeSection()
	if err != nil {
		return err
	}
	if s.opt.Park != "" {
		t := s.types[s.parkType]
		if strings.Trim(string(t.params), "\x7f") != "" || string(t.results) != "\x7f" {
			return unsupported(s.opt.Park+" has a signature it cannot be parked at", "Build with a current SDK.")
		}
	}
	data, err := s.dataSection()
	if err != nil {
		return err
	}
	if s.has[12] && data != nil {
		out = appendSection(out, 12, s.sec[12])
	}
	out = appendSection(out, 10, code)
	if data != nil {
		out = appendSection(out, 11, data)
	}
	s.p.Code = s.appendNames(out)
	s.p.Image.Globals = s.mutables
	return nil
}

const header = "\x00asm\x01\x00\x00\x00"

// sections finds all sections and checks framing and order.
func (s *splitter) sections(src []byte) error {
	if len(src) < 8 || string(src[:4]) != header[:4] {
		return &wedge.Error{Op: "read module", Kind: wedge.Invalid, Err: fmt.Errorf("it does not begin with the Wasm magic number"), Hint: "Give the path of a .wasm file, the output of the build."}
	}
	if string(src[:8]) != header {
		if src[6] == 1 {
			return &wedge.Error{Op: "read module", Kind: wedge.Unsupported, Err: fmt.Errorf("it is a Wasm component, not a core module"), Hint: "Build for a core module target such as wasm32-wasip1."}
		}
		return &wedge.Error{Op: "read module", Kind: wedge.Unsupported, Err: fmt.Errorf("binary format version % x", src[4:8]), Hint: "Build for version 1 of the Wasm binary format."}
	}
	r := reader{b: src, pos: 8}
	last := 0
	for !r.done() {
		id := int(r.byte())
		body := r.bytes(uint64(r.u32()))
		if r.err != nil {
			return &wedge.Error{Op: "read module", Kind: wedge.Invalid, Err: fmt.Errorf("section %d is cut off: %w", id, r.err), Hint: truncatedHint}
		}
		if id == 0 {
			c := reader{b: body}
			if c.name() == "name" && c.err == nil {
				s.names = body[c.pos:]
			}
			continue
		}
		if id >= len(s.sec) {
			return &wedge.Error{Op: "read module", Kind: wedge.Invalid, Err: fmt.Errorf("section id %d is not known", id), Hint: truncatedHint}
		}
		if sectionOrder[id] <= last {
			return &wedge.Error{Op: "read module", Kind: wedge.Invalid, Err: fmt.Errorf("the %s section stands in the wrong order or twice", sectionNames[id]), Hint: truncatedHint}
		}
		last = sectionOrder[id]
		s.sec[id], s.has[id] = body, true
	}
	return nil
}

const truncatedHint = "The file is damaged or not a Wasm module; build it again."

func badSection(id int, err error) error {
	return &wedge.Error{Op: "read module", What: sectionNames[id] + " section", Kind: wedge.Invalid, Err: err, Hint: truncatedHint}
}

func unsupported(what, hint string) error {
	return &wedge.Error{Op: "read module", Kind: wedge.Unsupported, Err: fmt.Errorf("%s", what), Hint: hint}
}

func appendSection(out []byte, id int, body []byte) []byte {
	return append(appendU32(append(out, byte(id)), uint32(len(body))), body...)
}

func keep(r *reader) []byte { return r.bytes(uint64(len(r.b))) }

// typeSection keeps the types and finds or adds () -> ().
func (s *splitter) typeSection(r *reader) []byte {
	n := 0
	if s.has[1] {
		n = r.count(3)
	}
	start := r.pos
	found := false
	for i := 0; i < n && r.err == nil; i++ {
		if form := r.byte(); form != 0x60 {
			r.fail("type %d has form 0x%02x; only functions are known", i, form)
			return nil
		}
		t := funcType{params: r.valueTypes(), results: r.valueTypes()}
		if !found && len(t.params)+len(t.results) == 0 {
			s.checkType, found = uint32(i), true
		}
		if strings.ContainsAny(string(t.params), "\x63\x64") {
			s.w.uses.tables = true // parameters of more than a byte each: we count them by bytes
		}
		s.types = append(s.types, t)
	}
	if n > maxTypes {
		r.fail("%d types, at most %d", n, maxTypes)
	}
	body := append([]byte(nil), r.b[start:r.pos]...)
	if !found {
		s.checkType = uint32(n)
		s.types = append(s.types, funcType{})
		body = append(body, 0x60, 0, 0)
		n++
	}
	if s.lazy != nil {
		body = s.lazy.appendType(body, uint32(n))
		n++
	}
	return append(appendU32(nil, uint32(n)), body...)
}

func (r *reader) valueTypes() []byte {
	n := r.count(1)
	start := r.pos
	for i := 0; i < n && r.err == nil; i++ {
		if t := r.byte(); t == 0x63 || t == 0x64 {
			r.leb(5)
		}
	}
	return r.b[start:r.pos]
}

// importSection notes the functions asked for and adds the one that interrupt checks call,
// as the last, so that only functions the module defines move up by one.
func (s *splitter) importSection(r *reader) []byte {
	n := 0
	if s.has[2] {
		n = r.count(4)
	}
	if n > maxImports {
		r.fail("%d imports, at most %d", n, maxImports)
	}
	start := r.pos
	parks := false
	for i := 0; i < n && r.err == nil; i++ {
		imp := Import{Module: r.name(), Name: r.name()}
		kind := r.byte()
		if kind != 0 {
			r.fail("%s.%s is not a function; guests may import functions only", imp.Module, imp.Name)
			return nil
		}
		t := r.u32()
		if int(t) >= len(s.types) {
			r.fail("import %s.%s has a type that does not exist", imp.Module, imp.Name)
			return nil
		}
		if s.opt.Park == imp.Module+"."+imp.Name {
			s.w.from, s.parkType, parks = uint32(i), t, true
		}
		if !plainTypes(s.types[t]) {
			r.fail("import %s.%s has parameters or results that are not plain numbers", imp.Module, imp.Name)
			return nil
		}
		imp.Params, imp.Results = append([]byte(nil), s.types[t].params...), append([]byte(nil), s.types[t].results...)
		s.p.Imports = append(s.p.Imports, imp)
	}
	s.importedFn = uint32(n)
	s.w.shift, s.w.added, s.w.functions = s.importedFn, 1, s.importedFn
	if s.opt.Park != "" {
		if r.err == nil && !parks {
			r.fail("the guest does not import %s, where it would be parked", s.opt.Park)
		}
		s.w.added = 3
	}
	out := append(appendU32(nil, uint32(n)+s.w.added), r.b[start:r.pos]...)
	out = appendImport(out, InterruptName, s.checkType)
	if s.opt.Park != "" {
		out = appendImport(out, ParkName, s.parkType)
		out = appendImport(out, EndedName, s.checkType)
	}
	return out
}

// plainTypes reports whether a function takes and returns numbers only: i32, i64, f32, f64.
func plainTypes(t funcType) bool {
	for _, v := range [...][]byte{t.params, t.results} {
		for _, b := range v {
			if b < 0x7c || b > 0x7f {
				return false
			}
		}
	}
	return true
}

func appendImport(out []byte, name string, typ uint32) []byte {
	out = appendName(appendName(out, InterruptModule), name)
	return appendU32(append(out, 0), typ)
}

// functionSection adds the functions that parking and tables need, after all others.
func (s *splitter) functionSection(r *reader) []byte {
	n := r.count(1)
	s.defined = uint32(n)
	s.w.functions = s.importedFn + s.defined
	start := r.pos
	for i := 0; i < n && r.err == nil; i++ {
		t := r.u32()
		if int(t) >= len(s.types) {
			r.fail("function %d has a type that does not exist", i)
			return nil
		}
		s.funcs = append(s.funcs, t)
	}
	out := append(appendU32(nil, uint32(n+s.extra())), r.b[start:r.pos]...)
	next := s.w.shift + s.w.added + s.defined
	if s.opt.Park != "" {
		s.w.to, next = next, next+2
		out = appendU32(appendU32(out, s.parkType), s.checkType)
	}
	if s.lazy != nil {
		s.lazy.first, s.w.fill = next, 1+next
		out = s.lazy.appendDeclarations(out)
	}
	return out
}

// extra returns how many functions are added.
func (s *splitter) extra() int {
	n := s.lazy.functions()
	if s.opt.Park != "" {
		n += 2
	}
	return n
}

// parkBodies are the bodies of those functions.
func (s *splitter) parkBodies(out []byte) []byte {
	t := s.types[s.parkType]
	park, ended := s.importedFn+1, s.importedFn+2
	result := uint32(len(t.params))
	b := []byte{1, 1, 0x7f, 0x03, 0x40} // one i32 local; loop
	for i := range t.params {
		b = appendU32(append(b, 0x20), uint32(i))
	}
	b = appendU32(append(b, 0x10), park)
	b = appendU32(append(b, 0x22), result)         // local.tee
	b = append(b, 0x41, 0x7f, 0x46, 0x0d, 0, 0x0b) // i32.const ParkAgain; i32.eq; br_if 0; end
	b = append(appendU32(append(b, 0x20), result), 0x0b)
	out = append(appendU32(out, uint32(len(b))), b...)
	b = []byte{0}
	if s.p.HasStart {
		b = appendU32(append(b, 0x10), s.w.moved(s.start))
	}
	b = appendU32(append(b, 0x10), s.w.moved(s.entry))
	b = append(appendU32(append(b, 0x10), ended), 0x0b)
	return append(appendU32(out, uint32(len(b))), b...)
}

// tableSection bounds each table's maximum: what the tables do not take at first is there for
// the first that ask for it.
func (s *splitter) tableSection(r *reader) []byte {
	n := r.count(3)
	type table struct {
		typ      byte
		min, max uint64
	}
	var tables []table
	room := uint64(MaxTableElements)
	for i := 0; i < n && r.err == nil; i++ {
		t := table{typ: r.byte(), max: MaxTableElements}
		if t.typ == 0x63 || t.typ == 0x64 || t.typ == 0x40 {
			r.fail("table %d has a type that is not supported", i)
			return nil
		}
		flags := r.byte()
		t.min = uint64(r.u32())
		if flags == 1 {
			t.max = uint64(r.u32())
		} else if flags != 0 {
			r.fail("table %d has limits of an unknown form", i)
		}
		if t.min > room {
			r.fail("tables of more than %d elements", MaxTableElements)
			return nil
		}
		if t.max < t.min {
			r.fail("table %d has a maximum below its size", i)
		}
		room -= t.min
		tables = append(tables, t)
	}
	out := appendU32(nil, uint32(n))
	for _, t := range tables {
		more := min(t.max-t.min, room)
		room -= more
		out = appendU32(appendU32(append(out, t.typ, 1), uint32(t.min)), uint32(t.min+more))
	}
	return out
}

// memorySection notes the memory's size and writes a memory of one page without a
// maximum, so that programs that differ in it only have the same code.
func (s *splitter) memorySection(r *reader) []byte {
	if !s.has[5] || r.count(2) != 1 {
		r.fail("a guest must define exactly one memory")
		return nil
	}
	flags := r.byte()
	if flags > 1 {
		r.fail("shared and 64-bit memories are not supported")
		return nil
	}
	img := &s.p.Image
	img.MinPages, img.MaxPages = r.u32(), 65536
	if flags == 1 {
		img.MaxPages = min(r.u32(), 65536)
	}
	if most := min(uint64(img.MaxPages), s.opt.MaxMemory/PageSize); uint64(img.MinPages) > most {
		r.fail("the memory begins with %d pages of 64 KiB, at most %d are allowed", img.MinPages, most)
	}
	return []byte{1, 0, 1}
}

// globalSection moves the initial values of mutable globals into the image and adds the two that
// interrupt checks use: the fuel, and a place for the size of a bulk instruction.
func (s *splitter) globalSection(r *reader) []byte {
	n := 0
	if s.has[6] {
		n = r.count(4)
	}
	var out []byte
	for i := 0; i < n && r.err == nil; i++ {
		typ := r.byte()
		if typ == 0x63 || typ == 0x64 {
			r.fail("global %d has a type that is not supported", i)
			return nil
		}
		mutable := r.byte()
		expr, c := s.constExpr(r)
		if mutable == 1 {
			expr = s.mutable(uint32(i), typ, expr, c)
		}
		out = append(append(out, typ, mutable), expr...)
	}
	if len(s.mutables) > maxMutableGlobals {
		r.fail("%d mutable globals, at most %d", len(s.mutables), maxMutableGlobals)
	}
	s.numGlobals, s.w.globals = uint32(n), uint32(n)
	if !s.opt.NoChecks {
		s.w.host = 1 + s.importedFn
	}
	i32 := []byte{0x7f, 1, 0x41, 0, 0x0b} // mutable, 0
	return append(append(append(appendU32(nil, uint32(n+2)), out...), i32...), i32...)
}

func (s *splitter) mutable(i uint32, typ byte, expr []byte, c constant) []byte {
	zero := map[byte][]byte{0x7f: {0x41, 0, 0x0b}, 0x7e: {0x42, 0, 0x0b}, 0x7d: {0x43, 0, 0, 0, 0, 0x0b}, 0x7c: {0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b}}[typ]
	if zero == nil || !c.ok || c.typ != typ {
		s.unpooled(fmt.Sprintf("global %d is mutable and not a plain number", i))
		return expr
	}
	s.mutables = append(s.mutables, Global{Index: i, Name: GlobalExport(i), Value: c.bits})
	return zero
}

func (s *splitter) unpooled(why string) {
	if s.p.Unpooled == "" {
		s.p.Unpooled = why
	}
}

// constant is the value of an initialiser that is one plain const instruction.
type constant struct {
	ok   bool
	typ  byte
	bits uint64
}

// constExpr reads a constant expression and returns it with function indices moved.
func (s *splitter) constExpr(r *reader) (out []byte, c constant) {
	for n := 0; r.err == nil; n++ {
		at := r.pos
		op := r.byte()
		c.ok = n == 0
		switch op {
		case 0x0b:
			c.ok = n == 1 && c.typ != 0
			return append(out, op), c
		case 0x41:
			c.typ, c.bits = 0x7f, uint64(uint32(r.s32()))
		case 0x42:
			c.typ, c.bits = 0x7e, uint64(r.s64())
		case 0x43:
			c.typ, c.bits = 0x7d, le(r.bytes(4))
		case 0x44:
			c.typ, c.bits = 0x7c, le(r.bytes(8))
		case 0xd2:
			c.typ = 0
			out = appendU32(append(out, op), s.w.function(r, r.u32()))
			continue
		case 0x23:
			c.typ = 0
			r.u32()
		case 0xd0:
			c.typ = 0
			r.leb(5)
		case 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e: // extended constant expressions
			c.typ = 0
		case 0xfd:
			c.typ = 0
			if r.u32() != 12 {
				r.fail("a constant expression uses an instruction that is not constant")
			}
			r.skip(16)
		default:
			r.fail("a constant expression uses opcode 0x%02x", op)
		}
		if r.err == nil {
			out = append(out, r.b[at:r.pos]...)
		}
	}
	return nil, constant{}
}

func le(b []byte) (v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

// exportSection checks that the guest offers what the ABI wants and adds our own names.
func (s *splitter) exportSection(r *reader) []byte {
	n := 0
	if s.has[7] {
		n = r.count(3)
	}
	var out []byte
	memory, entry := false, false
	for i := 0; i < n && r.err == nil; i++ {
		name, kind, index := r.name(), r.byte(), r.u32()
		if len(name) >= len(Prefix) && name[:len(Prefix)] == Prefix {
			r.fail("export %q uses the reserved prefix %q", name, Prefix)
			return nil
		}
		memory = memory || name == MemoryName && kind == 2
		if name == EntryName && kind == 0 {
			entry, s.entry = true, index
		}
		switch kind {
		case 0:
			index = s.w.function(r, index)
		case 3:
			s.w.global(r, index)
		}
		out = appendU32(append(appendName(out, name), kind), index)
	}
	if r.err == nil && (!memory || !entry && !s.opt.Library) {
		r.fail("a guest must export %q and the function %q (is it a library, not a program?)", MemoryName, EntryName)
	}
	add := func(name string, kind byte, index uint32) {
		out = appendU32(append(appendName(out, name), kind), index)
		n++
	}
	add(FuelGlobal, 3, s.numGlobals)
	for _, g := range s.mutables {
		add(g.Name, 3, g.Index)
	}
	if s.opt.Park != "" {
		add(EnterFunction, 0, s.w.to+1)
	}
	if s.p.HasStart {
		add(StartFunction, 0, s.w.function(r, s.start))
	}
	return append(appendU32(nil, uint32(n)), out...)
}

// elementSection moves the function indices in table initialisers, or takes these out.
func (s *splitter) elementSection(r *reader) []byte {
	n := r.count(2)
	out := appendU32(nil, uint32(n))
	for i := 0; i < n && r.err == nil; i++ {
		flags := r.u32()
		if flags > 7 {
			r.fail("segment %d has an unknown form", i)
			return nil
		}
		out = appendU32(out, flags)
		if flags&1 == 0 { // active
			if flags&2 != 0 {
				out = appendU32(out, r.u32())
			}
			expr, _ := s.constExpr(r)
			out = append(out, expr...)
		}
		if flags&3 != 0 { // kind or type
			t := r.byte()
			out = append(out, t)
			if t == 0x63 || t == 0x64 {
				r.fail("segment %d has a type that is not supported", i)
				return nil
			}
		}
		m := r.count(1)
		out = appendU32(out, uint32(m))
		for ; m > 0 && r.err == nil; m-- {
			if flags&4 != 0 {
				expr, _ := s.constExpr(r)
				out = append(out, expr...)
			} else {
				out = appendU32(out, s.w.function(r, r.u32()))
			}
		}
	}
	if s.lazy != nil && r.err == nil {
		return s.lazy.segment(&s.w)
	}
	return out
}

// codeSection rewrites every function body.
func (s *splitter) codeSection() ([]byte, error) {
	r := reader{b: s.sec[10]}
	n := 0
	if s.has[10] {
		n = r.count(2)
	}
	out := make([]byte, 0, len(s.sec[10])+len(s.sec[10])/8)
	out = appendU32(out, uint32(n+s.extra()))
	if r.err == nil && uint32(n) != s.defined {
		r.fail("%d bodies for %d functions", n, s.defined)
	}
	for i := 0; i < min(n, len(s.funcs)) && r.err == nil; i++ {
		b := r.bytes(uint64(r.u32()))
		if r.err != nil {
			break
		}
		body := s.w.body(b, len(s.types[s.funcs[i]].params))
		if s.w.r.err != nil {
			return nil, badSection(10, fmt.Errorf("function %d: %w", i, s.w.r.err))
		}
		out = append(appendU32(out, uint32(len(body))), body...)
	}
	if r.err == nil && r.pos != len(r.b) {
		r.fail("%d bytes too many", len(r.b)-r.pos)
	}
	if r.err != nil {
		return nil, badSection(10, r.err)
	}
	if s.opt.Park != "" {
		out = s.parkBodies(out)
	}
	if s.lazy != nil {
		out = s.lazy.appendBodies(out, &s.w)
	}
	u := s.w.uses
	if u.threads {
		return nil, unsupported("it uses threads", "Build without the threads feature; a guest has one thread.")
	}
	if u.exceptions || s.has[13] {
		// In the engine, an exception that a guest holds is not seen by the garbage collector: a guest
		// could read what has taken its place. And each try_table copies the native stack.
		return nil, unsupported("it uses exception handling", "Build without exceptions, for C++ with -fno-exceptions.")
	}
	if u.lasting != "" {
		s.unpooled("its code uses " + u.lasting)
	}
	if s.opt.Park != "" && s.p.Unpooled != "" {
		return nil, unsupported("it cannot be begun from a snapshot: "+s.p.Unpooled, `Use start = "fresh" for this guest.`)
	}
	s.p.Checks = s.w.checks
	return out, nil
}
