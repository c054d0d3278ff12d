package cache

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// outcome is what Cache-Status says of one answer (RFC 9211).
type outcome struct {
	hit       bool
	fwd       string // why the request went on: bypass, method, uri-miss, vary-miss, request, stale, partial
	status    int    // fwd-status: what the origin said, where the client is told another
	stored    bool
	collapsed bool
	detail    string
	ttl       *time.Duration
}

// append adds the member of this cache to the header's Cache-Status: the one nearest the client is last.
func (o *outcome) append(h http.Header, name string) {
	var b strings.Builder
	b.WriteString(name)
	if o.hit {
		b.WriteString("; hit")
	}
	if o.ttl != nil {
		b.WriteString("; ttl=" + strconv.FormatInt(int64(*o.ttl/time.Second), 10))
	}
	if o.fwd != "" {
		b.WriteString("; fwd=" + o.fwd)
	}
	if o.status != 0 {
		b.WriteString("; fwd-status=" + strconv.Itoa(o.status))
	}
	if o.stored {
		b.WriteString("; stored")
	}
	if o.collapsed {
		b.WriteString("; collapsed")
	}
	if o.detail != "" {
		b.WriteString("; detail=" + o.detail)
	}
	line := b.String()
	if earlier := h["Cache-Status"]; len(earlier) > 0 {
		line = strings.Join(earlier, ", ") + ", " + line
	}
	h["Cache-Status"] = []string{line}
}
