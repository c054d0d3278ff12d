package hostcall

import (
	"io"
	"net/http"
	"sync"
)

// chunkSize is how much is read from a source, or copied to a client, at a time.
const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// A stream is a source of body bytes outside the sandbox: the client's request or a
// backend's response. The host reads it directly. The guest reads it through fill, one chunk
// in a goroutine, so that it can wait for several streams or give up at its deadline.
type stream struct {
	src     io.ReadCloser
	length  int64              // bytes still to come; -1: not known
	trailer func() http.Header // what followed the body, once it was read to its end; may be nil

	mu      sync.Mutex
	busy    bool // a goroutine is in src.Read
	closed  bool
	chunk   *[chunkSize]byte
	buf     []byte // the part of chunk that nobody has taken yet
	err     error  // what follows buf: io.EOF or a failure
	idle    sync.Cond
	waiters waiters
}

func newStream(src io.ReadCloser, length int64, trailer func() http.Header) *stream {
	s := &stream{src: src, length: length, trailer: trailer}
	s.idle.L = &s.mu
	return s
}

// settled reports whether a read would not block.
func (s *stream) settled() bool { return len(s.buf) > 0 || s.err != nil }

// fill begins to read a chunk if nothing is there and nobody reads; it reports whether a
// read would not block already.
func (s *stream) fill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled() || s.busy {
		return s.settled()
	}
	s.busy = true
	if s.chunk == nil {
		s.chunk = chunks.Get().(*[chunkSize]byte)
	}
	go s.readChunk(s.chunk)
	return false
}

func (s *stream) readChunk(chunk *[chunkSize]byte) {
	n, err := readSome(s.src, chunk[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if s.closed {
		chunks.Put(chunk)
	} else {
		s.buf, s.err = chunk[:n], err
	}
	s.idle.Broadcast()
	s.waiters.wake()
}

// readSome reads until there is a byte or an error.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for range 100 {
		if n, err = r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func (s *stream) notify(ch chan<- struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters.add(ch)
}

// take moves what is buffered into p; a stream that is not settled gives 0, nil.
func (s *stream) take(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeLocked(p)
}

func (s *stream) takeLocked(p []byte) (int, error) {
	if len(s.buf) == 0 {
		return 0, s.err
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	s.count(n)
	if len(s.buf) == 0 {
		s.recycle()
	}
	return n, nil
}

func (s *stream) count(n int) {
	if s.length >= 0 {
		s.length = max(s.length-int64(n), 0)
	}
}

func (s *stream) recycle() {
	if s.chunk != nil && !s.busy {
		chunks.Put(s.chunk)
		s.chunk, s.buf = nil, nil
	}
}

// read is for the host: it blocks until there is a byte or an error, which Close brings about.
func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	for s.busy {
		s.idle.Wait()
	}
	if s.settled() || len(p) == 0 {
		defer s.mu.Unlock()
		return s.takeLocked(p)
	}
	s.busy = true
	s.mu.Unlock()
	n, err := readSome(s.src, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	s.count(n)
	if !s.closed {
		s.err = err
	}
	s.idle.Broadcast()
	if n > 0 {
		return n, nil
	}
	return 0, s.err
}

// remaining returns how many bytes are still to come, -1 if that is not known.
func (s *stream) remaining() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.length
}

// close gives the source up. Whoever reads it gets an error.
func (s *stream) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	if s.err == nil {
		s.err = errClosed
	}
	s.recycle()
	s.buf = nil
	s.waiters.wake()
	s.idle.Broadcast()
	s.mu.Unlock()
	s.src.Close()
}
