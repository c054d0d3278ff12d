package manifest

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// table reads a TOML table or JSON object key by key. It remembers the keys it was asked
// for: those are the known ones, and done reports all others.
type table struct {
	value
	m     map[string]any
	asked []string
}

func (t *table) get(key string) (value, bool) {
	t.asked = append(t.asked, key)
	v, ok := t.m[key]
	return value{t.d, t.path.add(key), v}, ok
}

// names returns the table's keys in order, for tables whose keys the author chooses.
func (t *table) names() []string {
	names := make([]string, 0, len(t.m))
	for k := range t.m {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}

// each calls f for every entry of the table called key, in order of names.
func (t *table) each(key string, f func(name string, v value)) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	if sub, ok := v.table(); ok {
		sub.entries(f)
	}
}

func (t *table) entries(f func(name string, v value)) {
	for _, name := range t.names() {
		v, _ := t.get(name)
		f(name, v)
	}
}

// done reports every key that was not asked for as a fault.
func (t *table) done() {
	t.unknown(func(v value, key, hint string) { v.fail(hint, "unknown key") })
}

// lenient is done for tables that belong to another tool, whose newer keys must not stop us.
func (t *table) lenient() {
	t.unknown(func(v value, key, hint string) { v.warn("unknown key, ignored. %s", hint) })
}

func (t *table) unknown(tell func(v value, key, hint string)) {
	known := map[string]bool{}
	for _, k := range t.asked {
		known[k] = true
	}
	for _, k := range t.names() {
		if known[k] {
			continue
		}
		hint := "Known keys here: " + strings.Join(t.asked, ", ") + "."
		if n := nearest(k, t.asked); n != "" {
			hint = "Did you mean " + quoteKey(n) + "?"
		}
		tell(value{t.d, t.path.add(k), t.m[k]}, k, hint)
	}
}

func (t *table) has(key string) bool {
	_, ok := t.m[key]
	return ok
}

func (t *table) str(key string) string {
	if v, ok := t.get(key); ok {
		s, _ := v.str()
		return s
	}
	return ""
}

func (t *table) strs(key string) []string {
	if v, ok := t.get(key); ok {
		return v.strs()
	}
	return nil
}

func (t *table) bool(key string, unset bool) bool {
	v, ok := t.get(key)
	if !ok {
		return unset
	}
	b, ok := v.v.(bool)
	if !ok {
		v.expected("true or false", "Write true or false, without quotes.")
		return unset
	}
	return b
}

// int reads a whole number from lo to hi; 0 if the key is not there.
func (t *table) int(key string, lo, hi int64) int64 {
	v, ok := t.get(key)
	if !ok {
		return 0
	}
	n, ok := v.v.(int64)
	if !ok {
		v.expected("a whole number", "Write digits, without quotes.")
		return 0
	}
	if n < lo || n > hi {
		v.fail("", "%d is not between %d and %d", n, lo, hi)
		return 0
	}
	return n
}

// maxDuration bounds every duration of a manifest.
const maxDuration = 24 * time.Hour

func (t *table) duration(key string) time.Duration {
	const hint = `Write a duration such as "50ms", "10s" or "2m", at most "24h".`
	v, ok := t.get(key)
	if !ok {
		return 0
	}
	s, ok := v.v.(string)
	if !ok {
		v.expected("a duration", hint)
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxDuration {
		v.fail(hint, "%q is not a duration that can be used here", s)
		return 0
	}
	return d
}

// millis reads a number of milliseconds, as fastly.toml writes durations.
func (t *table) millis(key string) time.Duration {
	return time.Duration(t.int(key, 0, maxDuration.Milliseconds())) * time.Millisecond
}

var sizeUnits = []struct {
	suffix string
	bytes  float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}

// size reads a number of bytes from 1 to limit: a number, or a string with a unit.
func (t *table) size(key string, limit uint64) uint64 {
	return t.sizeIn(key, 1, limit, fmt.Sprintf(`Write a size such as "128MiB" or "64KiB", at most %d bytes.`, limit))
}

// sizeFrom reads a size that must not be too small either.
func (t *table) sizeFrom(key string, least, most uint64) uint64 {
	return t.sizeIn(key, least, most, fmt.Sprintf(`Write a size such as "16KiB", from %d to %d bytes.`, least, most))
}

func (t *table) sizeIn(key string, least, most uint64, hint string) uint64 {
	v, ok := t.get(key)
	if !ok {
		return 0
	}
	var n float64
	switch x := v.v.(type) {
	case int64:
		n = float64(x)
	case string:
		var err error
		if n, err = parseSize(x); err != nil {
			v.fail(hint, "%q is not a size", x)
			return 0
		}
	default:
		v.expected("a size", hint)
		return 0
	}
	if !(n >= float64(least) && n <= float64(most)) {
		v.fail(hint, "%v is not a size that can be used here", v.v)
		return 0
	}
	return uint64(n)
}

// ParseSize reads a number of bytes with a unit, such as 128MiB; without one they are bytes.
func ParseSize(s string) (int64, error) {
	n, err := parseSize(s)
	if err == nil && !(n >= 0 && n < 1<<62) {
		err = errors.New("not a size")
	}
	return int64(n), err
}

func parseSize(s string) (float64, error) {
	unit := 1.0
	for _, u := range sizeUnits {
		if num, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(num), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, errors.New("not a size")
	}
	return n * unit, nil
}
