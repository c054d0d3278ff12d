package cache

import (
	"net/http"
	"net/textproto"
	"strings"
	"time"
)

// parseDate reads an HTTP date in any of its three formats (RFC 9110 section 5.6.7). A field given
// more than once, or malformed, is none.
func parseDate(lines []string) (time.Time, bool) {
	if len(lines) != 1 {
		return time.Time{}, false
	}
	s := textproto.TrimString(lines[0])
	t, err := http.ParseTime(s)
	if err != nil {
		return time.Time{}, false
	}
	if len(s) > 25 && !strings.HasSuffix(s, "GMT") && !strings.HasSuffix(s, "UTC") {
		return time.Time{}, false
	}
	return t, true
}

// dateOf returns the Date of a response, or when it came if it has none.
func dateOf(h http.Header, came time.Time) time.Time {
	if d, ok := parseDate(h["Date"]); ok {
		return d
	}
	return came
}

// ageField reads the Age that a response came with: the first value, 0 if there is none or it is malformed.
func ageField(lines []string) time.Duration {
	if len(lines) == 0 {
		return 0
	}
	first, _ := nextListItem(lines[0])
	first, _, _ = strings.Cut(first, ";")
	d, _ := parseSeconds(textproto.TrimString(first))
	return d
}

// initialAge is a response's age when it came (RFC 9111 section 4.2.3). A Date names a second: of a response made within the second in
// which it was asked for, the time since then is its age. Counted from the second's beginning, many that are fresh for a second would come stale.
func initialAge(h http.Header, asked, came time.Time) time.Duration {
	age := ageField(h["Age"]) + came.Sub(asked)
	if date := dateOf(h, came); asked.Sub(date) >= time.Second {
		age = max(age, came.Sub(date))
	}
	return max(0, age)
}
