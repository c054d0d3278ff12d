package manifest

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// output passes on what several writers print and remembers the end of it.
type output struct {
	mu   sync.Mutex
	w    io.Writer
	tail []byte
}

const tailSize = 8 << 10

// Write passes b on and never stops a build because nobody reads it.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(o.tail, b...)
	if n := len(o.tail); n > tailSize {
		o.tail = append(o.tail[:0], o.tail[n-tailSize:]...)
	}
	_, _ = o.w.Write(b)
	return len(b), nil
}

// line writes a line of our own, not into the middle of one that a tool has begun.
func (o *output) line(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.tail); n > 0 && o.tail[n-1] != '\n' {
		s = "\n" + s
	}
	o.tail = append(o.tail, s+"\n"...)
	_, _ = io.WriteString(o.w, s+"\n")
}

func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.tail)
}

// progress prints "what ... 1s" to o after 1, 2, 4 seconds and so on, every 30 at most,
// until the function it returns is called.
func progress(ctx context.Context, o *output, what string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		start, wait := time.Now(), time.Second
		for {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
			passed := time.Since(start).Round(time.Second)
			o.line(fmt.Sprintf("%s ... %s", what, passed))
			wait = min(passed, 30*time.Second)
		}
	}()
	return func() { cancel(); <-done }
}
