package wasm_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	. "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

// programs are modules that use every section form. Each must do the same split as whole.
var programs = map[string]func() *Module{
	"data": func() *Module {
		m, put := guest()
		m.Data(8, "abcd")
		m.RawData([]byte{2, 0}, I32(10), End, Name("XY")) // form 2; overwrites a part of the first
		m.Main("", I32(8), Load(0), Call(put))
		return m
	},
	"memory.init and data.drop": func() *Module {
		m, put := guest()
		m.Count = true
		m.Data(0, "active")
		p := m.PassiveData("passive!")
		m.Main("",
			I32(100), I32(0), I32(8), Bulk(8, p, 0), // memory.init
			I32(100), Load(4), Call(put), I32(0), Load(0), Call(put),
			Bulk(9, p),                            // data.drop
			I32(0), I32(0), I32(0), Bulk(8, 0, 0), // an active segment counts as dropped: zero bytes are fine
			I32(200), I32(0), I32(1), Bulk(8, p, 0), // traps
		)
		return m
	},
	"start section": func() *Module {
		m, put := guest()
		m.Global("i32", true, I32(5))
		m.Start(m.Func("", "", GlobalGet(0), Call(put), I32(6), GlobalSet(0)))
		m.Main("", GlobalGet(0), Call(put))
		return m
	},
	"start section is an import": func() *Module {
		m := New()
		m.Import("host", "put", "i32")
		m.Memory(1)
		yield := m.Func("", "", Nop)
		m.Start(yield)
		m.Main("")
		return m
	},
	"globals": func() *Module {
		m := New()
		put, put64 := m.Import("host", "put", "i32"), m.Import("host", "put64", "i64")
		m.Memory(1)
		m.Global("i32", true, I32(-5))
		m.Global("i64", true, I64(math.MinInt64))
		m.Global("f32", true, Op(0x43, 1, 2, 3, 4))
		m.Global("f64", true, Op(0x44, 1, 2, 3, 4, 5, 6, 7, 8))
		m.Global("i32", false, I32(9))
		m.Main("",
			GlobalGet(0), Call(put), GlobalGet(1), Call(put64), GlobalGet(2), Op(0xbc), Call(put), GlobalGet(3), Op(0xbd), Call(put64),
			GlobalGet(4), Call(put), I32(1), GlobalSet(0), GlobalGet(0), Call(put))
		return m
	},
	"extended constants": func() *Module {
		m, put := guest()
		m.Global("i32", false, I32(40), I32(1), Add, I32(2), Mul)
		m.Global("i64", true, I64(1), I64(2), Op(0x7d)) // i64.sub: stays in the code
		m.Main("", GlobalGet(0), Call(put), GlobalGet(1), Wrap, Call(put))
		return m
	},
	"v128 and reference globals": func() *Module {
		m, put := guest()
		f := m.Func("-> i32", "", I32(3))
		m.RawElem([]byte{3, 0}, Vec(f))
		m.Table("funcref", 1)
		m.Global("v128", true, Op(0xfd, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16))
		m.Global("funcref", true, RefFunc(f))
		m.Global("externref", true, RefNull("externref"))
		m.Main("", I32(0), GlobalGet(1), TableSet(0), I32(0), CallIndirect(m.Type("-> i32")), Call(put),
			GlobalGet(0), Op(0xfd, 27, 2), Call(put))
		return m
	},
	"many imports": func() *Module {
		m := New()
		put, put64 := m.Import("host", "put", "i32"), m.Import("host", "put64", "i64")
		m.Import("host", "put", "i32") // asked for twice
		m.Memory(1)
		m.Main("", I32(1), Call(put), I64(2), Call(put64), I32(3), Call(2))
		return m
	},
	"exported import": func() *Module {
		m, put := guest()
		m.Export("again", KindFunc, put)
		m.Main("", I32(1), Call(put))
		return m
	},
	"tail calls": func() *Module {
		m, put := guest()
		m.Table("funcref", 4)
		f := m.Declare("i32 i32 -> i32")
		m.Define(f, "", Get(0), Eqz, If(Get(1), Return), Get(0), I32(1), Sub, Get(1), Get(0), Add, ReturnCall(f))
		g := m.Func("i32 i32 -> i32", "", Get(0), Get(1), I32(2), ReturnCallIndirect(m.Type("i32 i32 -> i32")))
		m.Elem(2, f, g)
		m.Main("", I32(100000), I32(0), Call(f), Call(put), I32(10), I32(5), Call(g), Call(put))
		return m
	},
	"element forms": elementForms,
	"no memory at first": func() *Module {
		m := New()
		put := m.Import("host", "put", "i32")
		m.Memory(0, 4)
		m.Main("", I32(7), Call(put))
		return m
	},
	"memory grows": func() *Module {
		m, put := guest()
		m.Section(SecMemory, []byte{1, 1, 2, 4}) // 2 pages, at most 4
		m.Main("", MemorySize, Call(put), I32(2), MemoryGrow, Call(put), I32(0x3fffc), I32(42), Store(0), MemorySize, Call(put))
		return m
	},
	"traps": func() *Module {
		m, put := guest()
		m.Main("", I32(1), Call(put), Unreachable)
		return m
	},
	"loops and branches": func() *Module {
		m, put := guest()
		m.Main("i32 i32",
			For(0, 10, Block(Get(0), I32(3), LtU, BrIf(0), Loop(Get(1), I32(1), Add, Tee(1), I32(7), Op(0x70), BrIf(0)), Get(1), Call(put))),
			Block(Block(Block(I32(1), Op(0x0e, 2, 0, 1, 2), End[:0]), I32(10), Call(put)), I32(20), Call(put)))
		return m
	},
	"long straight code": func() *Module {
		m, put := guest()
		leaf := m.Func("i32 -> i32", "", Get(0), Times(300, I32(3), Add))
		m.Main("i32", I32(1), Times(3000, Call(leaf)), Call(put), Times(3000, I32(4), Set(0)), Block(Loop(Br(1))), Get(0), Call(put))
		return m
	},
	"bulk memory": func() *Module {
		m, put := guest()
		m.Main("", I32(0), I32(7), I32(1000), MemoryFill, I32(1000), I32(0), I32(1000), MemoryCopy, I32(1996), Load(0), Call(put))
		return m
	},
	"names and other custom sections": func() *Module {
		m, put := guest()
		f := m.Main("", I32(1), Call(put))
		m.Name(put, "put")
		m.Name(f, "my main")
		m.Custom("producers", []byte("anything"))
		return m
	},
}

