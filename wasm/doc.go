// Package wasm takes a guest's binary apart: it splits a core Wasm module into code, which
// programs built with the same toolchain share, and image, the memory and globals that make
// it one program, and it inserts the interrupt checks that let the host stop or pause it.
//
// It is pure: bytes in, bytes out, no engine. Its input is hostile; every length is checked
// before it is used. It decodes only what it must (section framing and instruction lengths);
// the engine validates the result in full.
package wasm
