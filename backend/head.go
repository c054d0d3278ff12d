package backend

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/wedge-cloud/wedge"
)

// headWatch follows the head of an HTTP/1.1 response as its bytes pass by. net/http goes by
// Transfer-Encoding where a head has Content-Length too and forgets the latter; somebody between it and the
// origin may have gone by the other, so such a response ought to be an error (RFC 9112 section 6.3).
type headWatch struct {
	mu      sync.Mutex
	on      bool
	started bool   // the status line has come
	interim bool   // another head follows
	line    []byte // beginning of the current line
	length  bool
	coding  bool
}

// headConn is a connection, above TLS if it has that, whose reads a headWatch sees.
type headConn struct {
	net.Conn
	head *headWatch
}

func (c headConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.head.read(p[:n])
	return n, err
}

// CloseWrite half-closes the connection, which some upgraded protocols need.
func (c headConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// longest is how much of a line matters.
const longest = len("Transfer-Encoding")

// begin says that what comes next is a response.
func (h *headWatch) begin() {
	h.mu.Lock()
	h.on = true
	h.restart()
	h.mu.Unlock()
}

func (h *headWatch) restart() {
	h.started, h.interim, h.length, h.coding, h.line = false, false, false, false, h.line[:0]
}

func (h *headWatch) read(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.on && len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		rest := p
		if end >= 0 {
			rest, p = p[:end], p[end+1:]
		} else {
			p = nil
		}
		h.line = append(h.line, rest[:min(len(rest), longest+1-len(h.line))]...)
		if end >= 0 {
			h.endLine()
			h.line = h.line[:0]
		}
	}
}

func (h *headWatch) endLine() {
	name, _, _ := bytes.Cut(h.line, []byte(":"))
	switch {
	case !h.started:
		h.started = true
		_, status, _ := bytes.Cut(h.line, []byte(" "))
		h.interim = bytes.HasPrefix(status, []byte("1")) && !bytes.HasPrefix(status, []byte("101"))
	case len(bytes.TrimRight(h.line, "\r")) == 0 && h.interim:
		h.restart()
	case len(bytes.TrimRight(h.line, "\r")) == 0:
		h.on = false
	default:
		h.length = h.length || bytes.EqualFold(name, []byte("Content-Length"))
		h.coding = h.coding || bytes.EqualFold(name, []byte("Transfer-Encoding"))
	}
}

// check refuses what net/http reads in one of two ways.
func (h *headWatch) check(resp *http.Response) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.length && h.coding {
		return failure(wedge.FailureProtocol, errors.New("response has both Content-Length and Transfer-Encoding"))
	}
	for name := range resp.Header { // "Content-Length " is none to net/http, and one to others
		if !httpguts.ValidHeaderFieldName(name) {
			return failure(wedge.FailureProtocol, errors.New("response has a malformed field name"))
		}
	}
	return nil
}
