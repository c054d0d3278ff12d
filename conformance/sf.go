package conformance

import (
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"
)

// checkList returns "" if text is a structured list (RFC 9651) of which want is true: "list",
// "after X", "last P", "last P=V", "last no P".
func checkList(text, want string) string {
	list, err := httpsfv.UnmarshalList([]string{text})
	if err != nil || len(list) == 0 {
		return fmt.Sprintf("%q is not a structured list with members: %v", text, err)
	}
	last, ok := list[len(list)-1].(httpsfv.Item)
	if !ok {
		return fmt.Sprintf("%q ends with a list within the list", text)
	}
	kind, what, _ := strings.Cut(want, " ")
	switch kind {
	case "after":
		if !member(list[:len(list)-1], what) {
			return fmt.Sprintf("%q does not have %s, and something after it", text, what)
		}
	case "last":
		if wrong := checkParam(last, what); wrong != "" {
			return fmt.Sprintf("the last member of %q %s", text, wrong)
		}
	}
	return ""
}

func member(list httpsfv.List, name string) bool {
	for _, m := range list {
		if item, ok := m.(httpsfv.Item); ok && fmt.Sprint(item.Value) == name {
			return true
		}
	}
	return false
}

func checkParam(item httpsfv.Item, what string) string {
	unwanted, no := strings.CutPrefix(what, "no ")
	name, value, valued := strings.Cut(unwanted, "=")
	got, ok := item.Params.Get(name)
	switch {
	case no && ok:
		return "has the parameter " + name
	case !no && !ok:
		return "lacks the parameter " + name
	case valued && fmt.Sprint(got) != value:
		return fmt.Sprintf("has %s=%v, not %s", name, got, value)
	}
	return ""
}

// isListCheck reports whether [checkList] knows want.
func isListCheck(want string) bool {
	kind, what, more := strings.Cut(want, " ")
	return want == "list" || (kind == "after" || kind == "last") && more && what != ""
}
