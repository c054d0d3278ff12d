package main

import (
	"context"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// hostcalls: a guest that asks for a header a hundred times, and does nothing else.
func hostcalls(ctx context.Context, l *lab) (rows []Row, err error) {
	e := newEngine(compute.Config{})
	defer e.Close()
	var own [2]samples // with no and with a hundred calls
	for n, calls := range []byte{0, 100} {
		v := &wedge.Version{Service: "hostcalls", Number: 1, Guest: callsModule(calls)}
		d, err := deploy(ctx, e, v, "")
		if err != nil {
			return nil, err
		}
		defer d.close()
		o, err := newObvious(ctx, v, "")
		if err != nil {
			return nil, err
		}
		defer o.close()
		got, err := l.inTurns(ctx, 2*time.Second, 1, o.subject, d.subject)
		if err != nil {
			return nil, err
		}
		own[n] = answers(got[1])
		r := compare([]string{"hostcalls-0", "hostcalls-100"}[n], time.Microsecond, own[n], answers(got[0]), instantiate)
		r.Note = "a guest of one page that asks for a header so often"
		rows = append(rows, r)
	}
	one := float64(own[1].percentile(.5)-own[0].percentile(.5)) / 100
	return append(rows, Row{Name: "hostcalls/each", P50: one, Unit: "ns", Against: "-", Note: "what one of the hundred took"}), nil
}

// callsModule writes a guest that takes its request, asks so many times (0 to 127, or 100) for a
// header and answers with an empty 200.
func callsModule(calls byte) []byte {
	imports := []string{"fastly_http_req.body_downstream_get", "fastly_http_req.header_value_get",
		"fastly_http_resp.new", "fastly_http_body.new", "fastly_http_resp.send_downstream"}
	types, table := []byte{byte(len(imports) + 1)}, []byte{byte(len(imports))}
	for n, name := range imports {
		def := find(name)
		params, results := def.Types()
		types = append(append(append(types, 0x60), vector(params)...), vector(results)...)
		table = append(append(append(table, text(def.Module)...), text(def.Name)...), 0, byte(n))
	}
	types = append(types, 0x60, 0, 0)
	main := byte(len(imports))
	code := callsCode(calls)
	m := []byte("\x00asm\x01\x00\x00\x00")
	m = section(m, 1, types)
	m = section(m, 2, table)
	m = section(m, 3, []byte{1, main})                                                                       // one function
	m = section(m, 5, []byte{1, 0, 1})                                                                       // one page of memory
	m = section(m, 7, append(append(append([]byte{2}, text("memory")...), 2, 0), export("_start", main)...)) // exports
	m = section(m, 10, append([]byte{1}, vector(code)...))
	return section(m, 11, append([]byte{1, 0, i32const, 32, 0x0b}, text("accept")...)) // data: the header's name at 32
}

// Opcodes, and where in memory what lies.
const (
	i32const, i32load, call, drop = 0x41, 0x28, 0x10, 0x1a

	atRequest, atBody, atWritten, atResponse, atAnswer, atName, atValue = 0, 4, 8, 12, 16, 32, 48
)

func callsCode(calls byte) []byte {
	load := func(at byte) []byte { return []byte{i32const, at, i32load, 2, 0} }
	code := []byte{1, 1, 0x7f, // one local, the count
		i32const, atRequest, i32const, atBody, call, 0, drop}
	if calls > 0 {
		code = append(code, 0x03, 0x40) // loop
		code = append(code, load(atRequest)...)
		code = append(code, i32const, atName, i32const, 6, i32const, atValue, i32const, 15, i32const, atWritten, call, 1, drop,
			0x20, 0, i32const, 1, 0x6a, 0x22, 0, // count++
			i32const, calls|0x80, 0, 0x49, // count < calls, in two bytes of LEB128
			0x0d, 0, 0x0b) // again
	}
	code = append(code, i32const, atResponse, call, 2, drop, i32const, atAnswer, call, 3, drop)
	code = append(append(code, load(atResponse)...), load(atAnswer)...)
	return append(code, i32const, 0, call, 4, drop, 0x0b)
}

func find(name string) *abi.Def {
	for _, d := range abi.Hostcalls {
		if d.String() == name {
			return d
		}
	}
	panic("no hostcall " + name)
}

func export(name string, f byte) []byte { return append(text(name), 0, f) }

// text and vector write a length of at most 127 and then the bytes.
func text(s string) []byte { return vector([]byte(s)) }

func vector(b []byte) []byte { return append([]byte{byte(len(b))}, b...) }

// section adds a section with a two-byte length.
func section(m []byte, id byte, b []byte) []byte {
	return append(append(m, id, byte(len(b)&0x7f|0x80), byte(len(b)>>7)), b...)
}
