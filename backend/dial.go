package backend

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
)

const (
	maxAddrs     = 16                     // of one host that are tried
	attemptDelay = 250 * time.Millisecond // before the next address is tried as well (RFC 8305 section 5)
)

// dial resolves b's host and connects to the first address that answers.
func (t *Transport) dial(ctx context.Context, b *wedge.Backend) (net.Conn, error) {
	addrs, err := t.resolve(ctx, b)
	if err != nil {
		return nil, err
	}
	t.stats.dials.Add(1)
	d := dialer(b, &t.cfg.Egress)
	c, err := dialFirst(ctx, addrs, func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", a.String())
	})
	if err != nil {
		return nil, classify(err, phaseConnect, false)
	}
	return c, nil
}

func dialer(b *wedge.Backend, e *Egress) *net.Dialer {
	d := &net.Dialer{ControlContext: e.control(b), KeepAlive: -1}
	if b.TCPKeepAlive {
		d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: b.TCPKeepTime, Interval: b.TCPKeepInterval, Count: b.TCPKeepProbes}
	}
	return d
}

// resolve returns the addresses to try, in that order.
func (t *Transport) resolve(ctx context.Context, b *wedge.Backend) ([]netip.AddrPort, error) {
	port, err := portOf(b)
	if err != nil {
		return nil, failure(wedge.FailureURI, err)
	}
	host := b.URL.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip, port)}, nil
	}
	ips, err := t.cfg.Resolve(ctx, host)
	if err != nil {
		return nil, classify(err, phaseResolve, false)
	}
	ips = interleave(ips, b.PreferIPv4)
	if len(ips) == 0 {
		return nil, failure(wedge.FailureDNS, &net.DNSError{Err: "no address", Name: host, IsNotFound: true})
	}
	out := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		out[i] = netip.AddrPortFrom(ip, port)
	}
	return out, nil
}

func portOf(b *wedge.Backend) (uint16, error) {
	s := b.URL.Port()
	if s == "" {
		if b.URL.Scheme == "https" {
			return 443, nil
		}
		return 80, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// interleave orders addresses so that the families take turns (RFC 8305 section 4),
// beginning with IPv4 if preferred, else with the family the resolver put first.
func interleave(ips []netip.Addr, v4first bool) []netip.Addr {
	var fam [2][]netip.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		i := 0
		if ip.Is4() != (v4first || ips[0].Unmap().Is4()) {
			i = 1
		}
		if !slices.Contains(fam[i], ip) {
			fam[i] = append(fam[i], ip)
		}
	}
	var out []netip.Addr
	for i := 0; len(out) < maxAddrs && (i < len(fam[0]) || i < len(fam[1])); i++ {
		for f := range fam {
			if i < len(fam[f]) {
				out = append(out, fam[f][i])
			}
		}
	}
	return out
}

// dialFirst tries addrs in order and returns the first connection. The next attempt begins
// when the one before has failed or has taken attemptDelay. If all fail the first error is returned.
func dialFirst(ctx context.Context, addrs []netip.AddrPort, dial func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, error) {
	if len(addrs) == 1 {
		return dial(ctx, addrs[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		c   net.Conn
		err error
	}
	results := make(chan result)
	start := func(a netip.AddrPort) {
		c, err := dial(ctx, a)
		select {
		case results <- result{c, err}:
		case <-ctx.Done(): // another one won
			if c != nil {
				c.Close()
			}
		}
	}
	var first error
	next := time.NewTimer(0)
	defer next.Stop()
	for begun, failed := 0, 0; ; {
		select {
		case <-next.C:
			if begun < len(addrs) {
				go start(addrs[begun])
				begun++
				next.Reset(attemptDelay)
			}
		case r := <-results:
			if r.err == nil {
				return r.c, nil
			}
			if first == nil {
				first = r.err
			}
			if failed++; failed == len(addrs) {
				return nil, first
			}
			next.Reset(0)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
