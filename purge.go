package wedge

import "time"

// Purge makes objects unusable from now on: those fetched before it, or being fetched while it
// comes. One of URL, Keys and All says which.
type Purge struct {
	ID      string    // unique; set by whoever accepts the purge first
	Service string    // whose objects
	URL     string    // every variant of one absolute URL
	Keys    []string  // every object with one of these surrogate keys, at most MaxPurgeKeys
	All     bool      // every object of the service
	Soft    bool      // they become stale instead: usable while revalidated, and by a 304
	At      time.Time // when it was accepted
}

// MaxPurgeKeys is how many surrogate keys one purge may name.
const MaxPurgeKeys = 256
