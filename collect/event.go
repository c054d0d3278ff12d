package collect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
)

// Bounds of a beacon.
const (
	MaxBody   = 64 << 10 // what navigator.sendBeacon sends at most
	maxEvents = 500
	maxFields = 64
	maxDepth  = 4
	maxField  = 64  // bytes of a field's name
	maxText   = 256 // bytes of a value; the rest is cut off
)

// Event is what a client reports: fields and their values as text. A field within another has both names, with a dot between.
type Event map[string]string

// Parse reads the body of a beacon: a JSON object, an array of them, several one after the other (NDJSON), or a form. Clients send JSON as
// text/plain, too, so that their browser asks nobody first.
func Parse(contentType string, body []byte) (list []Event, err error) {
	if len(body) > MaxBody {
		return nil, invalid("it has more than 64 KiB")
	}
	if kind, _, _ := strings.Cut(contentType, ";"); strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return ParseForm(string(body))
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, invalid("it is not JSON: " + err.Error())
		}
		many, isList := v.([]any)
		if !isList {
			many = []any{v}
		}
		for _, one := range many {
			m, ok := one.(map[string]any)
			if !ok || len(list) == maxEvents {
				return nil, invalid("it is to be up to " + strconv.Itoa(maxEvents) + " objects")
			}
			e := Event{}
			if !e.flatten("", m, 0) {
				return nil, invalid("an event has too many fields, or too long names")
			}
			list = append(list, e)
		}
	}
	if len(list) == 0 {
		return nil, invalid("it has no event")
	}
	return list, nil
}

// ParseForm reads one event from a query or a form.
func ParseForm(text string) ([]Event, error) {
	values, err := url.ParseQuery(text)
	if err != nil || len(text) > MaxBody || len(values) == 0 {
		return nil, invalid("it is no form")
	}
	e := Event{}
	for name, v := range values {
		if !e.set(name, v[0]) {
			return nil, invalid("an event has too many fields, or too long names")
		}
	}
	return []Event{e}, nil
}

func invalid(why string) error {
	return &wedge.Error{Op: "read beacon", Kind: wedge.Invalid, Err: errors.New(why), Hint: "Send a JSON object, an array of them, one on each line, or a form."}
}

func (e Event) flatten(under string, m map[string]any, depth int) bool {
	for name, v := range m {
		ok := true
		switch v := v.(type) {
		case string:
			ok = e.set(under+name, v)
		case json.Number:
			ok = e.set(under+name, v.String())
		case bool:
			ok = e.set(under+name, strconv.FormatBool(v))
		case map[string]any:
			ok = depth < maxDepth && e.flatten(under+name+".", v, depth+1)
		} // null is as if it was not there, and lists are of no use
		if !ok {
			return false
		}
	}
	return true
}

func (e Event) set(name, v string) bool {
	e[name] = cut(v)
	return len(e) <= maxFields && len(name) <= maxField
}

// cut makes a value short and valid UTF-8.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
