package wasmtest

import (
	"slices"
	"strings"
)

// Kinds of imports and exports.
const (
	KindFunc   = 0
	KindTable  = 1
	KindMemory = 2
	KindGlobal = 3
	KindTag    = 4
)

// Section ids.
const (
	SecType      = 1
	SecImport    = 2
	SecFunction  = 3
	SecTable     = 4
	SecMemory    = 5
	SecGlobal    = 6
	SecExport    = 7
	SecStart     = 8
	SecElement   = 9
	SecCode      = 10
	SecData      = 11
	SecDataCount = 12
	SecTag       = 13
)

// Header is the magic number and version that every core module begins with.
const Header = "\x00asm\x01\x00\x00\x00"

// Module is a module being written. Its methods add to it and return the new thing's index.
type Module struct {
	types    []string // as in the binary, without the form byte
	sections [14]struct {
		n    int
		body []byte
	}
	whole   map[int][]byte // sections replaced by Section
	after   []byte         // custom sections, at the end
	names   []byte
	named   int
	imports int
	bodies  []Code
	Count   bool // write a data count section
}

// New returns an empty module.
func New() *Module { return &Module{whole: map[int][]byte{}} }

// ValueType returns the binary form of a type's name: i32 i64 f32 f64 v128 funcref externref exnref.
func ValueType(name string) byte {
	t, ok := map[string]byte{"i32": 0x7f, "i64": 0x7e, "f32": 0x7d, "f64": 0x7c, "v128": 0x7b, "funcref": 0x70, "externref": 0x6f, "exnref": 0x69}[name]
	if !ok {
		panic("wasmtest: no value type " + name)
	}
	return t
}

func valueTypes(names string) []byte {
	var b []byte
	for _, n := range strings.Fields(names) {
		b = append(b, ValueType(n))
	}
	return append(U32(uint32(len(b))), b...)
}

// Type returns the index of a function type, written "i32 i64 -> f32"; "" is () -> ().
func (m *Module) Type(signature string) uint32 {
	params, results, _ := strings.Cut(signature, "->")
	t := string(valueTypes(params)) + string(valueTypes(results))
	if i := slices.Index(m.types, t); i >= 0 {
		return uint32(i)
	}
	m.types = append(m.types, t)
	m.add(SecType, append([]byte{0x60}, t...))
	return uint32(len(m.types) - 1)
}

func (m *Module) add(section int, b ...[]byte) uint32 {
	s := &m.sections[section]
	s.body = append(s.body, slices.Concat(b...)...)
	s.n++
	return uint32(s.n - 1)
}

// Import asks for a function. All imports come before the first Func or Declare.
func (m *Module) Import(module, name, signature string) uint32 {
	m.imports++
	return m.add(SecImport, Name(module), Name(name), []byte{KindFunc}, U32(m.Type(signature)))
}

// Declare announces a function whose body Define gives later, so that others can call it.
func (m *Module) Declare(signature string) uint32 {
	m.bodies = append(m.bodies, nil)
	return uint32(m.imports) + m.add(SecFunction, U32(m.Type(signature)))
}

// Define gives the body of a declared function: the types of its locals, by name, and its code.
func (m *Module) Define(f uint32, locals string, body ...Code) {
	var b []byte
	names := strings.Fields(locals)
	b = append(b, U32(uint32(len(names)))...)
	for _, n := range names {
		b = append(b, 1, ValueType(n))
	}
	m.bodies[int(f)-m.imports] = append(append(b, slices.Concat(body...)...), 0x0b)
}

// Func adds a function with its body.
func (m *Module) Func(signature, locals string, body ...Code) uint32 {
	f := m.Declare(signature)
	m.Define(f, locals, body...)
	return f
}

// Main adds the function that the guest ABI calls and exports it as _start.
func (m *Module) Main(locals string, body ...Code) uint32 {
	f := m.Func("", locals, body...)
	m.Export("_start", KindFunc, f)
	return f
}

