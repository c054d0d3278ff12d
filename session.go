package wedge

import (
	"encoding/hex"
	"errors"
	"slices"
	"time"
)

// Sessions says how a service keeps the sessions of its clients.
type Sessions struct {
	TTL          time.Duration // that a session lives after it was last written; 0: a day
	Jurisdiction string        // only PoPs that carry it may hold sessions; "": all
	Standby      bool          // one other PoP gets a copy after each write
	Lost         SessionLost   // what a session does whose home cannot be reached; "": wait
	Cookie       string        // name of the cookie; "": DefaultSessionCookie
}

// SessionLost is what a session does whose home cannot be reached.
type SessionLost string

const (
	LostWait    SessionLost = "wait"    // it fails, until the home is back
	LostStandby SessionLost = "standby" // it goes on from the copy, without the writes that this one lacks
)

// Bounds of sessions.
const (
	DefaultSessionCookie = "wedge-session"
	DefaultSessionTTL    = 24 * time.Hour
	MaxSessionTTL        = 90 * 24 * time.Hour
	MaxSession           = 1 << 20 // bytes of one's data
	MaxSessionMetadata   = 2000    // bytes
)

// SessionID names a session. It is chosen at random, and is no credential: what gives access is a token.
type SessionID [16]byte

// String returns 32 hexadecimal digits.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (id SessionID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *SessionID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return errors.New("not a session's id")
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// Carries reports whether a PoP is under the law of a jurisdiction, as it says itself. "" is none.
func (p *PoP) Carries(jurisdiction string) bool {
	return jurisdiction == "" || slices.Contains(p.Jurisdictions, jurisdiction)
}
