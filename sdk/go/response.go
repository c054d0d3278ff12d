package edge

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
)

// An answer up to this size, in bytes, is held back until the handler returns: then it
// goes out with its Content-Length in one hostcall, and the guest need not wait for the
// client. A longer one, or one that is flushed, streams.
const holdBack = 32 << 10

// response is the http.ResponseWriter of a guest. Its states: no header written; header
// handed to the host, body held back; streaming; over.
type response struct {
	header   http.Header
	head     bool // answers HEAD: no body goes out
	status   int  // 0: no header written yet
	resp     abi.Handle
	body     abi.Handle // while streaming
	held     []byte
	declared int64 // Content-Length as the handler set it; -1: not set
	written  int64
	typed    bool // Content-Type is set
	trailers []string
	stream   bool
	over     bool // the answer is complete, or was given up
	err      error
}

var errOver = errors.New("answer is complete")

// Header returns the header map; changes after WriteHeader have no effect but for trailers.
func (w *response) Header() http.Header { return w.header }

// WriteHeader fixes status and header. 103 sends an early hint and may be called before it.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || w.over {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		w.hint(status)
		return
	}
	w.status, w.declared = status, -1
	w.trailers = names(announced(w.header))
	if v := w.header["Content-Length"]; len(v) > 0 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			w.declared = n
		}
	}
	_, w.typed = w.header["Content-Type"]
	w.resp, w.err = w.newHead(status)
}

// newHead makes a response with the header as it is now.
func (w *response) newHead(status int) (h abi.Handle, err error) {
	if st := abi.RespNew(&h); st != abi.OK {
		return h, st
	}
	if status != http.StatusOK {
		if st := abi.RespStatusSet(h, uint32(status)); st != abi.OK {
			return h, st
		}
	}
	return h, host.SetHeader(abi.RespHeaderInsert, abi.RespHeaderAppend, h, w.header, w.skip)
}

// skip reports which header fields do not go out as they are: framing is the host's, and
// trailers come later.
func (w *response) skip(name string) bool {
	if name == "Content-Length" || name == "Transfer-Encoding" || strings.HasPrefix(name, http.TrailerPrefix) {
		return true
	}
	for _, t := range w.trailers {
		if t == name {
			return true
		}
	}
	return false
}

// hint sends an interim answer. Fresh handles each time: some hosts consume them.
func (w *response) hint(status int) {
	if status != http.StatusEarlyHints {
		return // the host knows no other, and may not refuse the answer for it
	}
	h, err := w.newHead(status)
	if err != nil {
		return
	}
	if body, err := host.NewBody(); err == nil {
		abi.RespSend(h, body, 0)
	}
}

// Write writes to the body.
func (w *response) Write(p []byte) (int, error) {
	if ok, err := w.accept(len(p)); !ok {
		return len(p), err
	}
	if !w.stream && len(w.held)+len(p) <= holdBack {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	return w.send(p)
}

// WriteString is Write without a copy of its own.
func (w *response) WriteString(s string) (int, error) {
	if ok, err := w.accept(len(s)); !ok {
		return len(s), err
	}
	if !w.stream && len(w.held)+len(s) <= holdBack {
		w.held = append(w.held, s...)
		return len(s), nil
	}
	return w.send([]byte(s))
}

// accept reports whether n more bytes may go out. If not, and err is nil, they are dropped (HEAD).
func (w *response) accept(n int) (ok bool, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.over:
		return false, errOver
	case w.err != nil:
		return false, w.err
	case n == 0:
		return false, nil
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified || w.status < 200:
		return false, http.ErrBodyNotAllowed
	}
	w.written += int64(n)
	if w.declared >= 0 && w.written > w.declared {
		return false, http.ErrContentLength
	}
	return !w.head || !w.stream && len(w.held)+n <= holdBack, nil
}

// send streams what was held back, and p.
func (w *response) send(p []byte) (int, error) {
	if len(w.held) == 0 {
		w.sniff(p)
	}
	if err := w.start(); err != nil {
		return 0, err
	}
	n, err := host.Write(w.body, p, true)
	w.err = err
	return n, err
}

// start sends the header and what was held back, and keeps the body open.
func (w *response) start() error {
	if w.stream || w.err != nil {
		return w.err
	}
	w.sniff(w.held)
	if w.declared >= 0 {
		w.keepLength(w.declared)
	}
	if w.body, w.err = host.NewBody(); w.err != nil {
		return w.err
	}
	if w.err = abi.RespSend(w.resp, w.body, 1).Err(); w.err != nil {
		return w.err
	}
	w.stream = true
	if !w.head {
		_, w.err = host.Write(w.body, w.held, true)
	}
	w.held = nil
	return w.err
}

