package front

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// writer notes what a handler answers. It hides nothing: http.ResponseController reaches the
// server's own writer through Unwrap, and flushing, copying and 1xx responses pass.
type writer struct {
	http.ResponseWriter
	front  *Front
	status int // of the final response; 0: not written yet
	bytes  int64
	h1     bool
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.begin(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

// begin is called before the final header is written.
func (w *writer) begin(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if w.h1 && status != http.StatusSwitchingProtocols && w.front.draining.Load() {
		w.Header().Set("Connection", "close")
	}
}

func (w *writer) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

func (w *writer) WriteString(s string) (int, error) {
	w.begin(http.StatusOK)
	n, err := io.WriteString(w.ResponseWriter, s)
	w.bytes += int64(n)
	return n, err
}

func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	w.begin(http.StatusOK)
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += n
	return n, err
}

func (w *writer) Flush() { w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	w.begin(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// h1Writer is a writer on HTTP/1.1, where a handler may take the connection over.
type h1Writer struct{ writer }

func (w *h1Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
