package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

func greet(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, "Hello, "+r.URL.Query().Get("name")+"!")
}

// A guest's main hands its handler to Serve. Its tests call the handler natively.
func Example() {
	main := func() { edge.Serve(http.HandlerFunc(greet)) }
	_ = main

	w := httptest.NewRecorder()
	greet(w, httptest.NewRequest("GET", "/?name=edge", nil))
	fmt.Println(w.Body)
	// Output: Hello, edge!
}

// A backend is a RoundTripper, so everything that takes one can use it.
func ExampleBackend() {
	client := http.Client{Transport: edge.Backend("origin")}
	handler := func(w http.ResponseWriter, r *http.Request) {
		resp, err := client.Get("http://origin.example/page")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		edge.Forward(w, resp) // the body does not pass through the guest
	}
	_ = handler
}
