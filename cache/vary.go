package cache

import (
	"net/http"
	"net/textproto"
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
	case "accept", "accept-encoding", "accept-language", "accept-charset":
		return strings.ToLower(strings.ReplaceAll(value, "; ", ";"))
	}
	return value
}
