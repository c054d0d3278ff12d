// Package compute runs guests: it prepares a Wasm program once, keeps a pool of its
// instances and gives every request a fresh [Sandbox] in microseconds, within limits.
//
// An [Engine] owns the Wasm runtime, the compiled code and the instance pools. A
// [Module] is a program made ready: code, which all programs with the same code share,
// and image, the memory and globals that make it this program. [Module.Run] takes an
// instance, runs the guest's _start in it and puts the instance back as it was.
//
// Everything a guest can learn or do passes a [Call]: that is the one boundary between
// guest and host, numbered and observable, through which a request can be recorded.
package compute
