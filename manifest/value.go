package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
)

// value is one value of a document and knows where it stands. Reading it as something it
// is not reports a fault and returns a zero value, so that reading goes on.
type value struct {
	d    *doc
	path path
	v    any
}

func (v value) fail(hint, format string, args ...any) {
	where, line := v.d.where(v.path)
	v.d.r.add(line, &wedge.Error{Op: "read", What: where, Kind: wedge.Invalid, Err: fmt.Errorf(format, args...), Hint: hint})
}

func (v value) warn(format string, args ...any) {
	where, _ := v.d.where(v.path)
	if len(v.d.r.warnings) < 100 {
		v.d.r.warnings = append(v.d.r.warnings, where+": "+fmt.Sprintf(format, args...))
	}
}

func (v value) expected(what, hint string) {
	v.fail(hint, "expected %s, found %s", what, typeName(v.v))
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64, json.Number:
		return "a number"
	case float64:
		return "a fraction"
	case bool:
		return "a boolean"
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "an array"
	case nil:
		return "null"
	}
	return "a date"
}

func (v value) str() (string, bool) {
	s, ok := v.v.(string)
	if !ok {
		v.expected("a string", "Put it in quotes.")
	}
	return s, ok
}

func (v value) table() (*table, bool) {
	m, ok := v.v.(map[string]any)
	if !ok {
		v.expected("a table", "")
		return nil, false
	}
	return &table{value: v, m: m}, true
}

func (v value) list() ([]value, bool) {
	var out []value
	switch a := v.v.(type) {
	case []any:
		for i, e := range a {
			out = append(out, value{v.d, v.path.index(i), e})
		}
	case []map[string]any:
		for i, e := range a {
			out = append(out, value{v.d, v.path.index(i), e})
		}
	default:
		v.expected("an array", "Put it in brackets: [...].")
		return nil, false
	}
	return out, true
}

func (v value) strs() []string {
	list, _ := v.list()
	var out []string
	for _, e := range list {
		if s, ok := e.str(); ok {
			out = append(out, s)
		}
	}
	return out
}

// file reads the file that the value names, and notes it among those the app is made of.
func (v value) file(limit int64) ([]byte, bool) {
	name, ok := v.str()
	if !ok {
		return nil, false
	}
	if name == "" {
		v.fail("Name a file; the path is relative to this one.", "empty path")
		return nil, false
	}
	file := v.d.rel(name)
	data, err := readBounded(file, limit)
	if err != nil {
		where, line := v.d.where(v.path)
		v.d.r.add(line, &wedge.Error{Op: "read", What: where, Kind: wedge.KindOf(err), Err: err})
		return nil, false
	}
	v.d.r.files = append(v.d.r.files, file)
	return data, true
}

// jsonFile reads the JSON file that the value names and opens it for reading: the readers
// of TOML tables serve JSON objects as well.
func (v value) jsonFile() (*table, bool) {
	data, ok := v.file(maxJSON)
	if !ok {
		return nil, false
	}
	name, _ := v.str()
	d := &doc{file: v.d.rel(name), r: v.d.r}
	var root any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err := dec.Decode(&root)
	if err == nil && len(bytes.TrimSpace(data[dec.InputOffset():])) > 0 {
		err = errors.New("more than one JSON value")
	}
	if err != nil {
		what := d.file
		var se *json.SyntaxError
		if errors.As(err, &se) {
			what += ":" + strconv.Itoa(1+bytes.Count(data[:min(int(se.Offset), len(data))], []byte("\n")))
		}
		v.d.r.add(v.d.line(v.path), &wedge.Error{Op: "read", What: what, Kind: wedge.Invalid, Err: err, Hint: "The file must hold one JSON object."})
		return nil, false
	}
	return value{d: d, v: root}.table()
}

// json encodes a table for the guest, which gets such records as JSON text.
func (v value) json() (json.RawMessage, bool) {
	if k := undated(v.v); k != "" {
		v.fail("Write dates as strings.", "%s is a date", k)
		return nil, false
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v.v); err != nil {
		v.fail("", "has no JSON form: %v", err)
		return nil, false
	}
	return bytes.TrimSpace(b.Bytes()), true
}

// undated returns a word for the first date inside v, or "".
func undated(v any) string {
	switch v := v.(type) {
	case time.Time:
		return "a value"
	case map[string]any:
		for k, e := range v {
			if undated(e) != "" {
				return k
			}
		}
	case []any:
		for _, e := range v {
			if s := undated(e); s != "" {
				return s
			}
		}
	case []map[string]any:
		for _, e := range v {
			if s := undated(e); s != "" {
				return s
			}
		}
	}
	return ""
}

// prefix reads an address range, or a single address as the range of just it.
func (v value) prefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		v.fail(`Write a range such as "10.0.0.0/8" or "fd00::/8".`, "%q is not an address range", s)
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}
