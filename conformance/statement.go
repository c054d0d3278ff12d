package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds on how long a case may wait, and on how long the origin may take.
const (
	maxWait  = 10 * time.Second
	maxDelay = 5 * time.Second
)

// caseParser reads the statements of one case.
type caseParser struct {
	c     *Case
	where words // what may be said now
	line  int
}

// words are the statements of one block, by their first word.
type words map[string]func(b *caseParser, rest string) error

var caseWords, requestWords, originWords, expectWords words

// The tables are filled here because their functions refer to them.
func init() {
	caseWords = words{"about": (*caseParser).about, "needs": (*caseParser).needs}
	requestWords = words{">": (*caseParser).requestField, "wait": (*caseParser).wait, "body": (*caseParser).requestBody}
	originWords = words{
		">": (*caseParser).answerField, "body": (*caseParser).answerBody, "interim": (*caseParser).answerInterim,
		"trailer": (*caseParser).answerTrailer, "length": (*caseParser).length, "cut": (*caseParser).cut, "delay": (*caseParser).delay,
		"chunked":   answerFlag(func(a *answer) *bool { return &a.chunked }),
		"nodate":    answerFlag(func(a *answer) *bool { return &a.noDate }),
		"ranges":    answerFlag(func(a *answer) *bool { return &a.ranges }),
		"validates": answerFlag(func(a *answer) *bool { return &a.validates }),
	}
	expectWords = words{
		"<": (*caseParser).response, "saw": (*caseParser).saw, "trailer": (*caseParser).expectTrailer,
		"interim": (*caseParser).expectInterim, "body": (*caseParser).expectBody, "lines": (*caseParser).expectLines,
		"truncated": (*caseParser).truncated,
	}
}

// statement reads one line. "request", "origin" and "expect" open a block, the rest belongs to one.
func (b *caseParser) statement(word, rest string, n int) error {
	b.line = n
	if _, err := neutral().expand(rest); err != nil {
		return err
	}
	switch word {
	case "request":
		return b.request(rest)
	case "origin":
		return b.origin(rest)
	case "expect":
		return b.expect(rest)
	}
	f, ok := b.where[word]
	if !ok {
		return fmt.Errorf("%q has no meaning here", word)
	}
	return f(b, rest)
}

func (b *caseParser) last() *exchange { return &b.c.exchanges[len(b.c.exchanges)-1] }

func (b *caseParser) about(rest string) error {
	b.c.About = strings.TrimSpace(b.c.About + " " + rest)
	return nil
}

func (b *caseParser) needs(rest string) error {
	b.c.Needs = append(b.c.Needs, strings.Fields(rest)...)
	return nil
}

// request begins an exchange.
func (b *caseParser) request(rest string) error {
	if err := b.complete(); err != nil {
		return err
	}
	method, suffix, _ := strings.Cut(rest, " ")
	if !isToken(method) || strings.Contains(suffix, " ") {
		return fmt.Errorf("%q is not a method and perhaps a suffix", rest)
	}
	if len(b.c.exchanges) == 9 {
		return errors.New("a case has at most 9 exchanges")
	}
	b.c.exchanges = append(b.c.exchanges, exchange{
		line:    b.line,
		request: request{method: method, suffix: suffix},
		answer:  answer{status: 200, cut: whole, fields: []string{"Cache-Control: no-store"}},
	})
	b.where = requestWords
	return nil
}

// complete complains about an exchange that expects nothing.
func (b *caseParser) complete() error {
	if len(b.c.exchanges) > 0 && b.last().expect.from == 0 {
		return fmt.Errorf("the exchange of line %d expects nothing", b.last().line)
	}
	return nil
}

func (b *caseParser) finish() error {
	if len(b.c.exchanges) == 0 || b.c.About == "" {
		return errors.New("it needs an about line and an exchange")
	}
	return b.complete()
}

// origin begins the script of the origin.
func (b *caseParser) origin(rest string) error {
	if len(b.c.exchanges) == 0 || b.last().answer.scripted || b.last().expect.from != 0 {
		return errors.New("origin stands once in an exchange, between request and expect")
	}
	a := answer{scripted: true, status: 200, cut: nothing}
	if rest != "cut" {
		status, err := parseStatus(rest)
		if err != nil {
			return err
		}
		a.status, a.cut = status, whole
	}
	b.last().answer = a
	b.where = originWords
	return nil
}

func parseStatus(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 || n > 999 {
		return 0, fmt.Errorf("%q is not a status code", s)
	}
	return n, nil
}

// expect begins what must be seen.
func (b *caseParser) expect(rest string) error {
	f := strings.Fields(rest)
	if len(b.c.exchanges) == 0 || b.last().expect.from != 0 || len(f) == 0 || !slices.Contains(sources, f[0]) {
		return fmt.Errorf("expect stands once in an exchange, and says one of %v", sources)
	}
	e := expect{source: source(slices.Index(sources, f[0])), from: fromUsual}
	if f = f[1:]; len(f) > 0 && f[0] != "from" {
		for s := range strings.SplitSeq(f[0], "|") {
			status, err := parseStatus(s)
			if err != nil {
				return err
			}
			e.status = append(e.status, status)
		}
		f = f[1:]
	}
	if len(f) > 0 {
		var err error
		if e.from, err = parseFrom(f, len(b.c.exchanges)); err != nil {
			return err
		}
	}
	b.last().expect = e
	b.where = expectWords
	return nil
}

func parseFrom(f []string, n int) (int, error) {
	if len(f) == 2 && f[0] == "from" {
		switch v, err := strconv.Atoi(f[1]); {
		case f[1] == "any":
			return fromAny, nil
		case f[1] == "proxy":
			return fromProxy, nil
		case err == nil && v > 0 && v <= n:
			return v, nil
		}
	}
	return 0, fmt.Errorf("%q is not: from any, from proxy, or from an exchange so far", strings.Join(f, " "))
}
