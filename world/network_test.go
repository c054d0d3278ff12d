package world

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

// echoed is a path to an end that says again what it hears.
func echoed(t *testing.T, p *path) net.Conn {
	t.Helper()
	c, err := p.dialed(func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			_, _ = io.Copy(far, far)
		}()
		return near, nil
	})(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// trip returns how long something takes to the other end and back.
func trip(t *testing.T, c net.Conn, n int) time.Duration {
	t.Helper()
	began, sent := time.Now(), bytes.Repeat([]byte("x"), n)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, n)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatal("not what was sent", err)
	}
	return time.Since(began)
}

// TestPath: a path takes its time, carries so much and no more, swallows what is sent while it is black, and ends what it carries
// when it is cut.
func TestPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPath(30 * time.Millisecond)
		c := echoed(t, p)
		if took := trip(t, c, 10); took != 60*time.Millisecond {
			t.Errorf("a round trip took %v", took)
		}
		p.set(func(p *path) { p.rate = 100_000 })
		if took := trip(t, echoed(t, p), 200_000); took < 2*time.Second || took > 2200*time.Millisecond {
			t.Errorf("200 kB at 100 kB/s took %v", took)
		}
		p.set(func(p *path) { p.rate = 0 })

		for _, way := range []Way{Out, In} {
			p.set(func(p *path) { p.black[way] = true })
			time.AfterFunc(3*time.Second, func() { p.set(func(p *path) { p.black[way] = false }) })
			if took := trip(t, c, 10); took < 3*time.Second || took > 3100*time.Millisecond {
				t.Errorf("way %d: black for 3 s, a round trip took %v", way, took)
			}
			p.set(func(p *path) { p.black[way] = true })
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
			if _, err := p.dialed(func(context.Context) (net.Conn, error) { return nil, errors.New("dialed") })(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("way %d: black, and a dial ends with %v", way, err)
			}
			stop()
			p.set(func(p *path) { p.black[way] = false })
		}

		p.set(func(p *path) { p.cut = true })
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("what is cut can be read")
		}
		if _, err := p.dialed(nil)(t.Context()); !errors.Is(err, errCut) {
			t.Error(err)
		}
	})
}

// TestBlackEnd: nobody is told of an end on a way that is black.
func TestBlackEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPath(time.Millisecond)
		ended := make(chan struct{})
		c, err := p.dialed(func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer close(ended)
				for _, err := far.Write([]byte("x")); err == nil; _, err = far.Write([]byte("x")) {
					time.Sleep(time.Second)
				}
			}()
			return near, nil
		})(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.set(func(p *path) { p.black[Out] = true })
		c.Close()
		time.Sleep(time.Minute)
		select {
		case <-ended:
			t.Error("the other end has heard of it")
		default:
		}
		p.set(func(p *path) { p.black[Out] = false })
		<-ended
		p.set(func(p *path) { p.cut = true })
	})
}

// TestOrders: what makes no sense is refused, and what does is done.
func TestOrders(t *testing.T) {
	l := newLab(t, Config{Flat: true})
	for _, o := range []Order{{Do: "dance"}, {Do: "blackhole", Way: "up"}, {Do: "bandwidth", Rate: 10}, {Do: "bandwidth", Rate: -1}, {Do: "skew", SkewMS: 1e12}, {Do: "lose", Share: 2}, {Do: "delay", DelayMS: -1}} {
		if err := l.Carry(t.Context(), o); wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Order{{Do: "blackhole", Way: "out"}, {Do: "bandwidth", Rate: 1e6}, {Do: "skew", SkewMS: -5000}} {
		o.PoPs = []string{"nrt"}
		if err := l.Carry(t.Context(), o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if s := l.Status()[2]; s.State != "black out" || s.BytesPerSecond != 1e6 || s.SkewMS != -5000 {
		t.Errorf("%+v", s)
	}
}

// TestBlackhole: a PoP whose path is black goes on, hears what it missed when that ends, and is missed meanwhile.
func TestBlackhole(t *testing.T) {
	for name, on := range map[string][]Way{"both": nil, "out": {Out}, "in": {In}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, Config{Flat: true})
			held := l.get("nrt", "/a")
			mine := l.get("lhr", "/b")
			if err := l.Blackhole(on, "nrt"); err != nil {
				t.Fatal(err)
			}
			l.purge("lhr", "/a")
			l.purge("nrt", "/b") // it is acknowledged where it was accepted
			heard := name == "out"
			if l.becomes("lhr has purged", time.Second, func() bool { return l.get("lhr", "/a") != held }); !heard && l.get("nrt", "/a") != held {
				t.Error("something arrived on a way that is black")
			}
			if name != "in" && l.get("lhr", "/b") != mine {
				t.Error("something arrived on a way that is black")
			}
			if err := l.Heal(); err != nil {
				t.Fatal(err)
			}
			l.becomes("nrt has purged", 10*time.Second, func() bool { return l.get("nrt", "/a") != held })
			l.becomes("lhr has purged what nrt did", 10*time.Second, func() bool { return l.get("lhr", "/b") != mine })
		})
	}
}
