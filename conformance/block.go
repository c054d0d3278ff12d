package conformance

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The statements inside request, origin and expect. The grammar is in parse.go.

func checkField(s string) error {
	name, _, ok := strings.Cut(s, ":")
	if !ok || strings.TrimSpace(name) == "" {
		return fmt.Errorf("%q is not a header line", s)
	}
	return nil
}

func (b *caseParser) requestField(rest string) error {
	b.last().request.fields = append(b.last().request.fields, rest)
	return checkField(rest)
}

func (b *caseParser) requestBody(rest string) error {
	b.last().request.body = rest
	return nil
}

func (b *caseParser) wait(rest string) (err error) {
	b.last().request.wait, err = parseWait(rest, maxWait)
	return err
}

func (b *caseParser) answerField(rest string) error {
	b.last().answer.fields = append(b.last().answer.fields, rest)
	return checkField(rest)
}

func (b *caseParser) answerBody(rest string) error {
	b.last().answer.body = &rest
	return nil
}

func (b *caseParser) answerInterim(rest string) error {
	status, line, _ := strings.Cut(rest, " ")
	n, err := parseStatus(status)
	if err != nil {
		return err
	}
	b.last().answer.interim = append(b.last().answer.interim, interim{n, line})
	return checkField(line)
}

func (b *caseParser) answerTrailer(rest string) error {
	a := &b.last().answer
	if !a.chunked {
		return errors.New("a trailer needs chunked coding: say chunked first")
	}
	a.trailers = append(a.trailers, rest)
	return checkField(rest)
}

func (b *caseParser) length(rest string) error {
	b.last().answer.length = rest
	if _, err := strconv.Atoi(rest); err != nil && rest != "none" {
		return fmt.Errorf("%q is not a length", rest)
	}
	return nil
}

func (b *caseParser) cut(rest string) error {
	n, err := strconv.Atoi(rest)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a number of bytes", rest)
	}
	b.last().answer.cut = n
	return nil
}

func (b *caseParser) delay(rest string) (err error) {
	b.last().answer.delay, err = parseWait(rest, maxDelay)
	return err
}

func answerFlag(of func(*answer) *bool) func(*caseParser, string) error {
	return func(b *caseParser, rest string) error {
		*of(&b.last().answer) = true
		if rest != "" {
			return fmt.Errorf("%q is too much", rest)
		}
		return nil
	}
}

func (b *caseParser) response(rest string) error {
	m, err := parseMatch(rest)
	b.last().expect.response = append(b.last().expect.response, m)
	return err
}

func (b *caseParser) saw(rest string) error {
	m, err := parseMatch(rest)
	b.last().expect.saw = append(b.last().expect.saw, m)
	if b.last().expect.source == hit {
		return errors.New("with a hit the origin sees nothing")
	}
	return err
}

func (b *caseParser) expectTrailer(rest string) error {
	m, err := parseMatch(rest)
	b.last().expect.trailers = append(b.last().expect.trailers, m)
	return err
}

func (b *caseParser) expectInterim(rest string) error {
	if rest == "none" {
		b.last().expect.noInterim = true
		return nil
	}
	status, rest, _ := strings.Cut(rest, " ")
	n, err := parseStatus(status)
	if err != nil {
		return err
	}
	m, err := parseMatch(rest)
	b.last().expect.interim = append(b.last().expect.interim, interimMatch{n, m})
	return err
}

func (b *caseParser) expectLines(rest string) error {
	name, values, ok := strings.Cut(rest, ":")
	if !ok || !isToken(name) {
		return fmt.Errorf("%q is not NAME: VALUE | VALUE", rest)
	}
	line := []string{name}
	for v := range strings.SplitSeq(values, "|") {
		line = append(line, strings.TrimSpace(v))
	}
	b.last().expect.lines = append(b.last().expect.lines, line)
	return nil
}

func (b *caseParser) expectBody(rest string) error {
	b.last().expect.body = &rest
	return nil
}

func (b *caseParser) truncated(rest string) error {
	b.last().expect.truncated = true
	if rest != "" {
		return fmt.Errorf("%q is too much", rest)
	}
	return nil
}
