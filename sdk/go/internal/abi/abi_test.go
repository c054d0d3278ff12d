package abi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportsAgreeWithTable compares every wasmimport with abi/hostcalls.txt: module, name,
// and the wasm types of all parameters.
func TestImportsAgreeWithTable(t *testing.T) {
	table := readTable(t, "../../../../abi/hostcalls.txt")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Doc == nil {
				continue
			}
			for _, c := range fn.Doc.List {
				call, ok := strings.CutPrefix(c.Text, "//go:wasmimport ")
				if !ok {
					continue
				}
				seen++
				call = strings.Replace(call, " ", ".", 1)
				want, ok := table[call]
				if got := wasmTypes(t, fn.Type.Params); !ok || got != want {
					t.Errorf("%s: %s imports %s(%s); the table has (%s)", file, fn.Name.Name, call, got, want)
				}
				if module := "fastly_" + strings.TrimSuffix(file, ".go"); len(fn.Doc.List) < 2 {
					t.Errorf("%s: %s has no line that says what it does", module, fn.Name.Name)
				}
			}
		}
	}
	if seen < 60 {
		t.Errorf("found only %d imports", seen)
	}
}

// wasmTypes writes one letter a parameter: i for i32, l for i64.
func wasmTypes(t *testing.T, params *ast.FieldList) (types string) {
	for _, p := range params.List {
		one := "i"
		switch typ := p.Type.(type) {
		case *ast.Ident:
			switch typ.Name {
			case "string":
				one = "ii"
			case "uint64", "int64":
				one = "l"
			case "uint32", "Handle":
			default:
				t.Errorf("parameter type %s is not known to this test", typ.Name)
			}
		case *ast.StarExpr:
		default:
			t.Errorf("parameter type %T is not known to this test", typ)
		}
		types += strings.Repeat(one, max(len(p.Names), 1))
	}
	return types
}

func readTable(t *testing.T, file string) map[string]string {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Skip("not in the repository: ", err)
	}
	table := map[string]string{}
	module := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if m, ok := strings.CutPrefix(line, "module "); ok {
			module = m
			continue
		}
		name, rest, _ := strings.Cut(line, "(")
		list, _, _ := strings.Cut(rest, ")")
		types := ""
		for p := range strings.SplitSeq(list, ",") {
			switch _, shape, _ := strings.Cut(strings.TrimSpace(p), ":"); {
			case strings.TrimSpace(p) == "":
			case shape == "str" || shape == "buf" || shape == "list":
				types += "ii"
			case shape == "i64":
				types += "l"
			default:
				types += "i"
			}
		}
		table[module+"."+name] = types
	}
	return table
}
