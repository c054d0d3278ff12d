package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute/hostcall"
	"github.com/wedge-cloud/wedge/wasm"
)

const inspectUsage = "[--imports] [--strict] [--json] [DIR | app.wasm]"

// refused is the verdict on a program that does not load.
const refused hostcall.Support = "refused"

// inspection is what wedge inspect tells of a guest.
type inspection struct {
	Guest        string              `json:"guest"` // path
	Digest       string              `json:"digest"`
	Bytes        int                 `json:"bytes"`
	CodeDigest   string              `json:"code_digest"` // equal for programs that share their code
	CodeBytes    int                 `json:"code_bytes"`
	ImageBytes   int                 `json:"image_bytes"`
	MemoryBytes  uint64              `json:"memory_bytes"`               // at the start
	MemoryMax    uint64              `json:"memory_max_bytes,omitempty"` // as declared; 0: only the limit
	Checks       int                 `json:"interrupt_checks"`
	Kind         string              `json:"kind"`                          // "compute" or "wasi"
	Unpooled     string              `json:"unpooled,omitempty"`            // why instances are used once
	Imports      map[string][]string `json:"imports"`                       // names by module
	Partial      []string            `json:"partial_imports,omitempty"`     // work, but not for all that the ABI describes
	Unsupported  []string            `json:"unsupported_imports,omitempty"` // load, and answer "unsupported"
	UnknownCalls []string            `json:"unknown_imports,omitempty"`     // the guest is refused for these
	Reasons      map[string]string   `json:"reasons,omitempty"`             // why imports are partial or unsupported

	Verdict hostcall.Support `json:"verdict"` // that of the worst import
}

func runInspect(_ context.Context, std stdio, args []string) error {
	fs := newFlags("inspect")
	asJSON := fs.Bool("json", false, "answer in JSON")
	names := fs.Bool("imports", false, "show every import, not just their number")
	strict := fs.Bool("strict", false, "fail also if a call answers \"unsupported\"")
	rest, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	app, err := loadApp(first(rest, "."), std.err)
	if err != nil {
		return err
	}
	guest, err := app.ReadGuest()
	if err != nil {
		return err
	}
	// A program that asks for more memory than the default limit can still be looked at.
	opt := wasm.Options{MaxMemory: 1 << 30}
	if app.Version.Start == wedge.StartSnapshot {
		opt.Park = hostcall.ParkAt
	}
	p, err := wasm.Split(guest, opt)
	if err != nil {
		return err
	}
	in := inspect(app.GuestPath, guest, p)
	if *asJSON {
		err = printJSON(std.out, in)
	} else {
		err = in.print(std.out, *names)
	}
	if err != nil {
		return err
	}
	return in.fault(*strict)
}

// fault is the verdict as an error, for the exit code: of what does not load, and if strict of what
// is not all there. A program may import what it never calls: those of one JavaScript SDK all import the same.
func (in *inspection) fault(strict bool) error {
	switch {
	case in.Verdict == refused:
		return &wedge.Error{Op: "inspect", What: in.Guest, Kind: wedge.Unsupported, Err: errors.New("it does not load, for it has unknown imports"),
			Hint: "A guest may import wasi_snapshot_preview1 and fastly_* functions; check the toolchain and its target."}
	case in.Verdict == hostcall.Unsupported && strict:
		return &wedge.Error{Op: "inspect", What: in.Guest, Kind: wedge.Unsupported, Err: errors.New("it imports calls that are not offered"),
			Hint: "Leave --strict out if the program does not need them."}
	}
	return nil
}

