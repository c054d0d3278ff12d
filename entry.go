package wedge

import "time"

// Entry is one record of a log, as who follows it gets it: what one writer had to say at one time.
type Entry struct {
	Seq    uint64    // its number in the log, from 1; without gaps, unless only the newest of each writer are kept
	Writer string    // who wrote it
	First  uint64    // the number of the first item at its writer
	Items  [][]byte  // at least one
	At     time.Time // when the core stored it, by the core's clock
}
