// Package state keeps what a PoP must remember: the key-value stores of its services,
// on disk or in memory, alone or in common with other PoPs, and what their guests count ([Rates]), in memory.
//
// A [KV] is one pebble database. [KV.For] binds it to one version of a service and gives
// the [Stores] that the version names; what two services write can never meet, for every
// key in the database begins with the service and the store it belongs to.
//
// A write is durable when it returns, atomic, and ordered with the other writes of its
// key at this PoP. Writers share the disk's syncs, so many at once cost little more than one.
//
// # Scopes
//
// In a store of scope merge each PoP writes by itself, and a [Share] brings the others' writes: values are merged, so all
// PoPs come to the same, and who promised what was overwritten gets an [Apology]. In one of scope core the core decides each write
// ([Decide]), for all PoPs in one order. In one of scope home one PoP does, their home, which may give that to another
// ([Share.MoveHome]). In one of scope local no other PoP is told. Reads are local in all of them.
//
// # Sessions
//
// A [Session] is at one PoP at a time, and no share carries it: PoPs give it to each other ([KV.GiveSession], [KV.TakeSession]), and who
// has it no more knows where it went.
//
// # Seeds
//
// A version may give keys a value to begin with. These seeds are never written down:
// they lie under what was written at run time and show through where nothing was. So a
// new version's changed seed is seen at once by its own sandboxes (and by no others),
// a seed dropped from a version is gone with it, and a key that was written or deleted at
// run time keeps what was done to it, whatever later versions seed. A written key that
// expires is absent; its seed does not come back.
//
// For that a deleted key leaves a small tombstone, but only where the version that deletes
// it has a seed for it. A key deleted before any version seeded it is then seeded like new.
package state
