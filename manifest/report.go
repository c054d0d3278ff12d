package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/wedge-cloud/wedge"
)

// maxFaults is how many faults of one app are reported at once.
const maxFaults = 10

// report gathers what is found wrong while an app's files are read, so that one reading
// shows the author all of it.
type report struct {
	faults   []fault
	dropped  int // faults beyond maxFaults
	warnings []string
	files    []string // read besides the manifest
	seeds    int64    // bytes of KV seeds so far
}

type fault struct {
	line int // in the manifest; 0: not known, or in another file
	err  *wedge.Error
}

func (r *report) add(line int, e *wedge.Error) {
	if len(r.faults) == maxFaults {
		r.dropped++
		return
	}
	r.faults = append(r.faults, fault{line, e})
}

// err returns the faults in the order of their lines: nil, the one, or all joined.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	sort.SliceStable(r.faults, func(i, j int) bool { return r.faults[i].line < r.faults[j].line })
	if len(r.faults) == 1 {
		return r.faults[0].err
	}
	var all []error
	for _, f := range r.faults {
		all = append(all, f.err)
	}
	if r.dropped > 0 {
		all = append(all, &wedge.Error{Kind: wedge.Invalid, Err: fmt.Errorf("and %d more", r.dropped)})
	}
	return errors.Join(all...)
}

// doc is one file being read: the manifest or a JSON file that it names.
type doc struct {
	file  string
	base  string // what paths are relative to; "": the file's directory
	r     *report
	text  string         // TOML text; "" for JSON
	lines map[string]int // of text, made when first needed
}

func (d *doc) line(p path) int {
	if d.text == "" {
		return 0
	}
	if d.lines == nil {
		d.lines = lineIndex(d.text)
	}
	return d.lines[p.id()]
}

// where names a place for a person: "wedge.toml:12: backends.origin".
func (d *doc) where(p path) (string, int) {
	line := d.line(p)
	s := d.file
	if line > 0 {
		s += ":" + strconv.Itoa(line)
	}
	if len(p) > 0 {
		s += ": " + p.String()
	}
	return s, line
}

func (d *doc) rel(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(cmp.Or(d.base, filepath.Dir(d.file)), filepath.FromSlash(file))
}

// parseTOML opens a TOML text for reading. A nil table means it is no TOML: see r.
func parseTOML(file, text string, r *report) *table {
	var root map[string]any
	if _, err := toml.Decode(text, &root); err != nil {
		e := &wedge.Error{Op: "read", What: file, Kind: wedge.Invalid, Err: err, Hint: "The file must be TOML: texts stand in quotes, each key stands once. See https://toml.io"}
		var pe toml.ParseError
		if errors.As(err, &pe) {
			e.What += ":" + strconv.Itoa(pe.Position.Line)
			first := min(1, len(pe.Message)) // house style: lower case, no period
			e.Err = errors.New(strings.ToLower(pe.Message[:first]) + strings.TrimSuffix(pe.Message[first:], "."))
		}
		r.add(0, e)
		return nil
	}
	return &table{value: value{d: &doc{file: file, r: r, text: text}, v: root}, m: root}
}