// elementForms calls functions put into tables by each of the eight forms of element segment.
func elementForms() *Module {
	m, put := guest()
	m.Table("funcref", 8)
	m.Table("funcref", 8)
	var f [8]uint32
	for i := range f {
		f[i] = m.Func("", "", I32(int32(100+i)), Call(put))
	}
	m.RawElem([]byte{0}, I32(0), End, Vec(f[0]))
	passive := m.RawElem([]byte{1, 0}, Vec(f[1]))
	m.RawElem([]byte{2, 1}, I32(2), End, []byte{0}, Vec(f[2]))
	m.RawElem([]byte{3, 0}, Vec(f[3]))
	m.RawElem([]byte{4}, I32(4), End, []byte{2}, RefFunc(f[4]), End, RefNull("funcref"), End)
	passiveExpr := m.RawElem([]byte{5, 0x70, 1}, RefFunc(f[5]), End)
	m.RawElem([]byte{6, 1}, I32(6), End, []byte{0x70, 1}, RefFunc(f[6]), End)
	m.RawElem([]byte{7, 0x70, 1}, RefFunc(f[7]), End)
	void := m.Type("")
	call := func(table byte, i int32) Code { return Seq(I32(i), Op(0x11, byte(void), table)) }
	m.Main("",
		call(0, 0), call(1, 2), call(0, 4), call(1, 6),
		I32(1), I32(0), I32(1), Bulk(12, passive, 0), call(0, 1),
		I32(5), I32(0), I32(1), Bulk(12, passiveExpr, 0), call(0, 5),
		I32(3), RefFunc(f[3]), TableSet(0), call(0, 3),
		I32(7), RefFunc(f[7]), TableSet(0), call(0, 7),
		Bulk(13, passive),
	)
	return m
}

