package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute/hostcall"
	"github.com/wedge-cloud/wedge/wasm"
)

const inspectUsage = "[--json] [DIR | app.wasm]"

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
	Unsupported  []string            `json:"unsupported_imports,omitempty"` // load, and answer "unsupported"
	UnknownCalls []string            `json:"unknown_imports,omitempty"`     // the guest is refused for these
}

func runInspect(_ context.Context, std stdio, args []string) error {
	fs := newFlags("inspect")
	asJSON := fs.Bool("json", false, "answer in JSON")
	names := fs.Bool("imports", false, "show every import, not just their number")
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
		return printJSON(std.out, in)
	}
	return in.print(std.out, *names)
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
	}
	if p.Image.MaxPages < 1<<16 {
		in.MemoryMax = uint64(p.Image.MaxPages) * wasm.PageSize
	}
	offered := hostcall.Table()
	for _, i := range p.Imports {
		in.Imports[i.Module] = append(in.Imports[i.Module], i.Name)
		def := abi.Lookup(i.Module, i.Name)
		fastly := strings.HasPrefix(i.Module, "fastly_") || i.Module == "env" && def != nil
		switch {
		case def == nil && !fastly:
			in.UnknownCalls = append(in.UnknownCalls, i.Module+"."+i.Name)
		case offered[def] == nil:
			in.Unsupported = append(in.Unsupported, i.Module+"."+i.Name)
		}
		if fastly {
			in.Kind = "compute"
		}
	}
	for _, names := range in.Imports {
		sort.Strings(names)
	}
	sort.Strings(in.Unsupported)
	sort.Strings(in.UnknownCalls)
	return in
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
	if n := len(in.Unsupported); n > 0 {
		line("support", "%d of these calls answer \"unsupported\": see --imports", n)
	}
	for _, n := range in.Unsupported {
		if names {
			line("", "    %s", n)
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
