package cache

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression. One object is stored, as the origin sent it; what clients get who accept a coding is
// derived from it when first asked for, kept with the object and gone with it. A coded body is
// another representation (RFC 9110 section 8.8.3): its entity tag is weak, and it has no ranges.

// coding is a content coding that bodies are put into, the preferred one first.
type coding struct {
	name  string
	start func(io.Writer) io.WriteCloser
}

var codings = []coding{
	{"br", func(w io.Writer) io.WriteCloser { return brotli.NewWriterLevel(w, 5) }},
	{"zstd", func(w io.Writer) io.WriteCloser {
		z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		return z
	}},
	{"gzip", func(w io.Writer) io.WriteCloser { z, _ := gzip.NewWriterLevel(w, 6); return z }},
}

// Bodies smaller than that gain nothing, larger ones take too long while a client waits.
const (
	minCoded = 1 << 10
	maxCoded = 4 << 20
)

// coded holds what was derived of an object.
type coded struct {
	mu     sync.Mutex
	bodies map[string]*spool // nil: coding it gains nothing
}

// textual are the types, or beginnings of types, that compress well.
var textual = []string{"text/", "application/json", "application/javascript", "application/xml", "application/wasm", "application/manifest+json",
	"application/xhtml+xml", "application/rss+xml", "application/atom+xml", "application/ld+json", "image/svg+xml", "font/ttf", "font/otf"}

// codable reports whether clients may get the object in another coding.
func (o *object) codable() bool {
	kind := strings.ToLower(o.fields.get("Content-Type"))
	return o.status() == http.StatusOK && o.fields.values("Content-Encoding") == nil && o.part() == nil &&
		slices.ContainsFunc(textual, func(t string) bool { return strings.HasPrefix(kind, t) }) &&
		!parseDirectives(o.fields.values("Cache-Control")).noTransform
}

// accepted returns the coding that a client likes best of those there are; of equals, the first of codings. nil: none.
func accepted(lines []string) (best *coding) {
	weight := 0.0
	for i := range codings {
		if q := qualityOf(codings[i].name, lines); q > weight {
			best, weight = &codings[i], q
		}
	}
	if best != nil && weight < qualityOf("identity", lines) && explicitly("identity", lines) {
		return nil
	}
	return best
}

// qualityOf returns the weight of a coding in Accept-Encoding (RFC 9110 section 12.5.3), 0 if it is not accepted.
func qualityOf(name string, lines []string) float64 {
	star := 0.0
	for _, line := range lines {
		for line != "" {
			var item string
			item, line = nextListItem(line)
			coding, weight, _ := strings.Cut(item, ";")
			q := 1.0
			if v, ok := strings.CutPrefix(strings.ToLower(textproto.TrimString(weight)), "q="); ok {
				if q, _ = strconv.ParseFloat(v, 64); q < 0 || q > 1 || q != q {
					q = 0
				}
			}
			switch coding = strings.ToLower(textproto.TrimString(coding)); coding {
			case name:
				return q
			case "*":
				star = q
			}
		}
	}
	return star
}

func explicitly(name string, lines []string) bool {
	return strings.Contains(strings.ToLower(strings.Join(lines, ",")), name)
}

// encode makes resp, which says all of o, say it in a coding that the client accepts, if there is
// one and the body is whole.
func (x *exchange) encode(o *object, resp *http.Response) (body *spool) {
	if !x.pol.Compress || !o.codable() {
		return nil
	}
	resp.Header["Vary"] = withName(resp.Header["Vary"], "Accept-Encoding")
	best := accepted(x.req.Header["Accept-Encoding"])
	if best == nil || len(x.ranges) > 0 || !o.body.whole() || o.body.size < minCoded || o.body.size > maxCoded {
		return nil
	}
	if body = x.c.codedBody(o, best); body == nil {
		return nil
	}
	resp.Header["Content-Encoding"] = []string{best.name}
	resp.ContentLength = body.size
	for _, name := range []string{"Accept-Ranges", "Content-Md5", "Digest", "Content-Digest"} {
		delete(resp.Header, name)
	}
	if etag := resp.Header.Get("Etag"); isStrong(etag) {
		resp.Header["Etag"] = []string{"W/" + etag}
	}
	return body
}

// withName adds a name to a list field that lacks it.
func withName(lines []string, name string) []string {
	all := strings.Join(lines, ", ")
	for item := range strings.SplitSeq(all, ",") {
		if item = textproto.TrimString(item); item == "*" || strings.EqualFold(item, name) {
			return lines
		}
	}
	if all == "" {
		return []string{name}
	}
	return []string{all + ", " + name}
}

// codedBody returns o's body in a coding, made now if nobody asked for it before.
func (c *Cache) codedBody(o *object, k *coding) *spool {
	d := o.coded()
	d.mu.Lock()
	defer d.mu.Unlock()
	if body, ok := d.bodies[k.name]; ok {
		return body
	}
	var out bytes.Buffer
	w := k.start(&out)
	if err := copyBody(w, o.body); err != nil {
		return nil
	}
	_ = w.Close()
	var body *spool
	if int64(out.Len()) < o.body.size-o.body.size/8 {
		b := bytes.Clone(out.Bytes())
		body = wholeBody(b)
		c.grow(o, body.size)
	}
	if d.bodies == nil {
		d.bodies = map[string]*spool{}
	}
	d.bodies[k.name] = body
	return body
}

// takeCoded gives o, which has the same body, what was derived of another.
func (o *object) takeCoded(from *object) {
	m := from.more.Load()
	if m == nil {
		return
	}
	m.coded.mu.Lock()
	bodies := maps.Clone(m.coded.bodies)
	m.coded.mu.Unlock()
	if len(bodies) > 0 {
		o.coded().bodies = bodies
	}
}

// grow accounts for more bytes of an object.
func (c *Cache) grow(o *object, n int64) {
	for _, old := range c.storage.grow(o, n) {
		c.evict(old)
		c.stats.Evicted.Add(1)
	}
}
