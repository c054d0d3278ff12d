package node

import (
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/wedge-cloud/wedge"
)

// files is an http.RoundTripper that answers for backends that are directories, and lets next
// answer for all others. It reads below the directory only, whatever links lead out of it.
type files struct {
	next  http.RoundTripper
	roots sync.Map // of *os.Root by directory
}

func (f *files) RoundTrip(req *http.Request) (*http.Response, error) {
	b := wedge.BackendFrom(req.Context())
	if b == nil || b.Dir == "" {
		return f.next.RoundTrip(req)
	}
	if req.Body != nil {
		req.Body.Close()
	}
	root, err := f.root(b.Dir)
	if err != nil {
		return nil, &wedge.FetchError{Backend: b.Name, Failure: wedge.FailureUnavailable, Err: err}
	}
	return serveFile(root.FS(), req), nil
}

func (f *files) root(dir string) (*os.Root, error) {
	if r, ok := f.roots.Load(dir); ok {
		return r.(*os.Root), nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	if r, there := f.roots.LoadOrStore(dir, root); there {
		root.Close()
		return r.(*os.Root), nil
	}
	return root, nil
}

// serveFile answers with a file: net/http's file server does, written into a response. What begins
// with a dot is not there.
func serveFile(dir fs.FS, req *http.Request) *http.Response {
	w := &fileResponse{head: make(chan struct{}), header: http.Header{}}
	pr, pw := io.Pipe()
	w.body = pw
	in := req.Clone(req.Context())
	in.URL = &url.URL{Path: path.Clean("/" + req.URL.Path)}
	if strings.HasSuffix(req.URL.Path, "/") && in.URL.Path != "/" {
		in.URL.Path += "/"
	}
	go func() {
		if strings.Contains(in.URL.Path, "/.") {
			http.NotFound(w, in)
		} else {
			http.FileServerFS(dir).ServeHTTP(w, in)
		}
		w.WriteHeader(http.StatusOK)
		pw.Close()
	}()
	<-w.head
	resp := &http.Response{StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Body: pr, Request: req, ContentLength: -1}
	if n, ok := parseInt(w.header.Get("Content-Length")); ok {
		resp.ContentLength = n
	}
	return resp
}

// fileResponse is an http.ResponseWriter whose body is read elsewhere.
type fileResponse struct {
	header http.Header
	status int
	head   chan struct{}
	body   *io.PipeWriter
}

func (w *fileResponse) Header() http.Header { return w.header }

func (w *fileResponse) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		close(w.head)
	}
}

func (w *fileResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}
