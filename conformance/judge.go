package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// heard is what the runner knows when an exchange is over.
type heard struct {
	n        int
	resp     *response
	asked    []*seen // the origin's, when the head of the response arrived
	answered int     // of those, how many the origin had begun to answer
}

// judge compares what happened with what was expected. The error teaches.
func (p *play) judge(h heard) error {
	x := &p.c.exchanges[h.n-1]
	for _, check := range []func(*exchange, heard) error{p.source, p.status, p.from, p.fields, p.body, p.interims, p.lines} {
		if err := check(x, h); err != nil {
			return fmt.Errorf("%s:%d, exchange %d: %w", p.c.File, x.line, h.n, err)
		}
	}
	return nil
}

func (p *play) source(x *exchange, h heard) error {
	conditional := slices.ContainsFunc(h.asked, (*seen).conditional)
	switch want := x.expect.source; {
	case want == hit && conditional:
		return errors.New("the origin was asked, with a precondition; a stored response could have been the answer")
	case want == hit && len(h.asked) > 0:
		return errors.New("the origin was asked; a stored response could have been the answer")
	case (want == miss || want == validated) && len(h.asked) == 0:
		return fmt.Errorf("the origin was not asked, and should have been; the client got %d, %s", h.resp.status, whose(h.resp))
	case want == validated && !conditional:
		return errors.New("the origin was asked, but not with If-None-Match or If-Modified-Since")
	case want == background && h.answered > 0:
		return errors.New("the client had to wait for the origin; a stale response could have been the answer at once")
	case want == background && len(h.asked) == 0:
		return errors.New("a stored response was the answer, but nobody asked the origin afterwards")
	}
	return nil
}

func whose(r *response) string {
	if n := r.answerOf(); n > 0 {
		return fmt.Sprintf("the origin's answer to exchange %d", n)
	}
	return "which the origin never sent"
}

// answerOf returns the exchange whose answer this is, or 0.
func (r *response) answerOf() int {
	v, _ := joined(r.fields, "Conf-Answer")
	n, _ := strconv.Atoi(v)
	return n
}

func (p *play) status(x *exchange, h heard) error {
	want := x.expect.status
	if len(want) == 0 && x.expect.from == fromAny {
		return nil
	}
	if len(want) == 0 {
		want = []int{x.answer.status}
		if n := h.resp.answerOf(); n > 0 && n <= len(p.c.exchanges) {
			want = []int{p.c.exchanges[n-1].answer.status}
		} else if x.answer.status == 304 || !x.answer.scripted {
			want = []int{200}
		}
	}
	if slices.Contains(want, h.resp.status) {
		return nil
	}
	return fmt.Errorf("the status is %d, %s; expected %s", h.resp.status, whose(h.resp), strings.Trim(fmt.Sprint(want), "[]"))
}

// from checks whose answer the client got.
func (p *play) from(x *exchange, h heard) error {
	got, want := h.resp.answerOf(), x.expect.from
	switch {
	case want == fromAny, h.resp.status == 304:
		return nil
	case want == fromProxy:
		if got != 0 {
			return fmt.Errorf("the client got %s; an answer of the proxy's own was expected", whose(h.resp))
		}
		return nil
	case want > 0:
		if got != want {
			return fmt.Errorf("the client got %d, %s; that to exchange %d was expected", h.resp.status, whose(h.resp), want)
		}
		return nil
	}
	return p.usual(x, h, got)
}

func (p *play) usual(x *exchange, h heard, got int) error {
	stored := x.expect.source == hit || x.expect.source == background || x.answer.status == 304
	switch {
	case x.expect.source == anywhere || h.resp.status == 416:
		return nil
	case stored && (got < 1 || got >= h.n):
		return fmt.Errorf("the client got %d, %s; a stored answer was expected", h.resp.status, whose(h.resp))
	case !stored && got != h.n && slices.Contains(x.expect.status, h.resp.status) && got == 0:
		return nil // the proxy made the expected status of what the origin sent
	case !stored && got != h.n:
		return fmt.Errorf("the client got %d, %s; that to exchange %d was expected", h.resp.status, whose(h.resp), h.n)
	}
	return nil
}

func (p *play) fields(x *exchange, h heard) error {
	if wrong := p.all(x.expect.response, h.resp.fields); wrong != "" {
		return fmt.Errorf("in the response, %s", wrong)
	}
	if wrong := p.all(x.expect.trailers, h.resp.body.trailers); wrong != "" {
		return fmt.Errorf("in the trailer, %s", wrong)
	}
	wrong := p.all(x.expect.saw, nil)
	for _, s := range h.asked { // a proxy may ask again; one of its requests must be as expected
		if wrong = p.all(x.expect.saw, s.fields); wrong == "" {
			break
		}
	}
	if wrong != "" {
		return fmt.Errorf("in the request at the origin, %s", wrong)
	}
	return nil
}

// all returns what is wrong with the first of matches that fields do not agree with.
func (p *play) all(matches []match, fields []field) string {
	for _, m := range matches {
		m.value = p.vars.must(m.value)
		if wrong := m.check(fields); wrong != "" {
			return wrong
		}
	}
	return ""
}

func (p *play) body(x *exchange, h heard) error {
	b := h.resp.body
	switch {
	case x.expect.truncated && !b.cut && h.resp.status < 500:
		return fmt.Errorf("the body of %d bytes seems whole, and the origin's was cut", len(b.text))
	case b.cut && !x.expect.truncated && x.expect.from != fromAny:
		return fmt.Errorf("the body ended after %d bytes, before it should", len(b.text))
	}
	want := x.expect.body
	if from := h.resp.answerOf(); want == nil && !b.cut && x.request.method != "HEAD" && h.resp.status == 200 && from > 0 && from <= len(p.c.exchanges) {
		text := p.c.bodyOf(from)
		want = &text
	}
	if want != nil && b.text != *want {
		return fmt.Errorf("the body is %q, not %q", shorten(b.text), shorten(*want))
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

func (p *play) interims(x *exchange, h heard) error {
	if x.expect.noInterim && len(h.resp.interim) > 0 {
		return fmt.Errorf("an interim response %d came, and none was expected", h.resp.interim[0].status)
	}
	for _, want := range x.expect.interim {
		ok := slices.ContainsFunc(h.resp.interim, func(r interimResponse) bool {
			return r.status == want.status && want.match.check(r.fields) == ""
		})
		if !ok {
			return fmt.Errorf("no interim response %d came with the expected %s (%d came)", want.status, want.match.name, len(h.resp.interim))
		}
	}
	return nil
}

func (p *play) lines(x *exchange, h heard) error {
	for _, want := range x.expect.lines {
		if got := valuesOf(h.resp.fields, want[0]); !slices.Equal(got, want[1:]) {
			return fmt.Errorf("the lines of %s are %q, not %q", want[0], got, want[1:])
		}
	}
	return nil
}
