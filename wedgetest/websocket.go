package wedgetest

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// NewWebSocketOrigin starts a server that accepts WebSockets and sends every frame back, text in
// upper case (RFC 6455). At the text "cut" it cuts the connection; on /refuse it answers 403.
func NewWebSocketOrigin() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			http.Error(w, "no websocket here", http.StatusForbidden)
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nX-Path: %s\r\n\r\n",
			accept(r.Header.Get("Sec-WebSocket-Key")), r.URL.Path)
		s := &WebSocket{conn: c, r: rw.Reader}
		for {
			op, data, err := s.Read()
			if err != nil {
				return
			}
			if op == 1 && string(data) == "cut" {
				return
			}
			if op == 1 {
				data = []byte(strings.ToUpper(string(data)))
			}
			if s.Write(op, data) != nil || op == 8 {
				return
			}
		}
	}))
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// WebSocket is one end of a connection that speaks whole frames, no fragments.
type WebSocket struct {
	conn   net.Conn
	r      *bufio.Reader
	client bool
	Header http.Header // of the 101
}

// DialWebSocket opens a WebSocket at addr, which must end with 101.
func DialWebSocket(t testing.TB, addr, path string) *WebSocket {
	t.Helper()
	c := Dial(t, addr)
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: edge.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", path, key)
	s := newWebSocket(c)
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil {
		t.Fatalf("websocket handshake: %v", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		t.Fatalf("websocket handshake: %s %s", resp.Status, b)
	}
	if got := resp.Header.Get("Sec-Websocket-Accept"); got != accept(key) {
		t.Fatalf("Sec-WebSocket-Accept is %q", got)
	}
	s.Header = resp.Header
	return s
}

// newWebSocket returns a client's end that has not shaken hands yet.
func newWebSocket(c net.Conn) *WebSocket {
	return &WebSocket{conn: c, r: bufio.NewReader(c), client: true}
}

// Close closes the connection without a close frame.
func (s *WebSocket) Close() { s.conn.Close() }

// Write sends one frame, masked if this is the client's end.
func (s *WebSocket) Write(op byte, data []byte) error {
	head := []byte{0x80 | op}
	mask := byte(0)
	if s.client {
		mask = 0x80
	}
	switch n := len(data); {
	case n < 126:
		head = append(head, mask|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, mask|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, mask|127), uint64(n))
	}
	if s.client {
		key := [4]byte{1, 2, 3, 4}
		head = append(head, key[:]...)
		masked := make([]byte, len(data))
		for i := range data {
			masked[i] = data[i] ^ key[i%4]
		}
		data = masked
	}
	_, err := s.conn.Write(append(head, data...))
	return err
}

// Read returns the next frame.
func (s *WebSocket) Read() (op byte, data []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1] & 0x7f)
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(s.r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(s.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil || n > 16<<20 {
		return 0, nil, errors.Join(err, errors.New("frame is too long"))
	}
	var key [4]byte
	masked := head[1]&0x80 != 0
	if masked {
		if _, err := io.ReadFull(s.r, key[:]); err != nil {
			return 0, nil, err
		}
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(s.r, data); err != nil {
		return 0, nil, err
	}
	if masked {
		for i := range data {
			data[i] ^= key[i%4]
		}
	}
	return head[0] & 0x0f, data, nil
}
