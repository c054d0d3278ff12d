package conformance

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// vars gives {placeholders} their values. Known ones are
//
//	{now} {now-60} {now+60}   an HTTP date, in seconds from the start of the case
//	{now+60:rfc850}           the same in the obsolete format of RFC 850; :asctime is the other one,
//	                          :zone has +0000 instead of GMT
//	{path} {url} {host}       the case's own path, its URL at the proxy, and the proxy's authority
//	{space} {tab}             what an editor would remove at the end of a line
//
// and, while a file is read, those of an "each" line.
type vars struct {
	now  time.Time
	text map[string]string
}

// neutral has a value for all that is known before a case runs. It is there to find misspelt ones.
func neutral() vars {
	return vars{text: map[string]string{"path": "", "url": "", "host": "", "space": " ", "tab": "\t"}}
}

func (v vars) with(more map[string]string) vars {
	text := maps.Clone(v.text)
	maps.Copy(text, more)
	return vars{v.now, text}
}

// expand replaces all placeholders in s. An unknown one is an error.
func (v vars) expand(s string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		value, ok := v.lookup(name)
		if !closed || !ok {
			return "", fmt.Errorf("{%s is not a placeholder that is known here", name)
		}
		out.WriteString(value)
		s = after
	}
}

// must expands what the parser has checked.
func (v vars) must(s string) string {
	out, err := v.expand(s)
	if err != nil {
		panic(err)
	}
	return out
}

func (v vars) lookup(name string) (string, bool) {
	if value, ok := v.text[name]; ok {
		return value, true
	}
	spec, format, _ := strings.Cut(name, ":")
	offset, ok := strings.CutPrefix(spec, "now")
	layout, known := layouts[format]
	if !ok || !known {
		return "", false
	}
	n := 0
	if offset != "" {
		var err error
		if n, err = strconv.Atoi(offset); err != nil || offset[0] != '-' && offset[0] != '+' {
			return "", false
		}
	}
	return v.now.Add(time.Duration(n) * time.Second).UTC().Format(layout), true
}

var layouts = map[string]string{
	"":        http.TimeFormat,
	"rfc850":  "Monday, 02-Jan-06 15:04:05 GMT",
	"asctime": time.ANSIC,
	"zone":    "Mon, 02 Jan 2006 15:04:05 +0000",
}
