package wedgetest

import (
	"bytes"
	"testing"
	"time"
)

// TestWebSocket: frames of all lengths go to and fro through a handed-over connection.
func TestWebSocket(t *testing.T) {
	n := jsNode(t)
	s := DialWebSocket(t, n.Addr, "/ws")
	if got := s.Header.Get("X-Path"); got != "/ws" {
		t.Errorf("the origin saw path %q", got)
	}
	idle(t, n) // the guest has ended, the connection lives on
	for _, size := range []int{0, 5, 125, 126, 65535, 65536, 1 << 20} {
		text := bytes.Repeat([]byte("a"), size)
		go s.Write(1, text)
		op, got, err := s.Read()
		if err != nil || op != 1 || !bytes.Equal(got, bytes.ToUpper(text)) {
			t.Fatalf("%d bytes: frame %d with %d bytes, %v", size, op, len(got), err)
		}
	}
	if err := s.Write(9, []byte("ping")); err != nil {
		t.Fatal(err)
	}
	if op, got, err := s.Read(); op != 9 || string(got) != "ping" || err != nil {
		t.Errorf("ping came back as %d %q, %v", op, got, err)
	}
	if err := s.Write(8, []byte{3, 232}); err != nil {
		t.Fatal(err)
	}
	if op, _, err := s.Read(); op != 8 || err != nil {
		t.Errorf("close came back as %d, %v", op, err)
	}
	if _, _, err := s.Read(); err == nil {
		t.Error("the connection is still open after the close frame")
	}
}

// TestWebSocketCut: either side may simply be gone.
func TestWebSocketCut(t *testing.T) {
	n := jsNode(t)
	for range 5 {
		s := DialWebSocket(t, n.Addr, "/ws")
		if s.Write(1, []byte("x")) != nil {
			t.Fatal("write failed")
		}
		s.Close()
	}
	s := DialWebSocket(t, n.Addr, "/ws")
	if err := s.Write(1, []byte("cut")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if op, _, err := s.Read(); err == nil || time.Since(start) > Patience/2 {
		t.Errorf("the origin's connection is cut, the client's is not: %d, %v", op, err)
	}
	n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
}
