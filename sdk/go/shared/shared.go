// Package shared reads and changes values that all PoPs of a fleet share: counters, sets, maps, lists, stocks of what is scarce, and
// plain keys with a bound on how old they may be. Each PoP changes its own copy at once, also while it is cut off, and
// copies are merged; nothing here waits for another PoP unless it says so.
//
//	visits := shared.Open("book").Counter("visits")
//	n, err := visits.Add(ctx, 1)
//
// The service's wedge.toml names a store for it, and the way to it:
//
//	[stores.book]
//	scope = "merge"
//	[backends.state]
//	url = "http://state.wedge.internal"
//
// Errors are *[Error]; with errors.Is they match fs.ErrNotExist for a key that is not there, [ErrConflict], [ErrShort] and [ErrStale].
package shared

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

// Backend is the name of the backend by which a service reaches its shared values.
const Backend = "state"

// MaxAnswer bounds what is read of one answer, in bytes.
const MaxAnswer = 32 << 20

// Reasons of an [Error].
var (
	ErrConflict = errors.New("changed meanwhile, or a value of another kind")
	ErrShort    = errors.New("too few units")           // of a stock, here and at those PoPs that can be reached
	ErrStale    = errors.New("not as new as asked for") // nothing is answered that is older than a read allows
)

// Error is why something was not done.
type Error struct {
	Status int    // of HTTP
	Kind   string `json:"kind"`
	Text   string `json:"error"`
	Hint   string `json:"hint"`
}

// Error returns the text of the host.
func (e *Error) Error() string { return e.Text }

// Is matches fs.ErrNotExist and this package's reasons.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Status == http.StatusNotFound
	case ErrConflict:
		return e.Status == http.StatusConflict || e.Status == http.StatusPreconditionFailed
	case ErrShort:
		return e.Status == http.StatusTooManyRequests
	case ErrStale:
		return e.Status == http.StatusGatewayTimeout
	}
	return false
}

// Read says how new a read has to be. The zero value takes what is here.
type Read struct {
	MaxStaleness time.Duration // nothing may be missing here that the core had so long ago; 0: anything may
	AtLeast      string        // the token of a write that the read must have seen
	Wait         time.Duration // how long to wait for that; 0: the host's 2 s
}

// Origin says where an answer comes from, and how old it may be.
type Origin struct {
	PoP   string        // which answered
	From  string        // of a plain key: the PoP that wrote it
	Age   time.Duration // what others wrote before that is in it
	Known bool          // Age is known: this PoP has heard of the others
	Asked bool          // of a spend: other PoPs were asked for units
	Left  int64         // of a stock: units that this PoP may spend by itself
	Token string        // of a write: for Read.AtLeast, at another PoP too
	Tag   string        // of a plain key: for Put.IfTag
}

// Store is a store that the service binds. It may be used by many goroutines.
type Store struct {
	name   string
	read   Read
	client *http.Client

	mu   sync.Mutex
	last Origin
}

// Open returns the store that the service binds under name.
func Open(name string) *Store {
	return &Store{name: name, client: &http.Client{Transport: edge.Backend(Backend)}}
}

// Reading returns the same store, with reads as new as r says.
func (s *Store) Reading(r Read) *Store { return &Store{name: s.name, read: r, client: s.client} }

// Last returns where the last answer to this Store comes from.
func (s *Store) Last() Origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// do sends a request and returns the answer's body.
func (s *Store) do(ctx context.Context, method, key, query string, body []byte, header http.Header) ([]byte, error) {
	u := url.URL{Scheme: "http", Host: "state.wedge.internal", Path: "/" + s.name + "/" + key, RawQuery: query}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	if method == http.MethodGet {
		s.read.header(req.Header)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.last = originOf(resp.Header)
	s.mu.Unlock()
	if resp.StatusCode/100 == 2 {
		return text, nil
	}
	e := &Error{Status: resp.StatusCode}
	if json.Unmarshal(text, e) != nil || e.Text == "" {
		e.Text = resp.Status
	}
	return nil, e
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

func (r *Read) header(h http.Header) {
	if r.MaxStaleness > 0 {
		h.Set("Wedge-Max-Staleness", seconds(r.MaxStaleness))
	}
	if r.AtLeast != "" {
		h.Set("Wedge-At-Least", r.AtLeast)
	}
	if r.Wait > 0 {
		h.Set("Wedge-Wait", seconds(r.Wait))
	}
}

// originOf reads Wedge-State, such as: merge; pop="nrt"; from="lhr"; age=0.012
func originOf(h http.Header) (o Origin) {
	for _, part := range strings.Split(h.Get("Wedge-State"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch value = strings.Trim(value, `"`); name {
		case "pop":
			o.PoP = value
		case "from":
			o.From = value
		case "asked":
			o.Asked = true
		case "age":
			if s, err := strconv.ParseFloat(value, 64); err == nil {
				o.Age, o.Known = time.Duration(s*float64(time.Second)), true
			}
		}
	}
	o.Left, _ = strconv.ParseInt(h.Get("Wedge-Left"), 10, 64)
	o.Token, o.Tag = h.Get("Wedge-State-Token"), h.Get("Etag")
	return o
}

// Put holds the options of a write to a plain key; the zero value writes in any case, for ever.
type Put struct {
	TTL   time.Duration
	Add   bool   // only if nothing is there; else the error matches [ErrConflict]
	IfTag string // only if the key is still at this tag. At other PoPs it may not be, unless the store's scope is core
	Extra string // metadata
}

// Get returns what a plain key holds.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	return s.do(ctx, http.MethodGet, key, "", nil, nil)
}

// Put writes a plain key. A nil opts is the zero Put.
func (s *Store) Put(ctx context.Context, key string, value []byte, opts *Put) error {
	h := http.Header{}
	if opts != nil {
		for name, text := range map[string]string{"If-Match": opts.IfTag, "Wedge-Metadata": opts.Extra} {
			if text != "" {
				h.Set(name, text)
			}
		}
		if opts.Add {
			h.Set("If-None-Match", "*")
		}
		if opts.TTL > 0 {
			h.Set("Wedge-TTL", seconds(opts.TTL))
		}
	}
	_, err := s.do(ctx, http.MethodPut, key, "", value, h)
	return err
}

// Delete removes what a key holds, whatever its kind.
func (s *Store) Delete(ctx context.Context, key string) error {
	_, err := s.do(ctx, http.MethodDelete, key, "", nil, nil)
	return err
}
