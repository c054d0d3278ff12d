// Package hostcall implements the guest ABI: every hostcall a guest can make, the
// handles it gets for them and the life of a request in a sandbox.
//
// This is the trust boundary. Arguments come from a guest that may be hostile, so every
// size is bounded and accounted, and what a hostcall cannot do it answers with a status,
// never with a panic.
//
// A [Handler] serves one version: it starts a guest for each request, takes the answer
// from it and does all writing to the client. [Table] lists the hostcalls for the engine.
package hostcall