func TestSplitBehavesAsOriginal(t *testing.T) {
	for name, build := range programs {
		t.Run(name, func(t *testing.T) { sameAsOriginal(t, build().Bytes()) })
	}
}

// TestActiveSegmentIsDropped: an active segment is empty after instantiation, says the standard.
func TestActiveSegmentIsDropped(t *testing.T) {
	m, _ := guest()
	m.Count = true
	m.Data(0, "active")
	m.Main("", I32(0), I32(0), I32(1), Bulk(8, 0, 0))
	p := mustSplit(t, m.Bytes(), wasm.Options{})
	w := newWorld(t)
	if err := w.run(p, w.split(p)); err == nil {
		t.Error("bytes of an active segment can be read again")
	}
}

func TestUnpooled(t *testing.T) {
	want := map[string]string{
		"memory.init and data.drop":  "data.drop",
		"v128 and reference globals": "global",
		"extended constants":         "global 1",
		"element forms":              "its code uses",
	}
	for name, build := range programs {
		p := mustSplit(t, build().Bytes(), wasm.Options{})
		if w := want[name]; w == "" && p.Unpooled != "" || !strings.Contains(p.Unpooled, w) {
			t.Errorf("%s: Unpooled is %q, want %q", name, p.Unpooled, w)
		}
	}
}

func TestLastingInstructions(t *testing.T) {
	for name, code := range map[string]Code{
		"table.set":  Seq(I32(0), RefNull("funcref"), TableSet(0)),
		"table.init": Seq(I32(0), I32(0), I32(0), Bulk(12, 0, 0)),
		"elem.drop":  Bulk(13, 0),
		"table.copy": Seq(I32(0), I32(0), I32(0), Bulk(14, 0, 0)),
		"table.grow": Seq(RefNull("funcref"), I32(0), Bulk(15, 0), Drop),
		"table.fill": Seq(I32(0), RefNull("funcref"), I32(0), Bulk(17, 0)),
		"data.drop":  Bulk(9, 0),
		"ref.func":   Seq(RefFunc(1), Drop), // each execution costs the engine memory
		"":           Seq(I32(0), TableGet(0), Drop, Bulk(16, 0), Drop),
	} {
		m, _ := guest()
		m.Count = true
		m.Table("funcref", 1)
		m.RawElem([]byte{1, 0}, Vec(1))
		m.PassiveData("x")
		m.Main("", code)
		p := mustSplit(t, m.Bytes(), wasm.Options{})
		if !strings.HasSuffix(p.Unpooled, name) || name == "" && p.Unpooled != "" {
			t.Errorf("%s: Unpooled is %q", name, p.Unpooled)
		}
		sameAsOriginal(t, m.Bytes())
	}
}

func TestImage(t *testing.T) {
	m, _ := guest()
	m.Section(SecMemory, []byte{1, 1, 3, 9})
	m.Data(65536, "end\x00\x00")
	m.Data(2, "begin")
	m.Data(65536, "E")
	m.Global("i32", true, I32(-1))
	m.Global("i32", false, I32(2))
	m.Global("i64", true, I64(-3))
	m.Main("")
	p := mustSplit(t, m.Bytes(), wasm.Options{})
	img := p.Image
	if img.MinPages != 3 || img.MaxPages != 9 {
		t.Errorf("pages %d to %d", img.MinPages, img.MaxPages)
	}
	if len(img.Data) != 65536+3 || string(img.Data[:8]) != "\x00\x00begin\x00" || string(img.Data[65536:]) != "End" {
		t.Errorf("image of %d bytes, begins with %q", len(img.Data), img.Data[:8])
	}
	want := []wasm.Global{{Index: 0, Name: wasm.GlobalExport(0), Value: math.MaxUint32}, {Index: 2, Name: wasm.GlobalExport(2), Value: math.MaxUint64 - 2}}
	if !reflect.DeepEqual(img.Globals, want) {
		t.Errorf("globals %v", img.Globals)
	}
}

