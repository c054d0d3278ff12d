// Package wedgetest is what tests need to drive Wedge from outside: real nodes in this
// process, guests built from source, origins that misbehave, clients that speak raw bytes,
// and waits that say what they wait for.
package wedgetest
