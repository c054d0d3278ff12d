package hostcall

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

func pngFile(w, h int) []byte {
	var b bytes.Buffer
	png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h)))
	return b.Bytes()
}

// imageGuest is a guest with the backend "b" that gives a file, and what it printed.
func imageGuest(t *testing.T, file []byte, limits wedge.Limits) (*guest, *strings.Builder) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("X-Kept", r.Method+" "+r.URL.RawQuery)
		if r.URL.Path == "/404" {
			w.WriteHeader(404)
		}
		w.Write(file)
	}))
	t.Cleanup(origin.Close)
	h := testHost(&wedge.Version{Backends: []wedge.Backend{staticBackend(t, "b", origin.URL)}, Limits: limits})
	printed := &strings.Builder{}
	h.Output = func(_ int, b []byte) { printed.Write(b) }
	return newGuest(t, h), printed
}

// optimize makes the call; options nil: those of the request's own query. fields are a name and a value.
func (g *guest) optimize(uri string, options *string, fields ...string) (s abi.Status, tag, resp, body uint32) {
	g.t.Helper()
	req := g.newRequest()
	g.ok("fastly_http_req.uri_set", req, uri)
	if len(fields) > 0 {
		g.ok("fastly_http_req.header_insert", req, fields[0], fields[1])
	}
	detail, mask, config := make([]byte, 12), 0, []byte{}
	if options != nil {
		mask = imageClaims
		config = binary.LittleEndian.AppendUint32(config, g.lay([]byte(*options)))
		config = binary.LittleEndian.AppendUint32(config, uint32(len(*options)))
	}
	s = g.call("fastly_image_optimizer.transform_image_optimizer_request", req, uint32(abi.InvalidHandle), "b", mask, config, detail, &resp, &body)
	g.ok("fastly_http_req.close", req)
	return s, binary.LittleEndian.Uint32(detail), resp, body
}

func TestImageOptimizer(t *testing.T) {
	g, printed := imageGuest(t, pngFile(40, 20), wedge.Limits{})
	options := "width=10&format=jpg"
	for uri, o := range map[string]*string{"http://o/?width=10&format=jpg": nil, "http://o/?width=30": &options} {
		s, tag, resp, body := g.optimize(uri, o)
		if s != abi.OK || tag != imageOK {
			t.Fatalf("%s: %v, tag %d: %s", uri, s, tag, printed)
		}
		if typ := g.many("fastly_http_resp.header_values_get", resp, "content-type"); typ[0] != "image/jpeg" {
			t.Errorf("%s: type %q", uri, typ)
		}
		if kept := g.many("fastly_http_resp.header_values_get", resp, "x-kept")[0]; !strings.HasPrefix(kept, "GET width=") {
			t.Errorf("%s: %q", uri, kept)
		}
		if tag := g.many("fastly_http_resp.header_values_get", resp, "etag")[0]; tag != "" {
			t.Errorf("%s: another image with the entity tag %q of the origin's", uri, tag)
		}
		img, _, err := image.Decode(strings.NewReader(g.readAll(body)))
		if err != nil || img.Bounds().Dx() != 10 || img.Bounds().Dy() != 5 {
			t.Errorf("%s: %v, %v", uri, img.Bounds(), err)
		}
	}
	s, tag, resp, body := g.optimize("http://o/404?width=10", nil)
	var status uint16
	g.ok("fastly_http_resp.status_get", resp, &status)
	if s != abi.OK || tag != imageOK || status != 404 || g.readAll(body) != string(pngFile(40, 20)) {
		t.Errorf("another status: %v, tag %d, status %d", s, tag, status)
	}
}

// TestImageOptimizerNegotiates: a request's Accept decides what auto=webp makes, and the answer says so.
func TestImageOptimizerNegotiates(t *testing.T) {
	g, printed := imageGuest(t, pngFile(40, 20), wedge.Limits{})
	for accept, typ := range map[string]string{"image/webp,*/*": "image/webp", "*/*": "image/png"} {
		s, tag, resp, body := g.optimize("http://o/?auto=webp&width=10", nil, "accept", accept)
		if s != abi.OK || tag != imageOK {
			t.Fatalf("%s: %v, tag %d: %s", accept, s, tag, printed)
		}
		if got := g.many("fastly_http_resp.header_values_get", resp, "content-type")[0]; got != typ {
			t.Errorf("%s: %s, want %s", accept, got, typ)
		}
		if vary := g.many("fastly_http_resp.header_values_get", resp, "vary")[0]; vary != "Accept" {
			t.Errorf("%s: vary %q", accept, vary)
		}
		if img, _, err := image.Decode(strings.NewReader(g.readAll(body))); err != nil || img.Bounds().Dx() != 10 {
			t.Errorf("%s: %v", accept, err)
		}
	}
}

func TestImageOptimizerSaysWhy(t *testing.T) {
	g, printed := imageGuest(t, pngFile(40, 20), wedge.Limits{})
	if s, tag, _, _ := g.optimize("http://o/?format=jxl", nil); s != abi.OK || tag != imageWarning {
		t.Errorf("jxl: %v, tag %d", s, tag)
	}
	for _, query := range []string{"width=x", "format=mp4", "crop=50,50", "width=90000&height=90000"} {
		printed.Reset()
		if s, tag, _, _ := g.optimize("http://o/?"+query, nil); s != abi.Error || tag != imageError || !strings.HasPrefix(printed.String(), "image optimizer: ") {
			t.Errorf("%s: %v, tag %d, printed %q", query, s, tag, printed)
		}
	}
	small, printed := imageGuest(t, append(pngFile(40, 20), make([]byte, 2<<20)...), wedge.Limits{HostcallBytes: 1 << 20})
	if s, tag, _, _ := small.optimize("http://o/?width=10", nil); s != abi.Error || tag != imageError || !strings.Contains(printed.String(), "exhausted") {
		t.Errorf("a file larger than the sandbox may keep: %v, tag %d, %q", s, tag, printed)
	}
	if used := small.sb.State.(*exec).account.used.Load(); used != 0 {
		t.Errorf("%d bytes are still accounted", used)
	}
}

func TestImageOptimizerArguments(t *testing.T) {
	g, _ := imageGuest(t, pngFile(40, 20), wedge.Limits{})
	const call = "fastly_image_optimizer.transform_image_optimizer_request"
	var resp, body uint32
	detail, none := make([]byte, 12), uint32(abi.InvalidHandle)
	g.is(abi.Inval, call, g.newRequest(), none, "b", 1, raw(0), detail, &resp, &body)
	g.is(abi.Inval, call, g.newRequest(), none, "b", 2, raw(1<<20), detail, &resp, &body)
	g.is(abi.Inval, call, g.newRequest(), none, "b", 0, raw(0), raw(1<<20-2), &resp, &body)
	g.is(abi.Inval, call, g.newRequest(), none, "nobody", 0, raw(0), detail, &resp, &body)
	g.is(abi.BadHandle, call, 77, none, "b", 0, raw(0), detail, &resp, &body)
	g.is(abi.BadHandle, call, g.newRequest(), 77, "b", 0, raw(0), detail, &resp, &body)
}