// TestSameCode: programs that differ only in what the image holds share their code.
func TestSameCode(t *testing.T) {
	build := func(data string, pages byte, global int32, names ...string) []byte {
		m, put := guest()
		m.Section(SecMemory, []byte{1, 0, pages})
		m.Global("i32", true, I32(global))
		m.Data(0, data)
		m.Main("", GlobalGet(0), Call(put))
		for i, n := range names {
			m.Name(uint32(i), n)
		}
		return m.Bytes()
	}
	a := mustSplit(t, build("one", 1, 1), wasm.Options{})
	b := mustSplit(t, build("another one", 7, -70000), wasm.Options{})
	if a.Digest != b.Digest || !bytes.Equal(a.Code, b.Code) {
		t.Error("the code differs")
	}
	if reflect.DeepEqual(a.Image, b.Image) {
		t.Error("the images do not differ")
	}
	again := mustSplit(t, build("one", 1, 1), wasm.Options{})
	if !reflect.DeepEqual(a, again) {
		t.Error("splitting the same module twice gives two results")
	}
}

func TestSourceIsNotKept(t *testing.T) {
	src := programs["names and other custom sections"]().Bytes()
	before := bytes.Clone(src)
	p := mustSplit(t, src, wasm.Options{})
	if !bytes.Equal(src, before) {
		t.Error("Split changed its input")
	}
	code := bytes.Clone(p.Code)
	clear(src)
	if !bytes.Equal(p.Code, code) || p.Imports[0].Name != "put" {
		t.Error("the result refers to the input")
	}
}

func TestNamesMoveWithFunctions(t *testing.T) {
	m, put := guest()
	f := m.Declare("")
	m.Define(f, "", Unreachable)
	m.Main("", Call(f))
	m.Name(put, "putter")
	m.Name(f, "trapper")
	p := mustSplit(t, m.Bytes(), wasm.Options{})
	w := newWorld(t)
	err := w.run(p, w.split(p))
	if err == nil || !strings.Contains(err.Error(), "trapper") {
		t.Errorf("the trap does not name its function: %v", err)
	}

	m.Section(SecStart, nil)
	damaged := guestWith(func(m *Module) { m.Custom("name", []byte{1, 3, 9, 0, 0}) })
	if p, err := wasm.Split(damaged, wasm.Options{}); err != nil || bytes.Contains(p.Code, []byte("name")) {
		t.Errorf("damaged names: %v", err)
	}
}

// guestWith returns the smallest guest after change.
func guestWith(change func(*Module)) []byte {
	m, _ := guest()
	m.Main("")
	change(m)
	return m.Bytes()
}

