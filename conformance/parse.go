package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The grammar of testdata/cache/*.txt. One statement a line; lines may be indented as one likes;
// lines that begin with # and empty lines say nothing. An unknown word is an error.
//
//	section NUMBER-OF-RFC SECTION TITLE     once, first
//	needs CASE...                           for all cases of the file
//	case NAME required|optimal|check        a case begins
//	  about TEXT                            what is asked; several make one text
//	  needs CASE...
//	  each NAME=VALUE...                    the case is repeated for each such line, with {NAME}
//	                                        replaced, in its own name too. Values may be quoted.
//	                                        Here alone {target} stands for the field of RFC 9213
//	                                        that the proxy reads besides CDN-Cache-Control; if it
//	                                        reads none, the case does not exist
//	  request METHOD [SUFFIX]               an exchange begins; SUFFIX follows the case's path
//	    wait 3s                             before the request goes out
//	    > Name: value                       a header line, sent as it stands
//	    body TEXT
//	  origin STATUS                         what the origin answers if it is asked
//	    > Name: value
//	    body TEXT                           otherwise a body that names the exchange
//	    interim STATUS Name: value          an interim response goes out first
//	    chunked                             with chunked coding
//	    trailer Name: value                 after the chunks
//	    length N|none                       Content-Length says so, whatever is true
//	    cut N                               the connection ends after N bytes of the body
//	    delay 1s
//	    nodate                              no Date
//	    ranges                              Range and If-Range are honoured
//	    validates                           If-None-Match and If-Modified-Since are honoured
//	  origin cut                            it hangs up instead
//	  expect any|hit|miss|validated|background [STATUS[|STATUS]] [from N|any|proxy]
//	    < MATCH                             about the response; match.go has the notation
//	    saw MATCH                           about the request at the origin; also :method, :target, :body
//	    trailer MATCH
//	    interim STATUS MATCH
//	    interim none
//	    lines Name: a | b                   these lines, one by one
//	    body TEXT
//	    truncated                           the client can tell that the body is not whole, or gets
//	                                        an error instead
//
// The origin adds Date and Conf-Answer (the number of the exchange) to what it sends, the client
// Host and Conf-Req-Num. An exchange whose origin is not described answers 200 with no-store.

// parser reads one file.
type parser struct {
	file    string
	target  string
	section string
	title   string
	needs   []string
	cases   []*Case
}

// line is one statement: a word and the rest.
type line struct {
	n          int
	text       string
	word, rest string
}

// parse reads the cases of one file. Those about {target} are left out if target is "".
func parse(file, text, target string) ([]*Case, error) {
	p := &parser{file: file, target: target}
	lines, err := p.split(text)
	if err != nil {
		return nil, err
	}
	for len(lines) > 0 {
		end := 1 + slices.IndexFunc(lines[1:], func(l line) bool { return l.word == "case" })
		if end == 0 {
			end = len(lines)
		}
		if lines[0].word == "case" {
			err = p.repeat(lines[:end])
		} else {
			err = p.preface(lines[:end])
		}
		if err != nil {
			return nil, err
		}
		lines = lines[end:]
	}
	return p.cases, nil
}

func (p *parser) fail(n int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", p.file, n, fmt.Errorf(format, args...))
}

func (p *parser) split(text string) ([]line, error) {
	var lines []line
	for i, s := range strings.Split(text, "\n") {
		if s != strings.TrimRight(s, " \t\r") {
			return nil, p.fail(i+1, "white space at the end; write {space} if it is meant")
		}
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(s, " ")
		lines = append(lines, line{i + 1, s, word, rest})
	}
	return lines, nil
}

// preface reads what stands before the first case.
func (p *parser) preface(lines []line) error {
	for _, l := range lines {
		switch l.word {
		case "section":
			f := strings.SplitN(l.rest, " ", 3)
			if len(f) != 3 || p.section != "" {
				return p.fail(l.n, "one section, as in: section 9111 4.2 Freshness")
			}
			p.section, p.title = "RFC "+f[0]+" "+f[1], f[2]
		case "needs":
			p.needs = append(p.needs, strings.Fields(l.rest)...)
		default:
			return p.fail(l.n, "%q does not belong before the first case", l.word)
		}
	}
	return nil
}

// repeat reads one case, once for each of its "each" lines.
func (p *parser) repeat(lines []line) error {
	var sets []map[string]string
	var rest []line
	for _, l := range lines {
		if l.word != "each" {
			rest = append(rest, l)
			continue
		}
		set, err := parseEach(l.rest)
		if err != nil {
			return p.fail(l.n, "%w", err)
		}
		sets = append(sets, set)
	}
	if sets == nil {
		sets = []map[string]string{{}}
	}
	for _, set := range sets {
		if strings.Contains(fmt.Sprint(set), "{target}") && p.target == "" {
			continue
		}
		for name := range set {
			set[name] = strings.ReplaceAll(set[name], "{target}", p.target)
		}
		if err := p.oneCase(rest, set); err != nil {
			return err
		}
	}
	return nil
}

func parseEach(s string) (map[string]string, error) {
	set := map[string]string{}
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		name, rest, ok := strings.Cut(s, "=")
		if !ok || !isToken(name) {
			return nil, fmt.Errorf("%q is not NAME=VALUE", s)
		}
		if rest != "" && (rest[0] == '"' || rest[0] == '`') {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("the value of %s is not quoted well", name)
			}
			set[name], _ = strconv.Unquote(quoted)
			s = rest[len(quoted):]
			continue
		}
		set[name], s, _ = strings.Cut(rest, " ")
	}
	if len(set) == 0 {
		return nil, errors.New("each of what? Write NAME=VALUE")
	}
	return set, nil
}

// replaceEach puts the values of an "each" line in, and leaves other placeholders for later.
func replaceEach(s string, set map[string]string) string {
	for name, value := range set {
		s = strings.ReplaceAll(s, "{"+name+"}", value)
	}
	return s
}

func (p *parser) oneCase(lines []line, set map[string]string) error {
	head := lines[0]
	f := strings.Fields(replaceEach(head.rest, set))
	if len(f) != 2 || !isToken(f[0]) || !slices.Contains(levels, f[1]) {
		return p.fail(head.n, "a case has a name and a level, as in: case max-age required")
	}
	if p.section == "" {
		return p.fail(head.n, "no section line before the first case")
	}
	c := &Case{Name: f[0], Section: p.section, Title: p.title, File: p.file, Line: head.n}
	c.Level = Level(slices.Index(levels, f[1]))
	c.Needs = slices.Clone(p.needs)
	b := &caseParser{c: c, where: caseWords}
	for _, l := range lines[1:] {
		word, rest, _ := strings.Cut(replaceEach(l.text, set), " ")
		if err := b.statement(word, rest, l.n); err != nil {
			return p.fail(l.n, "%w", err)
		}
	}
	if err := b.finish(); err != nil {
		return p.fail(head.n, "case %s: %w", c.Name, err)
	}
	p.cases = append(p.cases, c)
	return nil
}

func parseWait(s string, bound time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > bound {
		return 0, fmt.Errorf("%q is not a time such as 3s, of at most %v", s, bound)
	}
	return d, nil
}
