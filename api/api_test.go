package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge/control"
)

// TestOpenAPI: the document is served to everybody, and every route, parameter and type that it names is described.
func TestOpenAPI(t *testing.T) {
	s := NewServer(control.New(nil, nil), nil)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/openapi.json", nil))
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Summary    string
			Parameters []struct{ Name string }
			Responses  map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatal(err, doc.OpenAPI)
	}
	n := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			n++
			if op.Summary == "" || len(op.Parameters) != strings.Count(path, "{") || op.Responses["200"] == nil || op.Responses["default"] == nil {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			if _, pattern := s.mux.Handler(httptest.NewRequest(strings.ToUpper(method), path, nil)); pattern == "" {
				t.Errorf("%s %s is described and not there", method, path)
			}
		}
	}
	if n != len(s.routes()) {
		t.Errorf("%d of %d routes are described", n, len(s.routes()))
	}
	text := w.Body.String()
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "#/components/schemas/")
		if !found {
			break
		}
		name, _, _ := strings.Cut(after, "\"")
		if rest = after; doc.Components.Schemas[name] == nil {
			t.Errorf("%s is named and not described", name)
		}
	}
	if strings.Contains(text, "hash") && strings.Contains(text, "\"Token\":{\"properties\":{\"hash\"") {
		t.Error("tokens show their hashes")
	}
}
