package backend

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestEgressOfDynamicBackends(t *testing.T) {
	refused := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.1",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1", "192.0.0.192", "198.18.0.1",
		"224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16",
		"::", "::1", "::127.0.0.1", "::8.8.8.8", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
		"64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8",
		"2002:7f00:1::1", "2002:a00:1::1", "2002:a00:1::5efe:808:808",
		"2600::5efe:10.0.0.1", "2600::200:5efe:127.0.0.1",
		"2001:0:808:808::1", "2001:db8::1", "3fff::1", "100::1",
	}
	public := []string{"8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2600::5efe:8.8.8.8"}
	var e Egress
	dynamic, static := &wedge.Backend{Dynamic: true}, &wedge.Backend{AllowPrivateAddr: true}
	for _, s := range refused {
		a := netip.MustParseAddr(s)
		if e.check(a, dynamic) == nil {
			t.Errorf("%s is allowed", s)
		}
		if err := e.check(a, static); err != nil {
			t.Errorf("%s is refused to a static backend", s)
		}
	}
	for _, s := range public {
		if e.check(netip.MustParseAddr(s), dynamic) != nil {
			t.Errorf("%s is refused", s)
		}
	}
}

func TestEgressLists(t *testing.T) {
	e := Egress{Allow: prefixes("10.1.0.0/16"), Deny: prefixes("10.1.2.0/24", "8.8.8.0/24")}
	dynamic := &wedge.Backend{Egress: prefixes("192.168.7.0/24")}
	for s, ok := range map[string]bool{
		"10.1.1.1": true, "10.2.1.1": false, "10.1.2.3": false, "192.168.7.1": true, "192.168.8.1": false,
		"::ffff:10.1.1.1": true, "64:ff9b::10.1.1.1": true, "64:ff9b::10.1.2.3": false, "8.8.8.8": false, "2002:808:808::1": false,
	} {
		if err := e.check(netip.MustParseAddr(s), dynamic); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
	if e.check(netip.MustParseAddr("10.1.2.3"), &wedge.Backend{AllowPrivateAddr: true}) == nil {
		t.Error("deny must hold for static backends")
	}
}

func FuzzEgress(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add(netip.MustParseAddr("2002:a00:1::1").AsSlice())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		var e Egress
		if err := e.check(a, &wedge.Backend{}); err != nil {
			return
		}
		u := a.Unmap()
		if u.IsPrivate() || u.IsLoopback() || u.IsLinkLocalUnicast() || u.IsMulticast() || u.IsUnspecified() {
			t.Errorf("%s is allowed", a)
		}
	})
}

// TestRebinding changes the answer between two look-ups, as a hostile name server does.
func TestRebinding(t *testing.T) {
	n := 0
	tr := newTransport(t, Config{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		n++
		return []netip.Addr{netip.MustParseAddr([]string{"169.254.169.254", "127.0.0.1"}[n%2])}, nil
	}})
	b := static(t, "http://"+rawOrigin(t, saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
	b.URL.Host = "rebind.test:" + b.URL.Port()
	b.AllowPrivateAddr = false
	for range 4 {
		if _, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil)); fetchError(t, err).Failure != wedge.FailureUnroutable {
			t.Error(err)
		}
	}
}

func TestInterleave(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	for _, c := range []struct {
		in   []netip.Addr
		v4   bool
		want []netip.Addr
	}{
		{nil, true, nil},
		{addrs("2600::1", "2600::2", "1.1.1.1", "1.1.1.2"), false, addrs("2600::1", "1.1.1.1", "2600::2", "1.1.1.2")},
		{addrs("2600::1", "2600::2", "1.1.1.1"), true, addrs("1.1.1.1", "2600::1", "2600::2")},
		{addrs("1.1.1.1", "2600::1", "::ffff:1.1.1.1"), false, addrs("1.1.1.1", "2600::1")},
	} {
		got := interleave(c.in, c.v4)
		if len(got) != len(c.want) {
			t.Fatalf("got %v, want %v", got, c.want)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("got %v, want %v", got, c.want)
			}
		}
	}
}

func TestDialFirst(t *testing.T) {
	addr := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 1, 1, i}), 80) }
	type plan struct {
		after time.Duration
		err   error
	}
	errA, errB := errors.New("a"), errors.New("b")
	for _, c := range []struct {
		name  string
		plans []plan
		took  time.Duration
		err   error
	}{
		{"first", []plan{{10 * time.Millisecond, nil}, {0, errB}}, 10 * time.Millisecond, nil},
		{"first fails", []plan{{10 * time.Millisecond, errA}, {5 * time.Millisecond, nil}}, 15 * time.Millisecond, nil},
		{"first is slow", []plan{{time.Hour, nil}, {5 * time.Millisecond, nil}}, attemptDelay + 5*time.Millisecond, nil},
		{"first is slow, second fails", []plan{{time.Second, nil}, {0, errB}}, time.Second, nil},
		{"all fail", []plan{{time.Second, errA}, {0, errB}}, time.Second, errB},
		{"time runs out", []plan{{time.Hour, nil}, {time.Hour, nil}}, 10 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				start := time.Now()
				conn, err := dialFirst(ctx, []netip.AddrPort{addr(0), addr(1)}, func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
					p := c.plans[a.Addr().As4()[3]]
					select {
					case <-time.After(p.after):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if p.err != nil {
						return nil, p.err
					}
					x, y := net.Pipe()
					y.Close()
					return x, nil
				})
				if err != c.err || (conn == nil) == (err == nil) || time.Since(start) != c.took {
					t.Errorf("%v, %v after %s; want %v after %s", conn, err, time.Since(start), c.err, c.took)
				}
			})
		})
	}
}