// TestTableMaximum: a guest can not grow its tables without bound, whatever it declares.
func TestTableMaximum(t *testing.T) {
	for _, c := range []struct {
		tables [][]uint32
		want   []int32 // what growing each by what it asks for answers: its size before, or -1
		ask    int32
	}{
		{[][]uint32{{10}}, []int32{10}, 1000},
		{[][]uint32{{10}}, []int32{-1}, wasm.MaxTableElements},
		{[][]uint32{{10, math.MaxUint32}}, []int32{-1}, wasm.MaxTableElements},
		{[][]uint32{{10, 20}}, []int32{10}, 10},
		{[][]uint32{{10, 20}}, []int32{-1}, 11},
		{[][]uint32{{10}, {5}}, []int32{10, -1}, wasm.MaxTableElements - 15},
		{[][]uint32{{1}, {5}, {7, 9}}, []int32{1, -1, -1}, 1<<17 - 13},
		{[][]uint32{{wasm.MaxTableElements}, {0}}, []int32{-1, -1}, 1},
	} {
		m, put := guest()
		var body []Code
		for i, limits := range c.tables {
			m.Table("funcref", limits[0], limits[1:]...)
			body = append(body, RefNull("funcref"), I32(c.ask), Bulk(15, uint32(i)), Call(put))
		}
		m.Main("", body...)
		p := mustSplit(t, m.Bytes(), wasm.Options{})
		w := newWorld(t)
		if err := w.run(p, w.split(p)); err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			if got := int32(uint32(w.notes[i])); got != want {
				t.Errorf("tables %v: growing table %d by %d answers %d, want %d", c.tables, i, c.ask, got, want)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	shim := Seq // shortens the table
	for name, c := range map[string]struct {
		src  []byte
		kind wedge.Kind
		text string
	}{
		"empty":             {nil, wedge.Invalid, "magic"},
		"not wasm":          {[]byte("#!/bin/sh\nexec"), wedge.Invalid, "magic"},
		"component":         {[]byte("\x00asm\x0d\x00\x01\x00"), wedge.Unsupported, "component"},
		"version 2":         {[]byte("\x00asm\x02\x00\x00\x00"), wedge.Unsupported, "version"},
		"nothing in it":     {[]byte(Header), wedge.Invalid, "memory"},
		"unknown section":   {guestWith(func(m *Module) { m.Custom("x", nil) })[:8:8], wedge.Invalid, ""},
		"section 14":        {append([]byte(Header), Section(14, nil)...), wedge.Invalid, "14"},
		"twice":             {append(append([]byte(Header), Section(1, []byte{0})...), Section(1, []byte{0})...), wedge.Invalid, "order or twice"},
		"wrong order":       {append(append([]byte(Header), Section(3, []byte{0})...), Section(1, []byte{0})...), wedge.Invalid, "order or twice"},
		"section cut off":   {append([]byte(Header), 1, 100, 0), wedge.Invalid, "cut off"},
		"no memory":         {guestWith(func(m *Module) { m.Section(SecMemory, []byte{0}) }), wedge.Invalid, "one memory"},
		"two memories":      {guestWith(func(m *Module) { m.Section(SecMemory, []byte{2, 0, 1, 0, 1}) }), wedge.Invalid, "one memory"},
		"shared memory":     {guestWith(func(m *Module) { m.Section(SecMemory, []byte{1, 3, 1, 2}) }), wedge.Invalid, "shared"},
		"64-bit memory":     {guestWith(func(m *Module) { m.Section(SecMemory, []byte{1, 4, 1}) }), wedge.Invalid, "64-bit"},
		"4 GiB":             {guestWith(func(m *Module) { m.Section(SecMemory, append([]byte{1, 0}, U32(65536)...)) }), wedge.Invalid, "65536 pages"},
		"more than 4 GiB":   {guestWith(func(m *Module) { m.Section(SecMemory, append([]byte{1, 0}, U32(1<<32-1)...)) }), wedge.Invalid, "pages"},
		"min above max":     {guestWith(func(m *Module) { m.Section(SecMemory, []byte{1, 1, 5, 2}) }), wedge.Invalid, "pages"},
		"memory import":     {guestWith(func(m *Module) { m.Section(SecImport, shim([]byte{1}, Name("env"), Name("memory"), []byte{2, 0, 1})) }), wedge.Invalid, "env.memory"},
		"global import":     {guestWith(func(m *Module) { m.Section(SecImport, shim([]byte{1}, Name("env"), Name("g"), []byte{3, 0x7f, 0})) }), wedge.Invalid, "env.g"},
		"import of a type":  {guestWith(func(m *Module) { m.Section(SecImport, shim([]byte{1}, Name("env"), Name("f"), []byte{0, 99})) }), wedge.Invalid, "type"},
		"import of funcref": {guestWith(func(m *Module) { m.Section(SecType, shim([]byte{1, 0x60, 1, 0x70, 0})) }), wedge.Invalid, "plain numbers"},
		"no memory export":  {guestWith(func(m *Module) { m.Section(SecExport, shim([]byte{1}, Name("_start"), []byte{0, 1})) }), wedge.Invalid, "must export"},
		"no _start":         {guestWith(func(m *Module) { m.Section(SecExport, shim([]byte{1}, Name("memory"), []byte{2, 0})) }), wedge.Invalid, "must export"},
		"_start is memory": {guestWith(func(m *Module) {
			m.Section(SecExport, shim([]byte{2}, Name("memory"), []byte{2, 0}, Name("_start"), []byte{2, 0}))
		}), wedge.Invalid, "must export"},
		"reserved prefix":         {guestWith(func(m *Module) { m.Export("__wedge_stop", KindFunc, 0) }), wedge.Invalid, "reserved"},
		"export of no function":   {guestWith(func(m *Module) { m.Export("f", KindFunc, 2) }), wedge.Invalid, "function 2 does not exist"},
		"export of no global":     {guestWith(func(m *Module) { m.Export("g", KindGlobal, 0) }), wedge.Invalid, "global 0 does not exist"},
		"start of no function":    {guestWith(func(m *Module) { m.Start(2) }), wedge.Invalid, "function 2 does not exist"},
		"call of no function":     {guestWith(func(m *Module) { m.Func("", "", Call(3)) }), wedge.Invalid, "function 3 does not exist"},
		"elements of no function": {guestWith(func(m *Module) { m.Table("funcref", 1); m.Elem(0, 2) }), wedge.Invalid, "function 2 does not exist"},
		// The rewrite adds globals after the guest's own: the fuel, and a place for a size.
		"reads the fuel":      {guestWith(func(m *Module) { m.Func("", "", GlobalGet(0), Drop) }), wedge.Invalid, "global 0 does not exist"},
		"refills itself":      {guestWith(func(m *Module) { m.Func("", "", I32(0), GlobalSet(0)) }), wedge.Invalid, "global 0 does not exist"},
		"tables too large":    {guestWith(func(m *Module) { m.Table("funcref", 1<<17); m.Table("funcref", 1) }), wedge.Invalid, "131072"},
		"table min above max": {guestWith(func(m *Module) { m.Table("funcref", 2, 1) }), wedge.Invalid, "maximum"},
		"typed table":         {guestWith(func(m *Module) { m.Section(SecTable, []byte{1, 0x63, 0x70, 0, 1}) }), wedge.Invalid, "not supported"},
		"data does not fit":   {guestWith(func(m *Module) { m.Data(65533, "abcd") }), wedge.Invalid, "does not fit"},
		"data at -1":          {guestWith(func(m *Module) { m.Data(-1, "a") }), wedge.Invalid, "does not fit"},
		"data by a global":    {guestWith(func(m *Module) { m.Global("i32", false, I32(1)); m.RawData([]byte{0}, GlobalGet(0), End, Name("x")) }), wedge.Invalid, "expression"},
		"data by i64":         {guestWith(func(m *Module) { m.RawData([]byte{0}, I64(1), End, Name("x")) }), wedge.Invalid, "expression"},
		"data for memory 1":   {guestWith(func(m *Module) { m.RawData([]byte{2, 1}, I32(1), End, Name("x")) }), wedge.Invalid, "memory"},
		"data form 3":         {guestWith(func(m *Module) { m.RawData([]byte{3, 1}, Name("x")) }), wedge.Invalid, "form"},
		"element form 8":      {guestWith(func(m *Module) { m.RawElem([]byte{8, 0}, Vec(0)) }), wedge.Invalid, "form"},
		"constant by call":    {guestWith(func(m *Module) { m.Global("i32", true, Call(0)) }), wedge.Invalid, "constant expression"},
		"threads":             {guestWith(func(m *Module) { m.Func("", "", Op(0xfe, 0x03, 0x00)) }), wedge.Unsupported, "threads"},
		"exceptions":          {guestWith(func(m *Module) { m.Tag(""); m.Func("", "", Op(0x08, 0)) }), wedge.Unsupported, "exception"},
		"a tag":               {guestWith(func(m *Module) { m.Tag("") }), wedge.Unsupported, "exception"},
		"unknown opcode":      {guestWith(func(m *Module) { m.Func("", "", Op(0xff)) }), wedge.Invalid, "0xff"},
		"too many locals":     {guestWith(func(m *Module) { m.Section(SecCode, shim([]byte{1, 6, 1}, U32(50_001), []byte{0x7f, 0x0b})) }), wedge.Invalid, "locals"},
		"fewer bodies":        {guestWith(func(m *Module) { m.Section(SecCode, []byte{0}) }), wedge.Invalid, "0 bodies"},
		"GC types":            {guestWith(func(m *Module) { m.Section(SecType, []byte{1, 0x5f, 0, 0}) }), wedge.Invalid, "form"},
		"too many globals": {guestWith(func(m *Module) {
			for range 4097 {
				m.Global("i32", true, I32(0))
			}
		}), wedge.Invalid, "4096"},
		"too many imports": {tooManyImports(), wedge.Invalid, "2048"},
	} {
		p, err := wasm.Split(c.src, wasm.Options{})
		var e *wedge.Error
		if err == nil || wedge.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || wedge.HintOf(err) == "" || p != nil {
			t.Errorf("%s: %v (%v), hint %q; want %q (%v)", name, err, e, wedge.HintOf(err), c.text, c.kind)
		}
	}
}

func tooManyImports() []byte {
	m := New()
	for i := range 2049 {
		m.Import("host", fmt.Sprint(i), "")
	}
	m.Memory(1)
	m.Main("")
	return m.Bytes()
}

// TestHugeCounts: a count that announces more than can follow must not be believed.
func TestHugeCounts(t *testing.T) {
	huge := U32(math.MaxUint32)
	for id := 1; id <= SecTag; id++ {
		if id == SecDataCount { // left out unread when nothing refers to segments
			continue
		}
		src := guestWith(func(m *Module) { m.Section(id, huge) })
		if _, err := wasm.Split(src, wasm.Options{}); err == nil {
			t.Errorf("section %d of 4 Gi elements is accepted", id)
		}
	}
	for name, body := range map[string][]byte{
		"br_table": Op(0x0e, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"select":   Op(0x1c, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"integer":  Op(0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		src := guestWith(func(m *Module) { m.Func("", "", body) })
		if _, err := wasm.Split(src, wasm.Options{}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestTruncated cuts each program off at every byte.
func TestTruncated(t *testing.T) {
	for name, build := range programs {
		src := build().Bytes()
		step := max(1, len(src)/2000)
		for n := 0; n < len(src); n += step {
			p, err := wasm.Split(src[:n:n], wasm.Options{})
			if err == nil && len(p.Code) == 0 {
				t.Errorf("%s cut off at %d of %d: neither a result nor an error", name, n, len(src))
			}
		}
	}
}

func TestMaxMemory(t *testing.T) {
	src := guestWith(func(m *Module) { m.Section(SecMemory, []byte{1, 0, 32}) }) // 2 MiB
	if _, err := wasm.Split(src, wasm.Options{MaxMemory: 2 << 20}); err != nil {
		t.Error(err)
	}
	if _, err := wasm.Split(src, wasm.Options{MaxMemory: 2<<20 - 1}); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("a memory above the limit: %v", err)
	}
}

// TestLibrary: a module without _start is split if it is no guest, and keeps its memory and its functions.
func TestLibrary(t *testing.T) {
	src := guestWith(func(m *Module) {
		m.Section(SecExport, Seq([]byte{2}, Name("memory"), []byte{2, 0}, Name("work"), []byte{0, 1}))
	})
	if _, err := wasm.Split(src, wasm.Options{}); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("as a guest: %v", err)
	}
	p, err := wasm.Split(src, wasm.Options{Library: true})
	if err != nil {
		t.Fatal(err)
	}
	mod := newWorld(t).split(p)
	if mod.ExportedFunction("work") == nil || mod.ExportedGlobal(wasm.FuelGlobal) == nil {
		t.Error("its function or its fuel is not there")
	}
	no := wasm.Options{Library: true}
	if _, err := wasm.Split(guestWith(func(m *Module) { m.Section(SecExport, Seq([]byte{1}, Name("_start"), []byte{0, 1})) }), no); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("without memory: %v", err)
	}
}
