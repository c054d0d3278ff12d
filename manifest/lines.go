package manifest

import (
	"strconv"
	"strings"
)

// A path names a value in a document: keys, and positions in arrays, which are written
// as a NUL and the number so that no key can look like one.
type path []string

func (p path) add(key string) path {
	q := make(path, len(p)+1)
	copy(q, p)
	q[len(p)] = key
	return q
}

func (p path) index(i int) path { return p.add("\x00" + strconv.Itoa(i)) }

func (p path) id() string { return strings.Join(p, "\x01") }

// String writes the path as a person would: backends.origin.ca[0].
func (p path) String() string {
	var b strings.Builder
	for i, k := range p {
		if n, ok := strings.CutPrefix(k, "\x00"); ok {
			b.WriteString("[" + n + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(quoteKey(k))
	}
	return b.String()
}

func quoteKey(k string) string {
	for _, r := range k {
		if !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return strconv.Quote(k)
		}
	}
	if k == "" {
		return `""`
	}
	return k
}

// lineIndex finds the line of every key and array element of a TOML text that has been
// parsed already, so it need not check grammar. The TOML library keeps such positions
// for itself and does not know those in arrays of tables.
func lineIndex(text string) map[string]int {
	s := lineScanner{text: text, line: 1, lines: map[string]int{}, arrays: map[string]int{}}
	var table path
	for {
		s.skip(" \t\r\n")
		switch {
		case s.pos >= len(s.text):
			return s.lines
		case s.text[s.pos] == '[':
			table = s.header()
		default:
			s.pair(table)
		}
	}
}

type lineScanner struct {
	text   string
	pos    int
	line   int
	lines  map[string]int // by path.id
	arrays map[string]int // number of tables so far in each array of tables
}

// skip moves over the given characters and over comments.
func (s *lineScanner) skip(chars string) {
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		switch {
		case c == '#':
			for s.pos < len(s.text) && s.text[s.pos] != '\n' {
				s.pos++
			}
		case strings.IndexByte(chars, c) >= 0:
			s.step()
		default:
			return
		}
	}
}

func (s *lineScanner) step() {
	if s.text[s.pos] == '\n' {
		s.line++
	}
	s.pos++
}

func (s *lineScanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// note keeps the first line seen for each path, also for the tables it implies.
func (s *lineScanner) note(p path) {
	for i := len(p); i > 0; i-- {
		id := p[:i].id()
		if _, ok := s.lines[id]; ok {
			return
		}
		s.lines[id] = s.line
	}
}

func (s *lineScanner) header() path {
	double := strings.HasPrefix(s.text[s.pos:], "[[")
	s.skip("[ \t")
	keys := s.keys("]")
	s.skip("] \t")
	var p path
	for i, k := range keys {
		p = p.add(k)
		n, isArray := s.arrays[p.id()]
		if double && i == len(keys)-1 {
			s.note(p)
			s.arrays[p.id()] = n + 1
			p = p.index(n)
		} else if isArray {
			p = p.index(n - 1)
		}
	}
	s.note(p)
	return p
}

// keys reads a dotted key up to one of the end characters.
func (s *lineScanner) keys(end string) []string {
	var keys []string
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case strings.IndexByte(end, c) >= 0 || c == '\n':
			return keys
		case c == '"' || c == '\'':
			keys = append(keys, s.quoted())
		case c == '.' || c == ' ' || c == '\t' || c == '\r':
			s.pos++
		default:
			from := s.pos
			s.pos++ // whatever it is: never stand still
			for s.pos < len(s.text) && strings.IndexByte(" \t\r\n.=]\"'", s.text[s.pos]) < 0 {
				s.pos++
			}
			keys = append(keys, s.text[from:s.pos])
		}
	}
	return keys
}

func (s *lineScanner) pair(table path) {
	p := append(path(nil), table...)
	for _, k := range s.keys("=") {
		p = p.add(k)
	}
	s.note(p)
	if s.peek() != '=' { // not TOML; go on somewhere
		s.pos = min(s.pos+1, len(s.text))
		return
	}
	s.pos++
	s.value(p)
}

func (s *lineScanner) value(p path) {
	s.skip(" \t")
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		s.pos++
		for i := 0; ; i++ {
			s.skip(" \t\r\n,")
			if c := s.peek(); c == ']' || c == 0 {
				s.pos = min(s.pos+1, len(s.text))
				return
			}
			s.note(p.index(i))
			s.value(p.index(i))
		}
	case '{':
		s.pos++
		for {
			s.skip(" \t\r\n,")
			if c := s.peek(); c == '}' || c == 0 {
				s.pos = min(s.pos+1, len(s.text))
				return
			}
			s.pair(p)
		}
	default:
		from := s.pos
		for s.pos < len(s.text) && strings.IndexByte(",]}#\n", s.text[s.pos]) < 0 {
			s.pos++
		}
		if s.pos == from && s.pos < len(s.text) && s.text[s.pos] != '\n' {
			s.pos++ // not TOML; never stand still
		}
	}
}

// quoted moves over any of the four kinds of string and returns its value, as far as
// keys need it: escapes are understood in one-line strings only.
func (s *lineScanner) quoted() string {
	q := s.text[s.pos : s.pos+1]
	if triple := strings.Repeat(q, 3); strings.HasPrefix(s.text[s.pos:], triple) {
		s.long(q, triple)
		return ""
	}
	from := s.pos
	s.pos++
	for s.pos < len(s.text) && s.text[s.pos] != q[0] && s.text[s.pos] != '\n' {
		if q == `"` && s.text[s.pos] == '\\' {
			s.pos++
		}
		s.pos++
	}
	s.pos = min(s.pos+1, len(s.text))
	raw := s.text[from:s.pos]
	if q == `"` {
		if v, err := strconv.Unquote(raw); err == nil {
			return v
		}
	}
	return strings.Trim(raw, q)
}

func (s *lineScanner) long(q, triple string) {
	s.pos += 3
	for s.pos < len(s.text) && !strings.HasPrefix(s.text[s.pos:], triple) {
		if q == `"` && s.text[s.pos] == '\\' && s.pos+1 < len(s.text) {
			s.step()
		}
		s.step()
	}
	s.pos = min(s.pos+3, len(s.text))
	for s.pos < len(s.text) && s.text[s.pos] == q[0] { // a string may end in quotes of its own
		s.pos++
	}
}
