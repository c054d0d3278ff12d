package conformance

import (
	"fmt"
	"slices"
	"time"
)

// Level says how much a case weighs.
type Level int

const (
	Required Level = iota // the RFC says MUST, or a client would be told something false
	Optimal               // allowed, and what a good cache does
	Check                 // behaviour is noted; neither way is wrong
)

var levels = []string{"required", "optimal", "check"}

func (l Level) String() string { return levels[l] }

// MarshalText is for JSON.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Case is one conversation with the proxy, and what must come of it.
type Case struct {
	Name    string   `json:"name"`    // unique in the whole suite
	Section string   `json:"section"` // such as "RFC 9111 4.2"
	Title   string   `json:"title"`   // the section's, in a few words
	Level   Level    `json:"level"`
	About   string   `json:"about"` // what is asked, in a sentence
	Needs   []string `json:"needs"` // cases without which this one says nothing; if one fails, this is skipped
	File    string   `json:"file"`
	Line    int      `json:"line"`

	exchanges []exchange
}

// exchange is one request, what the origin answers if it is asked, and what must happen.
type exchange struct {
	line    int
	request request
	answer  answer
	expect  expect
}

type request struct {
	method string
	suffix string // after the case's path: "", "?a=1", "/other"
	wait   time.Duration
	fields []string // lines as they go out, with {placeholders}
	body   string
}

// answer is the origin's script for one exchange.
type answer struct {
	scripted  bool // false: the case does not count on the origin being asked
	status    int
	fields    []string
	interim   []interim
	body      *string // nil: a body that names the exchange
	chunked   bool
	trailers  []string
	length    string // Content-Length to claim; "" the true one, "none" no such field
	cut       int    // body bytes after which the connection ends; whole, or nothing at all
	delay     time.Duration
	noDate    bool
	ranges    bool // Range and If-Range are honoured
	validates bool // If-None-Match and If-Modified-Since are honoured
}

// Values of answer.cut that are not a number of bytes.
const (
	whole   = -1 // the answer is not cut
	nothing = -2 // not even a status line
)

type interim struct {
	status int
	field  string // one line
}

// source is where an answer must have come from.
type source int

const (
	anywhere   source = iota
	hit               // the origin was not asked
	miss              // the origin was asked
	validated         // the origin was asked with a precondition
	background        // the answer came before the origin's, and yet the origin was asked
)

var sources = []string{"any", "hit", "miss", "validated", "background"}

func (s source) String() string { return sources[s] }

// expect is what must be seen at both ends.
type expect struct {
	source    source
	status    []int // one of these; none: that of the exchange whose answer this is
	from      int   // whose answer the client gets: an exchange, fromAny, or fromProxy
	response  []match
	saw       []match // in the request that reached the origin
	trailers  []match
	interim   []interimMatch
	noInterim bool
	body      *string
	truncated bool
	lines     [][]string // a field name, then the values that must stand on lines of their own
}

// Values of expect.from that are not the number of an exchange.
const (
	fromUsual = -1 // a hit: any earlier exchange; else this one, unless it revalidates
	fromAny   = -2
	fromProxy = -3 // an answer of the proxy's own making
)

type interimMatch struct {
	status int
	match  match
}

// breaksOff says whether the origin ends a connection before its answer is whole.
func (c *Case) breaksOff() bool {
	return slices.ContainsFunc(c.exchanges, func(x exchange) bool { return x.answer.breaksOff() })
}

func (a *answer) breaksOff() bool {
	return a.cut != whole || a.length != "" && a.length != "none"
}

// bodyOf is the body the origin sends in exchange n (from 1).
func (c *Case) bodyOf(n int) string {
	if b := c.exchanges[n-1].answer.body; b != nil {
		return *b
	}
	return fmt.Sprintf("the answer to exchange %d", n)
}
