package merge

import (
	"encoding/json"
	"time"
)

// Reason is why a promise cannot be kept.
type Reason string

// The reasons.
const (
	Overwritten Reason = "overwritten" // a write to a register, by a later one that knew nothing of it
	Overspent   Reason = "overspent"   // a share was reclaimed by force, and had been spent
	Displaced   Reason = "displaced"   // a value, by one of another kind that was made of the same key at another PoP
	Rewound     Reason = "rewound"     // writes to a session, or to a key of scope home, whose home was lost; it went on without them
)

// Apology is what was promised and cannot be kept. Whoever joins what it follows from gets it, which may be several PoPs, or
// one several times: it is the same for the same value and ID.
type Apology struct {
	ID      string          `json:"id"` // of the write, or the share
	Reason  Reason          `json:"reason"`
	Writer  Writer          `json:"writer"` // who promised
	Path    []string        `json:"path,omitempty"`
	Who     string          `json:"who,omitempty"`     // to whom, if the operation said
	At      time.Time       `json:"at,omitzero"`       // when, by the writer's clock
	Value   json.RawMessage `json:"value,omitempty"`   // what was written
	Instead json.RawMessage `json:"instead,omitempty"` // what is there now. Not the same everywhere: there may be more to come
	Amount  int64           `json:"amount,omitempty"`  // overspent in all on this share; the highest counts
}
