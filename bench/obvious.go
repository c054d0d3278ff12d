package main

import (
	"context"
	"errors"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/compute/hostcall"
	"github.com/wedge-cloud/wedge/node"
)

// obvious runs a guest the way wazero's manual shows: compiled once, then for each request
// InstantiateModule, _start, Close. The hostcalls are the same as Wedge's. Nothing can stop the guest.
type obvious struct {
	*subject
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

const instantiate = "InstantiateModule"

// sandboxKey finds the sandbox of a running guest in its context.
type sandboxKey struct{}

func newObvious(ctx context.Context, v *wedge.Version, want string) (o *obvious, err error) {
	cfg := wazero.NewRuntimeConfig().WithDebugInfoEnabled(false).
		WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst)
	if dir := node.DefaultCacheDir(); dir != "" {
		if cache, err := wazero.NewCompilationCacheWithDir(dir); err == nil {
			cfg = cfg.WithCompilationCache(cache)
		}
	}
	o = &obvious{runtime: wazero.NewRuntimeWithConfig(ctx, cfg)}
	if o.compiled, err = o.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, 2), v.Guest); err != nil {
		return nil, err
	}
	if err := o.link(ctx); err != nil {
		return nil, err
	}
	o.subject = newSubject(v, want, o.run)
	return o, nil
}

func (o *obvious) run(_ context.Context, sb *compute.Sandbox) error {
	ctx := context.WithValue(context.Background(), sandboxKey{}, sb)
	m, err := o.runtime.InstantiateModule(ctx, o.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return err
	}
	defer m.Close(ctx)
	_, err = m.ExportedFunction("_start").Call(ctx)
	var exit *sys.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 0 {
		err = nil
	}
	return err
}

// link offers the guest the hostcalls it imports.
func (o *obvious) link(ctx context.Context) error {
	funcs := hostcall.Table()
	modules := map[string]wazero.HostModuleBuilder{}
	for _, f := range o.compiled.ImportedFunctions() {
		module, name, _ := f.Import()
		if modules[module] == nil {
			modules[module] = o.runtime.NewHostModuleBuilder(module)
		}
		def := abi.Lookup(module, name)
		if def == nil {
			def = &abi.Def{Module: module, Name: name}
		}
		call := funcs[def]
		if call == nil {
			call = func(*compute.Call) abi.Status { return abi.Unsupported }
		}
		modules[module].NewFunctionBuilder().WithGoModuleFunction(dispatch(def, call), f.ParamTypes(), f.ResultTypes()).Export(name)
	}
	for _, b := range modules {
		if _, err := b.Instantiate(ctx); err != nil {
			return err
		}
	}
	return nil
}

func dispatch(def *abi.Def, call compute.Func) api.GoModuleFunc {
	return func(ctx context.Context, m api.Module, stack []uint64) {
		mem, _ := m.Memory().Read(0, m.Memory().Size())
		status := ctx.Value(sandboxKey{}).(*compute.Sandbox).Dispatch(def, call, mem, stack)
		if !def.NoResult {
			stack[0] = uint64(status)
		}
	}
}

func (o *obvious) close() {
	o.handler.Close()
	_ = o.handler.Wait(context.Background())
	_ = o.runtime.Close(context.Background())
}
