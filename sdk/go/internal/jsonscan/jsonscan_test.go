package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func scan(text string) (string, error) {
	var out []string
	err := Scan([]byte(text), func(path, value string) { out = append(out, path+"="+value) })
	return strings.Join(out, " "), err
}

func TestScan(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a":1,"b":{"c":"x","d":[true,null,"y"]}}`, "a=1 b.c=x b.d=true b.d=y"},
		{` [ ] `, ""},
		{`"A\n\ud83d\ude00\ud83d"`, "=A\n😀\uFFFD"},
		{`-1.5e+3`, "=-1.5e+3"},
	} {
		if got, err := scan(c.in); got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{``, `{`, `{"a"}`, `[1,]`, `{"a":1,}`, `01`, `1.`, `"\x"`, `"a`, `tru`, `1 2`, strings.Repeat("[", 100)} {
		if _, err := scan(bad); err != ErrSyntax {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// FuzzScan demands that the scanner accepts what encoding/json does.
func FuzzScan(f *testing.F) {
	f.Add(`{"a":[1,{"b":"\u00e9"}],"c":null}`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := scan(text)
		if want := json.Valid([]byte(text)); want != (err == nil) && utf8.ValidString(text) && strings.Count(text, "[")+strings.Count(text, "{") < maxDepth {
			t.Errorf("%q: valid %v, scanned %v", text, want, err)
		}
	})
}
