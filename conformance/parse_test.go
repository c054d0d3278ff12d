package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const good = `section 9111 4.2 Freshness
needs basic

# a comment
case one-{n} required
  about Something.
  each n=a cc="max-age=1, foo=\"b\""
  each n=b cc=no-store
  request GET ?q={n}
    wait 2s
    > X-A: {now-60}
  origin 200
    > Cache-Control: {cc}
    chunked
    trailer X-T: a
  expect hit 200|304 from any
    < Age 3..6
    < no X-B
    < X-C has a b
    lines Set-Cookie: a | b
    body text
`

func TestParse(t *testing.T) {
	cases, err := parse("f.txt", good, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 2 || cases[0].Name != "one-a" || cases[1].Name != "one-b" {
		t.Fatalf("cases: %+v", cases)
	}
	c := cases[0]
	x := c.exchanges[0]
	if c.Level != Required || c.Section != "RFC 9111 4.2" || c.Needs[0] != "basic" || c.Line != 5 {
		t.Errorf("case: %+v", c)
	}
	if x.request.suffix != "?q=a" || x.answer.fields[0] != `Cache-Control: max-age=1, foo="b"` || len(x.expect.response) != 3 {
		t.Errorf("exchange: %+v", x)
	}
}

// TestParseErrors changes one line of a good file; the error must name the line and the reason.
func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ old, new, want string }{
		{"    chunked", "    chunky", `f.txt:14: "chunky" has no meaning here`},
		{"    chunked\n", "", "a trailer needs chunked coding"},
		{"X-A: {now-60}", "X-A: {nwo-60}", "f.txt:11: {nwo-60 is not a placeholder"},
		{"X-A: {now-60}", "X-A: {now-6x}", "not a placeholder"},
		{"required", "requisite", "a case has a name and a level"},
		{"hit 200", "hot 200", "expect stands once"},
		{"hit 200|304", "hit 20", `"20" is not a status code`},
		{"from any", "from 2", "from an exchange so far"},
		{"wait 2s", "wait 2", "not a time such as 3s"},
		{"wait 2s", "wait 2h", "of at most"},
		{"Age 3..6", "Age 6..3", "a range such as 3..6"},
		{"Age 3..6", "A(ge 3..6", "not the name of a field"},
		{"    body text\n", "    body text \n", "white space at the end"},
		{"section 9111 4.2 Freshness\n", "", "no section line"},
		{"  about Something.\n", "", "needs an about line"},
		{"n=b cc=no-store", "nothing", "not NAME=VALUE"},
		{`foo=\"b\""`, `foo=\"b\"`, "not quoted well"},
		{"  expect hit", "  origin 200\n  expect hit", "origin stands once"},
		{"  expect hit", "  request GET\n  expect hit", "expects nothing"},
		{"    < no X-B", "    saw X-B", "the origin sees nothing"},
		{"# a comment", "comment", "does not belong before the first case"},
	} {
		text := strings.Replace(good, tc.old, tc.new, 1)
		if text == good {
			t.Fatalf("%q is not in the good file", tc.old)
		}
		if _, err := parse("f.txt", text, ""); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "f.txt:") {
			t.Errorf("%q for %q: %v; want %q", tc.new, tc.old, err, tc.want)
		}
	}
}

func TestTarget(t *testing.T) {
	text := strings.Replace(good, "cc=no-store", "cc={target}", 1)
	for target, want := range map[string]int{"": 1, "X-Own": 2} {
		if cases, err := parse("f.txt", text, target); err != nil || len(cases) != want {
			t.Errorf("target %q: %d cases, %v; want %d", target, len(cases), err, want)
		}
	}
}

func TestOrder(t *testing.T) {
	mk := func(name string, needs ...string) *Case { return &Case{Name: name, Needs: needs} }
	sorted, err := order([]*Case{mk("a", "b"), mk("b", "b", "c"), mk("c")})
	if err != nil || sorted[0].Name != "c" || sorted[2].Name != "a" {
		t.Errorf("order: %v, %v", sorted, err)
	}
	for want, cases := range map[string][]*Case{
		"is also in":     {mk("a"), mk("a")},
		"does not exist": {mk("a", "b")},
		"needs itself":   {mk("a", "b"), mk("b", "a")},
	} {
		if _, err := order(cases); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("order: %v; want %q", err, want)
		}
	}
}

func TestMatch(t *testing.T) {
	fields := []field{{"X-A", "one"}, {"x-a", "two"}, {"Age", "5"}, {":method", "GET"}, {"Cache-Status", "A;hit, B;fwd=miss"}}
	for s, ok := range map[string]bool{
		"X-A: one, two": true, "X-A: one": false, "X-B: one": false, "X-A": true, "X-B": false,
		"no X-B": true, "no X-A": false, "Age 3..6": true, "Age 6..9": false, "X-A 1..2": false,
		"X-A has two": true, "X-A has three": false, "X-A lacks three": true, "X-A lacks one": false,
		":method: GET": true, ":method: PUT": false, "X-B lacks a": true, "X-B has a": false,
		"Cache-Status sf list": true, "X-B sf list": false, "Cache-Status sf after A": true, "Cache-Status sf after B": false,
		"Cache-Status sf last fwd": true, "Cache-Status sf last hit": false, "Cache-Status sf last no hit": true,
		"Cache-Status sf last fwd=miss": true, "Cache-Status sf last fwd=stale": false, "Cache-Status sf last no fwd": false,
	} {
		m, err := parseMatch(s)
		if wrong := m.check(fields); err != nil || (wrong == "") != ok {
			t.Errorf("%q: %v, %q; want %v", s, err, wrong, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	files, err := filepath.Glob("testdata/cache/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no transcripts: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		cases, err := parse("f.txt", text, "X-Own")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.txt:") {
				t.Errorf("the error names no line: %v", err)
			}
			return
		}
		for _, c := range cases { // what was parsed can be played
			p := newPlay(c, neutral())
			for n := range c.exchanges {
				p.text(n + 1)
				p.reply(c.exchanges[n].answer, &seen{n: n + 1})
			}
		}
	})
}
