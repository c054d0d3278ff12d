package conformance

import (
	"fmt"
	"strconv"
	"strings"
)

// match is one statement about a header field.
type match struct {
	name   string
	op     string // "is", "present", "absent", "within", "has", "lacks", "sf"
	value  string
	lo, hi int
}

// parseMatch reads one of
//
//	Name: value      its lines, joined with ", ", are this
//	Name             it is there
//	no Name          it is not there
//	Name 3..6        it is one whole number from 3 to 6
//	Name has TEXT    TEXT stands somewhere in it
//	Name lacks TEXT  it does not, or the field is missing
//	Name sf list     it is a list by RFC 9651
//	Name sf after X  it is a list, in which X stands, and not last
//	Name sf last P   it is a list whose last member has the parameter P; P=V: with that value;
//	                 no P: without it
func parseMatch(s string) (match, error) {
	if i := nameEnd(s); i > 0 && isName(s[:i]) {
		return match{name: s[:i], op: "is", value: strings.TrimSpace(s[i+1:])}, nil
	}
	if name, ok := strings.CutPrefix(s, "no "); ok && isName(name) {
		return match{name: name, op: "absent"}, nil
	}
	name, rest, more := strings.Cut(s, " ")
	if !isName(name) {
		return match{}, fmt.Errorf("%q is not the name of a field", name)
	}
	if !more {
		return match{name: name, op: "present"}, nil
	}
	return parseOp(name, rest)
}

// nameEnd returns where the colon after a name stands, or -1.
func nameEnd(s string) int {
	name, _, _ := strings.Cut(s, " ")
	first := strings.Index(strings.TrimPrefix(name, ":"), ":")
	if first < 0 {
		return -1
	}
	return first + len(name) - len(strings.TrimPrefix(name, ":"))
}

func parseOp(name, rest string) (match, error) {
	op, value, ok := strings.Cut(rest, " ")
	if ok && (op == "has" || op == "lacks" || op == "sf" && isListCheck(value)) {
		return match{name: name, op: op, value: value}, nil
	}
	lo, hi, ok := strings.Cut(rest, "..")
	m := match{name: name, op: "within"}
	var err1, err2 error
	m.lo, err1 = strconv.Atoi(lo)
	m.hi, err2 = strconv.Atoi(hi)
	if !ok || err1 != nil || err2 != nil || m.lo > m.hi {
		return match{}, fmt.Errorf("%q is not \"has TEXT\", \"lacks TEXT\", \"sf ...\" or a range such as 3..6", rest)
	}
	return m, nil
}

// isName allows a field's name, and :method, :target and :body.
func isName(s string) bool { return isToken(strings.TrimPrefix(s, ":")) }

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// check returns "" if fields agree with m, or what is wrong with them.
func (m match) check(fields []field) string {
	got, n := joined(fields, m.name)
	is := fmt.Sprintf("%s is %q", m.name, got)
	if n == 0 {
		is = m.name + " is missing"
	}
	wrong := ""
	switch m.op {
	case "is":
		if n == 0 || got != m.value {
			wrong = fmt.Sprintf("%s, not %q", is, m.value)
		}
	case "present":
		if n == 0 {
			wrong = is
		}
	case "absent":
		if n != 0 {
			wrong = is + ", and it should not be there"
		}
	case "has":
		if !strings.Contains(got, m.value) {
			wrong = fmt.Sprintf("%s, without %q", is, m.value)
		}
	case "lacks":
		if strings.Contains(got, m.value) {
			wrong = fmt.Sprintf("%s, with %q", is, m.value)
		}
	case "sf":
		wrong = checkList(got, m.value)
	case "within":
		if v, err := strconv.Atoi(got); err != nil || v < m.lo || v > m.hi {
			wrong = fmt.Sprintf("%s, not a number from %d to %d", is, m.lo, m.hi)
		}
	}
	return wrong
}
