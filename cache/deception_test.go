package cache

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestDeception(t *testing.T) {
	hour := time.Hour
	for _, c := range []struct {
		path, kind string
		kept       bool
	}{
		{"/account/x.css", "text/html; charset=utf-8", false}, {"/account/x.JS", "application/json", false}, {"/a.png", "Text/HTML", false},
		{"/account/x.css", "application/vnd.api+json", false}, {"/account/x.css", "application/xhtml+xml", false}, {"/a.png", "image/svg+xml", true},
		{"/site.css", "text/css", true}, {"/app.js", "text/javascript", true}, {"/a.png", "image/webp", true}, {"/a.png", "", true},
		{"/page", "text/html", true}, {"/page.html", "text/html", true}, {"/data.json", "application/json", true}, {"/x.css/account", "text/html", true},
		{"/icon.svg", "image/svg+xml", true}, {"/feed.xml", "application/xml", true}, {"/f.woff2", "application/octet-stream", true},
	} {
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			return answer(200, "text", "Cache-Control: max-age=60", "Content-Type: "+c.kind), nil
		}}
		cache := newLab(o, Config{})
		for range 2 {
			ctx := wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop", TTL: &hour})
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://shop.example"+c.path, nil)
			resp, err := cache.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if kept := o.fetches.Load() == 1; kept != c.kept {
			t.Errorf("%s as %s: kept %v", c.path, c.kind, kept)
		}
	}
}
