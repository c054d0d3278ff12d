// Package world runs many PoPs in one process, each a real node with data, listeners and a link to the core of
// its own, and between them a network with the round-trip times of the places where they are. It can be cut,
// healed and delayed, and PoPs stopped and started, while it runs.
//
// It is how a fleet is tried on a laptop, and how it is tested: what runs is what runs in production, down to
// the bytes on each connection.
package world
