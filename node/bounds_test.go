package node

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// TestServiceBounds: a service's limits of targets and header sections hold for its clients, whichever way a request takes.
func TestServiceBounds(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "max-age=600") })
	more, less := version(t, o.URL), version(t, o.URL)
	more.Limits = wedge.Limits{URIBytes: 20_000}
	less.Limits = wedge.Limits{URIBytes: 100, HeaderBytes: 1024, HeaderLines: 16}
	long, many := "X: "+strings.Repeat("y", 1000), strings.Split(strings.Repeat("X: y\n", 16), "\n")[:16]
	for _, c := range []struct {
		v      *wedge.Version
		uri    int
		fields []string
		want   string
	}{
		{version(t, o.URL), 8192, nil, "200"}, {version(t, o.URL), 8193, nil, "414"}, {version(t, o.URL), 10, append(many, long), "200"},
		{more, 20_000, nil, "200"}, {more, 20_001, nil, "414"},
		{less, 100, nil, "200"}, {less, 101, nil, "414"}, {less, 10, many, "431"}, {less, 10, []string{long, long}, "431"},
	} {
		s := serve(t, Config{}, c.v)
		req := get("/"+strings.Repeat("a", c.uri-1), append(c.fields, "Connection: close")...)
		for range 2 { // the second is stored
			if got := s.talk(t, req); !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
				t.Errorf("limits %+v, a target of %d, %d fields: got %.60q, want %s", c.v.Limits, c.uri, len(c.fields), got, c.want)
			}
		}
	}
}
