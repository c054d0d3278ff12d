package cache

import (
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// absent is a duration that a message does not give.
const absent = time.Duration(-1)

// forever is what delta-seconds too large to count mean (RFC 9111 section 1.2.2): 2^31 seconds.
const forever = (1 << 31) * time.Second

// directives is a Cache-Control field, or one that stands for it, read.
type directives struct {
	maxAge, sMaxAge, swr, sie   time.Duration // absent: not given
	maxStale, minFresh          time.Duration // of requests
	noStore, noCache, private   bool
	public, mustUnderstand      bool
	mustRevalidate, proxyReval  bool
	noTransform, immutable      bool
	onlyIfCached                bool
	noCacheFields, privateField []string // field names given with no-cache and private
}

func noDirectives() directives {
	return directives{maxAge: absent, sMaxAge: absent, swr: absent, sie: absent, maxStale: absent, minFresh: absent}
}

// parseDirectives reads Cache-Control lines (RFC 9111 section 5.2). What is malformed makes a
// response stale rather than fresh, and of repeated ages the shortest counts.
func parseDirectives(lines []string) directives {
	d := noDirectives()
	for _, line := range lines {
		for line != "" {
			var item string
			item, line = nextListItem(line)
			name, value, hasValue := cutDirective(item)
			d.set(strings.ToLower(name), value, hasValue)
		}
	}
	return d
}

// nextListItem cuts the first element off a comma-separated list, minding quoted strings.
func nextListItem(s string) (item, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return textproto.TrimString(s[:i]), s[i+1:]
		}
	}
	return textproto.TrimString(s), ""
}

// cutDirective splits name=value and takes quotes off the value. Space around the = is not
// allowed; what follows it then is no valid value.
func cutDirective(item string) (name, value string, hasValue bool) {
	name, value, hasValue = strings.Cut(item, "=")
	if trimmed := textproto.TrimString(name); trimmed != name {
		return trimmed, "\x00", hasValue
	}
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = unquote(value[1 : len(value)-1])
	}
	return name, value, hasValue
}

func unquote(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (d *directives) set(name, value string, hasValue bool) {
	switch name {
	case "max-age":
		shortest(&d.maxAge, value)
	case "s-maxage":
		shortest(&d.sMaxAge, value)
	case "stale-while-revalidate":
		shortest(&d.swr, value)
	case "stale-if-error":
		shortest(&d.sie, value)
	case "min-fresh":
		shortest(&d.minFresh, value)
	case "max-stale":
		if d.maxStale = forever; hasValue {
			d.maxStale, _ = parseSeconds(value)
		}
	case "no-cache":
		if names := fieldNames(value); hasValue && len(names) > 0 {
			d.noCacheFields = append(d.noCacheFields, names...)
		} else {
			d.noCache = true
		}
	case "private":
		if names := fieldNames(value); hasValue && len(names) > 0 {
			d.privateField = append(d.privateField, names...)
		} else {
			d.private = true
		}
	case "no-store":
		d.noStore = true
	case "public":
		d.public = true
	case "must-revalidate":
		d.mustRevalidate = true
	case "proxy-revalidate":
		d.proxyReval = true
	case "must-understand":
		d.mustUnderstand = true
	case "no-transform":
		d.noTransform = true
	case "immutable":
		d.immutable = true
	case "only-if-cached":
		d.onlyIfCached = true
	}
}

// shortest sets d to the seconds that value says, if they are fewer; malformed ones are none.
func shortest(d *time.Duration, value string) {
	v, _ := parseSeconds(value)
	if *d == absent || v < *d {
		*d = v
	}
}

// parseSeconds reads delta-seconds (RFC 9111 section 1.2.2): digits alone. It returns 0, false for others.
func parseSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	n := int64(0)
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > 1<<31 {
			n = 1 << 31
		}
	}
	return time.Duration(n) * time.Second, true
}

// fieldNames reads a list of field names.
func fieldNames(s string) (names []string) {
	for name := range strings.SplitSeq(s, ",") {
		if name = textproto.TrimString(name); name != "" && name != "\x00" {
			names = append(names, textproto.CanonicalMIMEHeaderKey(name))
		}
	}
	return names
}

// targets are the fields that speak to this cache in place of Cache-Control and Expires, the
// first one first (RFC 9213 section 2.2).
var targets = []string{"Wedge-Cache-Control", "Cdn-Cache-Control"}

// responseDirectives reads the field that applies to this cache. targeted reports whether it
// was another than Cache-Control, so that Expires does not count.
func responseDirectives(h http.Header) (d directives, targeted bool) {
	for _, name := range targets {
		if lines := h[name]; len(lines) > 0 {
			if d, ok := parseTargeted(lines); ok {
				return d, true
			}
		}
	}
	if lines := h["Surrogate-Control"]; len(lines) > 0 {
		if d, ok := parseSurrogate(lines); ok {
			return d, true
		}
	}
	return parseDirectives(h["Cache-Control"]), false
}

// parseTargeted reads a targeted field, a dictionary of RFC 9651. A malformed or empty one is
// as good as none, and so is a member of the wrong type.
func parseTargeted(lines []string) (d directives, ok bool) {
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return d, false
	}
	d = noDirectives()
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		item, isItem := member.(httpsfv.Item)
		if !isItem {
			continue
		}
		switch v := item.Value.(type) {
		case bool:
			if v {
				d.set(name, "", false)
			}
		case int64:
			if v >= 0 {
				d.setAge(name, time.Duration(min(v, 1<<31))*time.Second)
			}
		case string:
			if name == "private" || name == "no-cache" {
				d.set(name, v, true)
			}
		}
	}
	return d, true
}

func (d *directives) setAge(name string, v time.Duration) {
	switch name {
	case "max-age":
		d.maxAge = v
	case "s-maxage":
		d.sMaxAge = v
	case "stale-while-revalidate":
		d.swr = v
	case "stale-if-error":
		d.sie = v
	}
}

// parseSurrogate reads Surrogate-Control (Edge Architecture, W3C note): max-age=FRESH+STALE,
// and the directives of Cache-Control that origins use there.
func parseSurrogate(lines []string) (d directives, ok bool) {
	d = noDirectives()
	for _, line := range lines {
		for line != "" {
			var item string
			item, line = nextListItem(line)
			item, _, _ = strings.Cut(item, ";") // a target of its own, such as ;abc
			name, value, hasValue := cutDirective(item)
			name = strings.ToLower(name)
			if fresh, stale, two := strings.Cut(value, "+"); name == "max-age" && two {
				value = fresh
				shortest(&d.swr, stale)
			}
			if name == "" || name == "content" {
				continue
			}
			d.set(name, value, hasValue)
			ok = true
		}
	}
	return d, ok
}
