// Package bus is what the PoPs of a fleet tell each other by: logs that keep everything in order
// at the core, and messages that are said once. It embeds NATS, and is its only importer.
//
// A core (core.go) keeps logs as JetStream streams whose every message is on disk before it is
// acknowledged. A PoP has a link to it (link.go), an ordinary client connection that may be cut at any time
// and for any time. What a PoP has to say goes into its own outbox first, and a pump (pump.go) carries it to
// the core's log: in order, nothing twice, nothing left out, however often the link breaks. What
// others have said comes by following a log (follow.go): messages are republished as they are stored, and
// whoever notices a gap, or was away, reads what is missing by its number.
//
// NATS has mechanisms of its own for this, leaf nodes, sources and mirrors; after a cut of ten seconds
// they take up to forty to heal, where this takes a fraction of one.
package bus
