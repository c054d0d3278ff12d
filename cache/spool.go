package cache

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
)

// chunkSize is how much of a body is kept in one piece while it comes.
const chunkSize = 32 << 10

// window is how far a body that is too large to be kept may run ahead of its slowest reader.
const window = 4 << 20

var errGone = errors.New("the body is no longer kept from its start")

// A spool is a body that may be read, from any place and by any number of readers, while it is
// still being written by one writer.
type spool struct {
	mu      sync.Mutex
	chunks  [][]byte // each full but the last
	first   int64    // offset of the first chunk: 0 unless the body is too large to be kept
	size    int64    // bytes written
	ended   bool
	err     error // why it ended short
	large   bool  // read bytes are dropped
	awaited bool  // a first reader is about to come
	news    chan struct{}
	eaten   chan struct{} // the writer waits for readers
	reader  map[*spoolReader]struct{}

	trailer http.Header // set before the end

	disk   *lying                // where all of it lies instead of in chunks
	copied atomic.Pointer[lying] // where it lies besides
}

func newSpool() *spool { return &spool{news: make(chan struct{}), reader: map[*spoolReader]struct{}{}} }

// wholeBody returns a spool that holds b, which must not change afterwards.
func wholeBody(b []byte) *spool {
	s := &spool{size: int64(len(b)), ended: true}
	if len(b) > 0 {
		s.chunks = [][]byte{b}
	}
	return s
}

// lost reports whether the body can no longer be read from disk.
func (s *spool) lost() bool { return s.disk != nil && (s.disk.bad.Load() || s.disk.gone.Load()) }

// write adds p. Of a large body it waits while the slowest reader lags, and fails when nobody reads.
func (s *spool) write(p []byte) error {
	for len(p) > 0 {
		s.mu.Lock()
		if s.large {
			s.forget()
			if len(s.reader) == 0 && !s.awaited {
				s.mu.Unlock()
				return errGone
			}
			if s.size-s.first > window {
				s.eaten = make(chan struct{})
				wait := s.eaten
				s.mu.Unlock()
				<-wait
				continue
			}
		}
		p = p[s.add(p):]
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
	}
	return nil
}

func (s *spool) add(p []byte) int {
	last := len(s.chunks) - 1
	if last < 0 || len(s.chunks[last]) == chunkSize {
		s.chunks = append(s.chunks, make([]byte, 0, min(chunkSize, max(len(p), 512))))
		last++
	}
	n := min(len(p), chunkSize-len(s.chunks[last]))
	s.chunks[last] = append(s.chunks[last], p[:n]...)
	s.size += int64(n)
	return n
}

// forget drops chunks that every reader has passed.
func (s *spool) forget() {
	if s.awaited {
		return
	}
	low := s.size
	for r := range s.reader {
		low = min(low, r.at)
	}
	for len(s.chunks) > 1 && s.first+chunkSize <= low {
		s.chunks = s.chunks[1:]
		s.first += chunkSize
	}
}

// outgrow says that the body is too large to be kept: who reads it goes on, nobody else can begin.
func (s *spool) outgrow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.large = true
}

// end says that no more will come; err is nil for a whole body.
func (s *spool) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.err = true, err
	close(s.news)
}

// shrink makes one piece of a whole body's chunks, if the last ones have room to spare.
func (s *spool) shrink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.chunks {
		if cap(c)-len(c) > len(c)/8 {
			s.chunks[i] = append(make([]byte, 0, len(c)), c...)
		}
	}
}

// open returns a reader of n bytes from offset from; n < 0: to the end.
func (s *spool) open(ctx context.Context, from, n int64) (*spoolReader, error) {
	if s.disk != nil {
		return s.openOnDisk(ctx, from, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.large && s.first > 0 {
		return nil, errGone
	}
	r := &spoolReader{s: s, ctx: ctx, at: from, end: -1}
	if n >= 0 {
		r.end = from + n
	}
	if !s.ended {
		s.reader[r] = struct{}{}
	}
	return r, nil
}

// openOnDisk is open for a body that lies on disk. It fails with errGone if that cannot be read.
func (s *spool) openOnDisk(ctx context.Context, from, n int64) (*spoolReader, error) {
	d, err := s.disk.open(from)
	if err != nil {
		return nil, err
	}
	r := &spoolReader{s: s, ctx: ctx, at: from, end: -1, disk: d}
	if n >= 0 {
		r.end = from + n
	}
	return r, nil
}

// spoolReader is one reader of a spool.
type spoolReader struct {
	s       *spool
	ctx     context.Context
	at, end int64       // end -1: that of the body
	trailer http.Header // gets the body's at the end
	disk    *blockReader
}

// next returns the bytes at r's place without copying them, waiting for some.
func (r *spoolReader) next(limit int) ([]byte, error) {
	s := r.s
	if s.disk != nil {
		return r.nextOnDisk(limit)
	}
	for {
		s.mu.Lock()
		if r.end >= 0 && r.at >= r.end {
			s.mu.Unlock()
			return nil, io.EOF
		}
		if r.at < s.size {
			b := s.at(r.at, limit)
			if r.end >= 0 {
				b = b[:min(int64(len(b)), r.end-r.at)]
			}
			r.at += int64(len(b))
			s.wakeWriter()
			s.mu.Unlock()
			return b, nil
		}
		if s.ended {
			err := s.err
			s.mu.Unlock()
			if err == nil {
				err = io.EOF
				if r.trailer != nil {
					maps.Copy(r.trailer, s.trailer)
				}
			}
			return nil, err
		}
		news := s.news
		s.mu.Unlock()
		select {
		case <-news:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
}

// nextOnDisk is next for a body that lies on disk: what it returns is good until it is called again.
func (r *spoolReader) nextOnDisk(limit int) ([]byte, error) {
	end := r.s.size
	if r.end >= 0 {
		end = min(end, r.end)
	}
	if r.at >= end {
		if r.end < 0 && r.trailer != nil {
			maps.Copy(r.trailer, r.s.trailer)
		}
		r.disk.close()
		return nil, io.EOF
	}
	if r.disk.buf == nil {
		return nil, errGone
	}
	b, err := r.disk.at(r.at, int(min(int64(limit), end-r.at)))
	r.at += int64(len(b))
	return b, err
}

// at returns up to limit bytes at an offset; chunks but the last are full while a body comes.
func (s *spool) at(off int64, limit int) []byte {
	off -= s.first
	for _, c := range s.chunks {
		if off < int64(len(c)) {
			return c[off:min(int64(len(c)), off+int64(limit)):len(c)]
		}
		off -= int64(len(c))
	}
	return nil
}

// Read implements io.Reader.
func (r *spoolReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := r.next(len(p))
	return copy(p, b), err
}

// WriteTo implements io.WriterTo, without copying.
func (r *spoolReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		b, err := r.next(1 << 20)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		k, err := w.Write(b)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
}

// Close lets the writer go on without this reader.
func (r *spoolReader) Close() error {
	s := r.s
	if r.disk != nil {
		r.disk.close()
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reader, r)
	s.wakeWriter()
	return nil
}

func (s *spool) wakeWriter() {
	if s.eaten != nil {
		close(s.eaten)
		s.eaten = nil
	}
}

// release says that who was awaited has come, or will not.
func (s *spool) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaited = false
	s.wakeWriter()
}
