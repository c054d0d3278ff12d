package compute

import (
	"runtime"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

func TestEndlessGuestDuringGC(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) { m.Main("", w.Forever) }), Options{Limits: wedge.Limits{CPU: 100 * time.Millisecond}})
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				done <- n
				return
			default:
				runtime.GC()
				n++
			}
		}
	}()
	for range 5 {
		_, err := serve(m)
		wantKind(t, err, wedge.Exhausted)
	}
	close(stop)
	t.Log(<-done, "collections")
}
