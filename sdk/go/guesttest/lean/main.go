// The guest under test for package lean.
package main

import (
	"context"
	"io"

	"github.com/wedge-cloud/wedge/sdk/go/lean"
)

func main() { lean.Serve(serve) }

func serve(w *lean.Response, r *lean.Request) {
	switch r.Path() {
	case "/fetch":
		fetch(w, r)
	case "/forward":
		a, err := (&lean.Fetch{URL: "http://origin.test/chunks"}).Do(context.Background(), "origin")
		check(err)
		check(w.Forward(a))
	default:
		w.Set("Content-Type", "text/plain")
		w.WriteString("Hello " + r.Path())
	}
}

func fetch(w *lean.Response, r *lean.Request) {
	body, err := io.ReadAll(r.Body())
	check(err)
	w.Status(201)
	w.WriteString(r.Query() + " ")
	check(w.Flush())
	f := lean.Fetch{Method: "POST", URL: "http://origin.test/echo", Body: body}
	a, err := f.Do(context.Background(), "origin")
	check(err)
	if a.Status() != 200 || a.Header("Content-Length") != "8" {
		panic("wrong head")
	}
	text, err := io.ReadAll(a.Body)
	check(err)
	w.Write(text)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
