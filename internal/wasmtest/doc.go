// Package wasmtest writes small core Wasm modules for tests, byte by byte, so that a test's
// body says what its guest does.
//
//	m := wasmtest.New()
//	put := m.Import("host", "put", "i32")
//	m.Memory(1)
//	m.Main("", wasmtest.I32(42), wasmtest.Call(put))
//	src := m.Bytes()
//
// It checks nothing: tests also need modules that are wrong.
package wasmtest
