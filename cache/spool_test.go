package cache

import (
	"context"
	"testing"
	"time"
)

// TestSpoolLockIsALeaf: whoever has the disk's lock may ask a body where it lies, while another is opening it. Once each
// waited for the other, and a node stood still.
func TestSpoolLockIsALeaf(t *testing.T) {
	d := &disk{}
	s := lyingBody(&lying{d: d, at: placeOf(1, 0), size: 5}, nil)
	d.mu.Lock()
	opened, asked := make(chan error), make(chan struct{})
	go func() {
		_, err := s.open(context.Background(), 0, -1)
		opened <- err
	}()
	time.Sleep(20 * time.Millisecond) // it waits for the disk's lock now, or a little later
	go func() {
		s.alsoAt(&lying{})
		s.lost()
		close(asked)
	}()
	select {
	case <-asked:
	case <-time.After(5 * time.Second):
		t.Error("a body is locked by who waits for the disk")
	}
	d.mu.Unlock()
	if err := <-opened; err != errGone {
		t.Error(err)
	}
}
