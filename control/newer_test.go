package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// TestNewerCatalog: whoever does not understand an event takes nothing behind it, keeps what was decided before, and decides
// nothing; what is damaged, or says a little more than is known, is no such event.
func TestNewerCatalog(t *testing.T) {
	for name, newer := range map[string]string{
		"kind":  `{"kind":"pause","service":"shop"}`,
		"needs": fmt.Sprintf(`{"kind":"token","token":"b","needs":%d,"only_at_night":true}`, Format+1),
	} {
		t.Run(name, func(t *testing.T) {
			c := New(nil, nil)
			take := func(seq uint64, item string) error {
				return c.Take(wedge.Entry{Seq: seq, Items: [][]byte{[]byte(item)}})
			}
			for i, item := range []string{`{"kind":"token","token":"a","colour":"red"}`, `no JSON`, `{"kind":"done","service":"none"}`} {
				if err := take(uint64(i+1), item); err != nil {
					t.Errorf("%s: %v", item, err)
				}
			}
			if err := take(4, newer); wedge.KindOf(err) != wedge.Unsupported || !strings.Contains(wedge.HintOf(err), "upgrade this node") {
				t.Error(err)
			}
			if err := take(5, `{"kind":"revoke","token":"a"}`); wedge.KindOf(err) != wedge.Unsupported {
				t.Error(err)
			}
			c.See(func(s *State) {
				if s.Seq != 3 || len(s.Tokens) != 1 {
					t.Errorf("%d %v", s.Seq, s.Tokens)
				}
			})
			_, err := c.Decide(t.Context(), "operator", "", func(*State) (Event, error) { return Event{Kind: EventRevoke, Token: "a"}, nil })
			if wedge.KindOf(err) != wedge.Unsupported {
				t.Error(err)
			}
		})
	}
}

// TestNewerVersion: a version that says something unknown does not run; one with a field that is not set does.
func TestNewerVersion(t *testing.T) {
	v := someVersion(t)
	for name, test := range map[string]struct {
		change func(m map[any]any)
		ok     bool
	}{
		"same":              {func(map[any]any) {}, true},
		"not set":           {func(m map[any]any) { m["Mirror"], m["Quotas"] = nil, map[string]any{"CPU": 0, "Names": []string{}} }, true},
		"set":               {func(m map[any]any) { m["Mirror"] = "fra" }, false},
		"set within":        {func(m map[any]any) { m["Backends"].([]any)[0].(map[any]any)["Weight"] = 3 }, false},
		"not set within":    {func(m map[any]any) { m["Backends"].([]any)[0].(map[any]any)["Weight"] = 0 }, true},
		"another encoding":  {func(m map[any]any) { m["Hosts"] = "shop.example" }, false},
		"set, deep within":  {func(m map[any]any) { m["Quotas"] = map[string]any{"CPU": map[string]any{"Day": 1}} }, false},
		"a key of a user's": {func(m map[any]any) { m["Env"].(map[any]any)["EMPTY"] = "" }, true},
	} {
		kept := map[Digest][]byte{}
		keep := func(d Digest, b []byte) error { kept[d] = append([]byte(nil), b...); return nil }
		a, err := Pack(v, nil, keep)
		if err != nil {
			t.Fatal(err)
		}
		get := func(d Digest) ([]byte, error) { return kept[d], nil }
		for i := range a.Parts {
			if a.Parts[i].Name != "version" {
				continue
			}
			b, err := a.Parts[i].read(get)
			if err != nil {
				t.Fatal(err)
			}
			var m map[any]any
			if err := decoding.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			test.change(m)
			if b, err = encoding.Marshal(m); err != nil {
				t.Fatal(err)
			}
			d := DigestOf(b)
			kept[d] = b
			a.Parts[i] = Part{Name: "version", Size: int64(len(b)), Chunks: []Chunk{{d, len(b)}}}
		}
		_, err = a.Unpack(t.TempDir(), nil, get)
		if (err == nil) != test.ok || err != nil && (wedge.KindOf(err) != wedge.Invalid || !strings.Contains(wedge.HintOf(err), "upgrade this node")) {
			t.Errorf("%s: %v (%s)", name, err, wedge.HintOf(err))
		}
	}
}

// someLog is a catalog in memory that several decide on.
type someLog struct {
	mu       sync.Mutex
	items    [][]byte
	controls []*Control
	refused  int
}

func (l *someLog) Append(_ context.Context, last uint64, item []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last != uint64(len(l.items)) {
		l.refused++
		return 0, &wedge.Error{Op: "append", Kind: wedge.Conflict, Err: errors.New("another was first")}
	}
	l.items = append(l.items, item)
	for _, c := range l.controls {
		if err := c.Take(wedge.Entry{Seq: uint64(len(l.items)), Items: [][]byte{item}}); err != nil {
			return 0, err
		}
	}
	return uint64(len(l.items)), nil
}

// TestTwoDecide: of two who think that they lead neither undoes what the other decided, and what both want is decided once.
func TestTwoDecide(t *testing.T) {
	l := &someLog{}
	for range 2 {
		l.controls = append(l.controls, New(l, nil))
	}
	const each = 100
	var w sync.WaitGroup
	for i, c := range l.controls {
		w.Go(func() {
			for n := range each {
				for _, name := range []string{fmt.Sprintf("own-%d-%d", i, n), fmt.Sprint("both-", n)} {
					_, err := c.Decide(t.Context(), "operator", "", func(s *State) (Event, error) {
						if s.Tokens[name] != nil {
							return Event{}, errThere
						}
						return Event{Kind: EventToken, Token: name}, nil
					})
					if err != nil && err != errThere {
						t.Error(err)
					}
				}
			}
		})
	}
	w.Wait()
	if len(l.items) != 3*each {
		t.Errorf("%d decisions, %d were to be made", len(l.items), 3*each)
	}
	for _, c := range l.controls {
		c.See(func(s *State) {
			if len(s.Tokens) != 3*each || len(s.Audit) != 3*each {
				t.Errorf("one knows %d tokens, %d decisions", len(s.Tokens), len(s.Audit))
			}
		})
	}
	t.Logf("%d of %d were refused, and decided anew", l.refused, 4*each)
}

var errThere = errors.New("it is there")