// sniff sets Content-Type from the first bytes, as net/http does.
func (w *response) sniff(p []byte) {
	if w.typed || len(p) == 0 {
		return
	}
	w.typed = true
	if w.header["Content-Encoding"] == nil {
		abi.RespHeaderInsert(w.resp, "Content-Type", http.DetectContentType(p))
	}
}

// keepLength makes the host send this Content-Length, which it cannot know of a stream or a HEAD.
func (w *response) keepLength(n int64) {
	if abi.RespFraming(w.resp, 1) == abi.OK {
		abi.RespHeaderInsert(w.resp, "Content-Length", strconv.FormatInt(n, 10))
	}
}

// Flush sends what was written so far; from then on every Write goes out at once.
func (w *response) Flush() { w.FlushError() }

// FlushError is Flush for http.ResponseController.
func (w *response) FlushError() error {
	if w.over {
		return errOver
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.start()
}

// EnableFullDuplex does nothing: reading the request while answering always works here.
func (w *response) EnableFullDuplex() error { return nil }

// ReadFrom lets io.Copy hand a backend's unread body of known length to the host, which
// passes it on without it going through the guest. Others are copied.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	b, ok := src.(*body)
	if !ok || b.length <= 0 || w.head {
		return io.Copy(onlyWriter{w}, src)
	}
	if ok, err := w.accept(int(b.length)); !ok {
		return 0, err
	}
	h, ok := b.Take()
	if !ok {
		w.written -= b.length
		return io.Copy(onlyWriter{w}, src)
	}
	if err := w.start(); err != nil {
		return 0, err
	}
	w.err = abi.BodyAppend(w.body, h).Err()
	return b.length, w.err
}

// onlyWriter hides ReadFrom from io.Copy.
type onlyWriter struct{ io.Writer }

// finish completes the answer after the handler has returned.
func (w *response) finish() error {
	if w.over {
		return nil
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.over = true
	if w.err != nil {
		return w.abandon()
	}
	if w.stream {
		w.addTrailers(w.body)
		return abi.BodyClose(w.body).Err()
	}
	w.sniff(w.held)
	b, err := host.NewBody()
	if err != nil {
		return err
	}
	switch {
	case !w.head:
		if _, err := host.Write(b, w.held, false); err != nil {
			return err
		}
	case w.declared >= 0:
		w.keepLength(w.declared)
	case w.written > 0:
		w.keepLength(w.written)
	}
	w.addTrailers(b)
	return abi.RespSend(w.resp, b, 0).Err()
}

// abandon ends an answer that failed: the client must not take it for whole. The error is
// the handler's to see, from Write; here it only decides what to send.
func (w *response) abandon() error {
	if w.stream {
		abi.BodyAbandon(w.body)
		return nil
	}
	return w.err
}

// cut ends an answer whose handler panicked.
func (w *response) cut() error {
	if w.over {
		return nil
	}
	w.over = true
	if w.stream {
		abi.BodyAbandon(w.body)
		return nil
	}
	w.header, w.held, w.trailers = http.Header{}, nil, nil
	h, err := w.newHead(http.StatusInternalServerError)
	if err != nil {
		return err
	}
	b, err := host.NewBody()
	if err != nil {
		return err
	}
	return abi.RespSend(h, b, 0).Err()
}

func (w *response) addTrailers(b abi.Handle) {
	for _, name := range w.trailers {
		for _, v := range w.header[name] {
			abi.BodyTrailerAppend(b, name, v)
		}
	}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			for _, v := range values {
				abi.BodyTrailerAppend(b, name, v)
			}
		}
	}
}

func names(h http.Header) (list []string) {
	for name := range h {
		list = append(list, name)
	}
	return list
}

// Forward answers with a backend's response: status, header and body. An unread body is left to
// the host, which goes on passing it to the client after the guest has ended. The handler must
// not have written anything before, and must return after it.
func Forward(rw http.ResponseWriter, resp *http.Response) error {
	header := rw.Header()
	for k, v := range resp.Header {
		header[k] = v
	}
	w := unwrap(rw)
	b, ours := resp.Body.(*body)
	if w == nil || !ours || w.status != 0 || w.head {
		rw.WriteHeader(resp.StatusCode)
		_, err := io.Copy(rw, resp.Body)
		return err
	}
	h, ok := b.Take()
	if !ok {
		rw.WriteHeader(resp.StatusCode)
		_, err := io.Copy(rw, resp.Body)
		return err
	}
	rw.WriteHeader(resp.StatusCode)
	if w.err != nil {
		return w.err
	}
	w.over = true
	return abi.RespSend(w.resp, h, 0).Err()
}

// unwrap finds our writer below those that middleware puts around it.
func unwrap(rw http.ResponseWriter) *response {
	for {
		switch w := rw.(type) {
		case *response:
			return w
		case interface{ Unwrap() http.ResponseWriter }:
			rw = w.Unwrap()
		default:
			return nil
		}
	}
}
