// Package jsonscan walks through a JSON text and reports its scalars: all that the small
// records of the host need, without encoding/json and its start-up cost.
package jsonscan

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrSyntax reports that the text is not JSON, or nested deeper than 64 levels.
var ErrSyntax = errors.New("not valid json")

const maxDepth = 64

// Visit is called for each scalar with its path, for example "device.is_mobile"; elements
// of an array have the path of the array. Strings come decoded; numbers, true, false as written;
// null is not reported.
type Visit func(path, value string)

// Scan walks through one JSON value.
func Scan(text []byte, visit Visit) error {
	s := scanner{text: text, visit: visit}
	if s.value("", 0) && s.space() == 0 && s.pos == len(text) {
		return nil
	}
	return ErrSyntax
}

type scanner struct {
	text  []byte
	pos   int
	visit Visit
}

// space skips white space and returns the byte that follows; 0 at the end.
func (s *scanner) space() byte {
	for ; s.pos < len(s.text); s.pos++ {
		switch c := s.text[s.pos]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) value(path string, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch c := s.space(); {
	case c == '{':
		return s.list('}', func() bool {
			name, ok := s.str()
			if !ok || s.space() != ':' {
				return false
			}
			s.pos++
			if path != "" {
				name = path + "." + name
			}
			return s.value(name, depth+1)
		})
	case c == '[':
		return s.list(']', func() bool { return s.value(path, depth+1) })
	case c == '"':
		v, ok := s.str()
		if ok {
			s.visit(path, v)
		}
		return ok
	default:
		return s.word(path)
	}
}

// list reads an object or array whose opening bracket is next.
func (s *scanner) list(end byte, item func() bool) bool {
	s.pos++
	if s.space() == end {
		s.pos++
		return true
	}
	for {
		if end == '}' && s.space() != '"' || !item() {
			return false
		}
		switch s.space() {
		case ',':
			s.pos++
		case end:
			s.pos++
			return true
		default:
			return false
		}
	}
}

// word reads a number, true, false or null.
func (s *scanner) word(path string) bool {
	start := s.pos
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'E' {
			s.pos++
			continue
		}
		break
	}
	w := string(s.text[start:s.pos])
	switch w {
	case "null":
		return true
	case "true", "false":
	default:
		if !number(w) {
			return false
		}
	}
	s.visit(path, w)
	return true
}

// number reports whether w is a number of RFC 8259 section 6.
func number(w string) bool {
	i := 0
	digits := func() bool {
		start := i
		for i < len(w) && w[i] >= '0' && w[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(w) && w[i] == '-' {
		i++
	}
	lead := i
	if !digits() || w[lead] == '0' && i > lead+1 {
		return false
	}
	if i < len(w) && w[i] == '.' {
		if i++; !digits() {
			return false
		}
	}
	if i < len(w) && (w[i] == 'e' || w[i] == 'E') {
		if i++; i < len(w) && (w[i] == '+' || w[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(w)
}

// str reads a string whose opening quote is next.
func (s *scanner) str() (string, bool) {
	s.pos++
	var out []byte
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '"':
			return string(out), true
		case c < ' ':
			return "", false
		case c == '\\':
			var ok bool
			if out, ok = s.escape(out); !ok {
				return "", false
			}
		default:
			out = append(out, c)
		}
	}
	return "", false
}

func (s *scanner) escape(out []byte) ([]byte, bool) {
	if s.pos >= len(s.text) {
		return nil, false
	}
	c := s.text[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/':
		return append(out, c), true
	case 'b':
		return append(out, '\b'), true
	case 'f':
		return append(out, '\f'), true
	case 'n':
		return append(out, '\n'), true
	case 'r':
		return append(out, '\r'), true
	case 't':
		return append(out, '\t'), true
	case 'u':
		r, ok := s.hex()
		if !ok {
			return nil, false
		}
		if utf16.IsSurrogate(r) {
			r = s.lowSurrogate(r)
		}
		return utf8.AppendRune(out, r), true
	}
	return nil, false
}

// lowSurrogate completes a pair; a lone half becomes U+FFFD and what follows stays.
func (s *scanner) lowSurrogate(high rune) rune {
	before := s.pos
	if s.pos+1 < len(s.text) && s.text[s.pos] == '\\' && s.text[s.pos+1] == 'u' {
		s.pos += 2
		if low, ok := s.hex(); ok {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				return r
			}
		}
	}
	s.pos = before
	return utf8.RuneError
}

func (s *scanner) hex() (rune, bool) {
	if s.pos+4 > len(s.text) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s.text[s.pos:s.pos+4]), 16, 16)
	s.pos += 4
	return rune(n), err == nil
}
