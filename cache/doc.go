// Package cache keeps responses and answers with them again: an HTTP cache (RFC 9111) as an
// http.RoundTripper around the one that reaches the origin.
//
// What may be stored, and whether a stored object answers a request, is decided by two pure
// functions, judge (judge.go) and decide (decide.go). Everything that waits, streams or keeps
// state is around them: an entry holds the objects of one key and the flights, the fetches under
// way, that requests for the same key share (flight.go); a spool is a body that is read while it
// is still being written (spool.go); storage bounds the bytes (storage.go); and purges are
// numbers to compare with, not scans (purge.go).
//
// Below memory there may be a disk tier (disk.go): segments of records (segment.go, record.go), an
// index of them (diskindex.go), a journal of purges (journal.go), and what a start makes of those
// (recover.go). What the two do together is in below.go.
package cache
