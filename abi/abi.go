// Package abi is the contract between guest and host: the names and shapes of all
// hostcalls (hostcalls.txt), the statuses they return and the numbers they exchange.
// It has no behaviour; package hostcall implements it.
package abi

import (
	_ "embed"
	"fmt"
	"strings"
)

// Version is the only ABI version a guest may ask for in fastly_abi.init.
const Version = 1

// InvalidHandle is the handle number that names nothing.
const InvalidHandle = 0xFFFFFFFE

// A Shape says what a parameter of a hostcall is.
type Shape uint8

// Shapes; see the head of hostcalls.txt.
const (
	Value   Shape = iota // i32
	Value64              // i64
	Str                  // i32 pointer, i32 length: bytes the guest gives
	List                 // i32 pointer, i32 count: u32 values the guest gives
	Buf                  // i32 pointer, i32 length: buffer the host fills
	Out16                // i32 pointer to 16 bytes
	Out                  // i32 pointer to a value of Width bytes
	Struct               // i32 pointer to a struct
)

// Param is one parameter of a hostcall.
type Param struct {
	Name  string
	Shape Shape
	Width int    // bytes, of an Out
	Type  string // of a Struct
}

// Words returns how many Wasm parameters p stands for: 2 for pointer and length, else 1.
func (p Param) Words() int {
	switch p.Shape {
	case Str, List, Buf:
		return 2
	}
	return 1
}

// Def defines one hostcall. Defs are immutable and shared.
type Def struct {
	Module, Name string
	Params       []Param
	NoResult     bool // returns nothing (only proc_exit)
	Index        int  // position in Hostcalls
}

// String returns "module.name".
func (d *Def) String() string { return d.Module + "." + d.Name }

// Wasm value types as the binary format writes them.
const (
	I32 = 0x7f
	I64 = 0x7e
)

// Types returns the Wasm types of parameters and results.
func (d *Def) Types() (params, results []byte) {
	for _, p := range d.Params {
		switch {
		case p.Shape == Value64:
			params = append(params, I64)
		case p.Words() == 2:
			params = append(params, I32, I32)
		default:
			params = append(params, I32)
		}
	}
	if !d.NoResult {
		results = []byte{I32}
	}
	return params, results
}

// Hostcalls lists every hostcall in the order of hostcalls.txt.
var Hostcalls = mustParse(text)

var byName = func() map[string]*Def {
	m := make(map[string]*Def, len(Hostcalls))
	for _, d := range Hostcalls {
		if m[d.String()] != nil {
			panic("abi: " + d.String() + " is defined twice")
		}
		m[d.String()] = d
	}
	return m
}()

// Lookup returns the hostcall that the import module.name means, resolving the legacy
// "env" names; nil if the ABI has none of that name.
func Lookup(module, name string) *Def {
	if module == "env" {
		module, name = legacy(name)
	}
	return byName[module+"."+name]
}

// ByName returns the hostcall called "module.name", or nil.
func ByName(name string) *Def { return byName[name] }

// legacy maps the xqd_* names of old SDKs, e.g. xqd_req_new to fastly_http_req.new.
func legacy(name string) (module, call string) {
	switch name {
	case "xqd_init":
		return "fastly_abi", "init"
	case "xqd_body_close_downstream":
		return "fastly_http_body", "close"
	}
	for _, m := range [...]struct{ prefix, module, keep string }{
		{"xqd_body_", "fastly_http_body", ""},
		{"xqd_log_", "fastly_log", ""},
		{"xqd_req_", "fastly_http_req", ""},
		{"xqd_pending_req_", "fastly_http_req", "pending_req_"},
		{"xqd_resp_", "fastly_http_resp", ""},
	} {
		if rest, ok := strings.CutPrefix(name, m.prefix); ok {
			return m.module, m.keep + rest
		}
	}
	return "env", name
}

//go:embed hostcalls.txt
var text string

func mustParse(text string) []*Def {
	defs, err := parse(text)
	if err != nil {
		panic(err)
	}
	return defs
}

func parse(text string) (defs []*Def, err error) {
	module := ""
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if m, ok := strings.CutPrefix(line, "module "); ok {
			module = m
			continue
		}
		name, rest, ok := strings.Cut(line, "(")
		list, after, ok2 := strings.Cut(rest, ")")
		if !ok || !ok2 || module == "" {
			return nil, fmt.Errorf("abi: hostcalls.txt line %d: %q is not a call", n+1, line)
		}
		d := &Def{Module: module, Name: name, NoResult: strings.TrimSpace(after) == "-> none", Index: len(defs)}
		for _, p := range strings.Split(list, ",") {
			if p = strings.TrimSpace(p); p == "" {
				continue
			}
			d.Params = append(d.Params, parseParam(p))
		}
		defs = append(defs, d)
	}
	return defs, nil
}

func parseParam(s string) Param {
	name, typ, _ := strings.Cut(s, ":")
	if out, ok := strings.CutPrefix(name, "*"); ok {
		return Param{Name: out, Shape: Out, Width: map[string]int{"u16": 2, "u32": 4, "u64": 8, "s64": 8}[typ]}
	}
	switch typ {
	case "":
		return Param{Name: name}
	case "i64":
		return Param{Name: name, Shape: Value64}
	case "str":
		return Param{Name: name, Shape: Str}
	case "list":
		return Param{Name: name, Shape: List}
	case "buf":
		return Param{Name: name, Shape: Buf}
	case "out16":
		return Param{Name: name, Shape: Out16}
	}
	return Param{Name: name, Shape: Struct, Type: typ}
}
