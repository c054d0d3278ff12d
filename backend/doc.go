// Package backend reaches origins: connection pools, TLS, timeouts, retries, egress
// rules and health checks, all behind one http.RoundTripper.
//
// A [Transport] sends each request to the backend that [wedge.BackendFrom] finds in its
// context. Connections belong to pools, and a pool is named by what its backend is, so
// equal backends of different sandboxes and versions share connections.
//
// net/http speaks the protocols, one http.ClientConn per connection; which connection
// a request gets, and whether one may serve again, is decided here (pool.go, conn.go).
// Every failure becomes a [*wedge.FetchError] that says what really happened (classify.go).
package backend