// Limits is how many pages or elements there are at first and, if given, at most.
func limits(min uint32, max []uint32) []byte {
	if len(max) == 0 {
		return append([]byte{0}, U32(min)...)
	}
	return slices.Concat([]byte{1}, U32(min), U32(max[0]))
}

// Memory adds the memory and exports it as "memory". Sizes are in pages of 64 KiB.
func (m *Module) Memory(min uint32, max ...uint32) {
	m.add(SecMemory, limits(min, max))
	m.Export("memory", KindMemory, 0)
}

// Table adds a table of "funcref" or "externref".
func (m *Module) Table(typ string, min uint32, max ...uint32) uint32 {
	return m.add(SecTable, []byte{ValueType(typ)}, limits(min, max))
}

// Global adds a global with its initial value.
func (m *Module) Global(typ string, mutable bool, init ...Code) uint32 {
	flag := byte(0)
	if mutable {
		flag = 1
	}
	return m.add(SecGlobal, []byte{ValueType(typ), flag}, slices.Concat(init...), []byte{0x0b})
}

// Export adds an export.
func (m *Module) Export(name string, kind byte, index uint32) {
	m.add(SecExport, Name(name), []byte{kind}, U32(index))
}

// Tag adds an exception tag.
func (m *Module) Tag(signature string) uint32 {
	return m.add(SecTag, []byte{0}, U32(m.Type(signature)))
}

// Start names the start section's function.
func (m *Module) Start(f uint32) { m.Section(SecStart, U32(f)) }

// Elem adds an element segment of form 0: functions put into table 0 from index at.
func (m *Module) Elem(at int32, functions ...uint32) uint32 {
	return m.RawElem([]byte{0}, I32(at), []byte{0x0b}, Vec(functions...))
}

// RawElem adds an element segment as its parts in the binary format, flags first.
func (m *Module) RawElem(parts ...[]byte) uint32 { return m.add(SecElement, parts...) }

// Data adds an active data segment.
func (m *Module) Data(at int32, data string) uint32 {
	return m.add(SecData, []byte{0}, I32(at), []byte{0x0b}, Name(data))
}

// PassiveData adds a passive data segment.
func (m *Module) PassiveData(data string) uint32 { return m.add(SecData, []byte{1}, Name(data)) }

// RawData adds a data segment as its parts in the binary format, flags first.
func (m *Module) RawData(parts ...[]byte) uint32 { return m.add(SecData, parts...) }

// Name gives function f a name in the name section. Functions must come in order.
func (m *Module) Name(f uint32, name string) {
	m.names = slices.Concat(m.names, U32(f), Name(name))
	m.named++
}

// Section sets the contents of a section, whatever else was added to it.
func (m *Module) Section(id int, body []byte) { m.whole[id] = body }

// Custom adds a custom section at the end.
func (m *Module) Custom(name string, body []byte) {
	m.after = append(m.after, Section(0, append(Name(name), body...))...)
}

// Bytes returns the module.
func (m *Module) Bytes() []byte {
	code := &m.sections[SecCode]
	code.n, code.body = len(m.bodies), nil
	for _, b := range m.bodies {
		code.body = append(append(code.body, U32(uint32(len(b)))...), b...)
	}
	if m.Count {
		m.whole[SecDataCount] = U32(uint32(m.sections[SecData].n))
	}
	out := []byte(Header)
	for _, id := range []int{SecType, SecImport, SecFunction, SecTable, SecMemory, SecTag, SecGlobal, SecExport, SecStart, SecElement, SecDataCount, SecCode, SecData} {
		if body, ok := m.whole[id]; ok {
			out = append(out, Section(id, body)...)
		} else if s := m.sections[id]; s.n > 0 {
			out = append(out, Section(id, append(U32(uint32(s.n)), s.body...))...)
		}
	}
	if m.named > 0 {
		functions := append(U32(uint32(m.named)), m.names...)
		out = append(out, Section(0, append(Name("name"), Section(1, functions)...))...)
	}
	return append(out, m.after...)
}

// Section returns a section: id, length, contents.
func Section(id int, body []byte) []byte {
	return slices.Concat([]byte{byte(id)}, U32(uint32(len(body))), body)
}
