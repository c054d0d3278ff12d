package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// origin is the server behind the proxy. It finds the script of a request by its path and
// Conf-Req-Num, follows it to the letter, and keeps what it saw.
type origin struct {
	mu    sync.Mutex
	plays map[string]*play
	conns map[net.Conn]bool
}

func newOrigin() *origin {
	return &origin{plays: map[string]*play{}, conns: map[net.Conn]bool{}}
}

func (o *origin) add(p *play) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.plays[p.id] = p
}

func (o *origin) find(target string) *play {
	_, rest, _ := strings.Cut(target, "/case/")
	id := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		id = rest[:i]
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.plays[id]
}

// serve answers on ln until ctx ends; then it closes ln and all connections.
func (o *origin) serve(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { ln.Close(); o.closeAll() })()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			o.closeAll()
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept at the origin: %w", err)
		}
		o.keep(conn, true)
		wg.Go(func() {
			defer o.keep(conn, false)
			defer conn.Close()
			o.conn(ctx, conn)
		})
	}
}

func (o *origin) keep(c net.Conn, on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if on {
		o.conns[c] = true
	} else {
		delete(o.conns, c)
	}
}

func (o *origin) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		c.Close()
	}
}

// conn serves one connection until an answer or an error ends it.
func (o *origin) conn(ctx context.Context, conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		start, fields, err := readHead(r)
		if err != nil {
			return
		}
		f := strings.Fields(start)
		if len(f) != 3 {
			return
		}
		b, err := readBody(r, fields, false)
		if err != nil || b.cut {
			return
		}
		s := &seen{fields: append([]field{{":method", f[0]}, {":target", f[1]}, {":body", b.text}}, fields...)}
		if err := o.respond(ctx, conn, s); err != nil || f[2] == "HTTP/1.0" {
			return
		}
	}
}

// errHangUp ends a connection on purpose.
var errHangUp = errors.New("the origin hangs up")

// respond follows the script. An error means that the connection cannot go on.
func (o *origin) respond(ctx context.Context, conn net.Conn, s *seen) error {
	target, _ := joined(s.fields, ":target")
	p := o.find(target)
	if p == nil {
		_, err := conn.Write([]byte("HTTP/1.1 404 Not Found\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n"))
		return err
	}
	num, _ := joined(s.fields, "Conf-Req-Num")
	s.n, _ = strconv.Atoi(num)
	if s.n < 1 || s.n > len(p.c.exchanges) {
		s.n = 0
	}
	p.arrived(s)
	a := p.c.exchanges[s.n-1].answer
	select {
	case <-time.After(a.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.answering(s)
	return p.answer(conn, a, s)
}
