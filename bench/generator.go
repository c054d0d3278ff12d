package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// maxFiles is how many files a part opens at most: two for each request that waits, and some.
const maxFiles = 2*waitingRequests + 500

// loadTask is what a load generator does: requests as fast as they are answered, at a rate, or
// each connection one.
type loadTask struct {
	Addr        string
	Connections int
	Seconds     float64
	Rate        float64 // requests a second, at fixed times; 0: each as soon as the last is answered
	Once        bool    // one request on each connection, at the Rate; Seconds is the longest wait
	Streams     int     // with Once: so many more requests, over HTTP/2 connections that they share
	Want        string  // the body to expect
}

// childLoad generates load and prints what came of it.
func childLoad(ctx context.Context, arg []byte) error {
	var task loadTask
	if err := json.Unmarshal(arg, &task); err != nil {
		return err
	}
	raiseFiles(maxFiles)
	runtime.GOMAXPROCS(1) // the servers need the processors more
	if task.Rate > 0 {
		runtime.GOMAXPROCS(2) // the clock keeps one while it sleeps
	}
	l, err := task.run(untilStdinEnds(ctx))
	if err == nil {
		fmt.Println(l)
	}
	return err
}

func (t loadTask) run(ctx context.Context) (load, error) {
	all := make([]*caller, t.Connections)
	for n := range all {
		all[n] = &caller{task: &t, load: load{Latency: histogram{}}}
		defer all[n].close()
		if t.Once {
			continue // a server closes connections that bring no request in time
		}
		if err := all[n].dial(); err != nil {
			return load{}, err
		}
	}
	begin := time.Now()
	end := begin.Add(time.Duration(t.Seconds * float64(time.Second)))
	var due chan time.Time
	if t.Rate > 0 {
		due = make(chan time.Time, 1<<16)
		go t.clock(begin, end, due)
	}
	var w sync.WaitGroup
	for _, c := range all {
		w.Go(func() { c.call(ctx, end, due) })
	}
	sum := load{}
	if t.Streams > 0 {
		sum.join(t.streams(ctx, due))
	}
	w.Wait()
	for _, c := range all {
		sum.join(c.load)
	}
	sum.Seconds = time.Since(begin).Seconds()
	if due != nil && !t.Once && float64(sum.Requests) < .95*t.Rate*t.Seconds {
		return sum, fmt.Errorf("sent %d requests of %.0f: the load generator does not keep up", sum.Requests, t.Rate*t.Seconds)
	}
	return sum, ctx.Err()
}

// clock says when each request is due, whether or not somebody is free to send it. It has a
// thread of its own, for the runtime's timers can be a millisecond late.
func (t loadTask) clock(begin, end time.Time, due chan<- time.Time) {
	runtime.LockOSThread()
	defer close(due)
	step := time.Duration(float64(time.Second) / t.Rate)
	for at := begin.Add(step); at.Before(end); at = at.Add(step) {
		sleepUntil(at)
		due <- at
	}
}

// caller is one connection.
type caller struct {
	task *loadTask
	conn net.Conn
	r    *bufio.Reader
	load load
	body []byte
}

var request = []byte("GET / HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")

func (c *caller) dial() (err error) {
	if c.conn, err = net.Dial("tcp", c.task.Addr); err == nil {
		c.r = bufio.NewReaderSize(c.conn, 2048)
	}
	return err
}

func (c *caller) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *caller) call(ctx context.Context, end time.Time, due <-chan time.Time) {
	for ctx.Err() == nil {
		at := time.Now()
		if due != nil {
			var more bool
			if at, more = <-due; !more {
				return
			}
		} else if !at.Before(end) {
			return
		}
		c.load.Requests++
		if err := c.once(end.Add(10 * time.Second)); err != nil {
			c.load.Failed++
			c.load.Why = err.Error()
			return
		}
		c.load.Latency.add(time.Since(at))
		if c.task.Once {
			return
		}
	}
}

// once sends a request and reads its answer.
func (c *caller) once(deadline time.Time) error {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return err
		}
	}
	if c.load.Requests == 1 {
		_ = c.conn.SetDeadline(deadline)
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	length, err := c.head()
	if err != nil {
		return err
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.r, c.body); err != nil {
		return err
	}
	if string(c.body) != c.task.Want {
		return fmt.Errorf("answered %q", c.body)
	}
	return nil
}

var (
	statusOK      = []byte("HTTP/1.1 200")
	contentLength = []byte("content-length:")
	chunked       = []byte("transfer-encoding: chunked")
)

// head reads a response's head and returns the length of its body. It knows no more of HTTP
// than the servers here use, and says so if that is not enough.
func (c *caller) head() (length int, err error) {
	length = -1
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first && !bytes.HasPrefix(line, statusOK):
			return 0, fmt.Errorf("answered %q", line)
		case len(line) == 0 && length < 0:
			return 0, errors.New("answered without a length")
		case len(line) == 0:
			return length, nil
		case len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil || length > 1<<20 {
				return 0, fmt.Errorf("length %q", line)
			}
		case bytes.EqualFold(line, chunked):
			return 0, errors.New("answered in chunks")
		}
	}
}

// generate runs a load generator in a process of its own.
func generate(ctx context.Context, task loadTask) (load, error) {
	p, err := spawn(ctx, "load", task)
	if err != nil {
		return load{}, err
	}
	line, err := p.line()
	if err != nil {
		return load{}, err
	}
	var l load
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return l, err
	}
	return l, p.stop()
}