func inspect(path string, guest []byte, p *wasm.Program) inspection {
	in := inspection{
		Guest:       path,
		Digest:      fmt.Sprintf("%x", sha256.Sum256(guest)),
		Bytes:       len(guest),
		CodeDigest:  fmt.Sprintf("%x", p.Digest),
		CodeBytes:   len(p.Code),
		ImageBytes:  len(p.Image.Data),
		MemoryBytes: uint64(p.Image.MinPages) * wasm.PageSize,
		Checks:      p.Checks,
		Kind:        "wasi",
		Unpooled:    p.Unpooled,
		Imports:     map[string][]string{},
		Reasons:     map[string]string{},
	}
	if p.Image.MaxPages < 1<<16 {
		in.MemoryMax = uint64(p.Image.MaxPages) * wasm.PageSize
	}
	for _, i := range p.Imports {
		in.judge(i)
	}
	in.Verdict = in.verdict()
	for _, names := range in.Imports {
		sort.Strings(names)
	}
	sort.Strings(in.Partial)
	sort.Strings(in.Unsupported)
	sort.Strings(in.UnknownCalls)
	return in
}

// judge notes an import and how much of it there is. A call of another signature is not the one that is offered.
func (in *inspection) judge(i wasm.Import) {
	in.Imports[i.Module] = append(in.Imports[i.Module], i.Name)
	name, def := i.Module+"."+i.Name, abi.Lookup(i.Module, i.Name)
	fastly := strings.HasPrefix(i.Module, "fastly_") || i.Module == "env" && def != nil
	if fastly {
		in.Kind = "compute"
	}
	if def == nil && !fastly {
		in.UnknownCalls = append(in.UnknownCalls, name)
		return
	}
	s, why := hostcall.Supported(def)
	if def != nil && !sameTypes(def, i) {
		s, why = hostcall.Unsupported, "the ABI's call of that name has another signature"
	}
	switch s {
	case hostcall.Complete:
		return
	case hostcall.Partial:
		in.Partial = append(in.Partial, name)
	default:
		in.Unsupported = append(in.Unsupported, name)
	}
	in.Reasons[name] = why
}

func sameTypes(d *abi.Def, i wasm.Import) bool {
	params, results := d.Types()
	return string(params) == string(i.Params) && string(results) == string(i.Results)
}

func (in *inspection) verdict() hostcall.Support {
	switch {
	case len(in.UnknownCalls) > 0:
		return refused
	case len(in.Unsupported) > 0:
		return hostcall.Unsupported
	case len(in.Partial) > 0:
		return hostcall.Partial
	}
	return hostcall.Complete
}

// print shows the inspection to a person.
func (in *inspection) print(w io.Writer, names bool) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-8s "+format+"\n", append([]any{name}, args...)...)
	}
	line("guest", "%s", in.Guest)
	line("digest", "%s", in.Digest)
	line("kind", "%s", map[string]string{"compute": "Fastly Compute", "wasi": "plain WASI, run as CGI"}[in.Kind])
	line("size", "%s", size(uint64(in.Bytes)))
	line("code", "%s, %d interrupt checks, digest %s", size(uint64(in.CodeBytes)), in.Checks, in.CodeDigest[:16])
	line("image", "%s", size(uint64(in.ImageBytes)))
	most := ""
	if in.MemoryMax > 0 {
		most = ", at most " + size(in.MemoryMax)
	}
	line("memory", "%s at the start%s", size(in.MemoryBytes), most)
	if in.Unpooled != "" {
		line("reuse", "each instance is used once: %s", in.Unpooled)
	}
	modules := make([]string, 0, len(in.Imports))
	for m := range in.Imports {
		modules = append(modules, m)
	}
	sort.Strings(modules)
	for _, m := range modules {
		line("imports", "%3d of %s", len(in.Imports[m]), m)
		if names {
			for _, n := range in.Imports[m] {
				line("", "    %s", n)
			}
		}
	}
	total := 0
	for _, m := range modules {
		total += len(in.Imports[m])
	}
	line("verdict", "%s: %d complete, %d partial, %d unsupported", in.Verdict,
		total-len(in.Partial)-len(in.Unsupported)-len(in.UnknownCalls), len(in.Partial), len(in.Unsupported))
	for _, of := range []struct {
		name  string
		calls []string
	}{{"partial", in.Partial}, {"missing", in.Unsupported}} {
		for _, n := range of.calls {
			line(of.name, "%s: %s", n, in.Reasons[n])
		}
	}
	for _, n := range in.UnknownCalls {
		line("unknown", "%s: the guest is refused for it", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// size writes a number of bytes as a person reads it.
func size(n uint64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
