package cache

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// variant returns what requests must agree on to get the same object: the normalised values of
// the fields that vary names (RFC 9111 section 4.1). An absent field is unlike an empty one.
func variant(vary string, h http.Header) string {
	if vary == "" {
		return ""
	}
	var b strings.Builder
	for name := range strings.SplitSeq(vary, ",") {
		b.WriteString(name)
		if lines, ok := h[textproto.CanonicalMIMEHeaderKey(name)]; ok {
			b.WriteByte('=')
			b.WriteString(normalised(name, lines))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// normalised joins lines into one and takes out what makes no difference: space around commas, and
// case where the field's own rules say so.
func normalised(name string, lines []string) string {
	if len(lines) == 1 && !strings.ContainsAny(lines[0], ", \t") {
		return folded(name, lines[0])
	}
	var parts []string
	for _, line := range lines {
		for line != "" {
			var item string
			item, line = nextListItem(line)
			if item != "" {
				parts = append(parts, strings.Join(strings.Fields(item), " "))
			}
		}
	}
	return folded(name, strings.Join(parts, ","))
}

// folded lowers the case of fields whose values do not depend on it.
func folded(name, value string) string {
	switch name {
	case "accept-encoding":
		return acceptable(value)
	case "accept", "accept-language", "accept-charset":
		return strings.ToLower(strings.ReplaceAll(value, "; ", ";"))
	}
	return value
}

// acceptable returns the codings that an Accept-Encoding accepts, in order of their names, and those it refuses
// although nobody would think so. Which of them it likes best is left out: whoever accepts a coding can
// be given what was made for another who likes it better, and clients of many kinds share one variant.
func acceptable(value string) string {
	var names []string
	for item := range strings.SplitSeq(strings.ToLower(value), ",") {
		coding, weight, _ := strings.Cut(textproto.TrimString(item), ";")
		coding, weight = textproto.TrimString(coding), textproto.TrimString(weight)
		refused := strings.HasPrefix(weight, "q=0") && strings.Trim(weight[3:], ".0") == ""
		switch {
		case coding == "":
			continue
		case coding == "x-gzip":
			coding = "gzip"
		case refused && (coding == "identity" || coding == "*"):
			coding += ";q=0"
			refused = false
		}
		if !refused {
			names = append(names, coding)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}
