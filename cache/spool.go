package cache

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// chunkSize is how much of a body is kept in one piece while it comes.
const chunkSize = 32 << 10

// window is how far a body that is too large to be kept may run ahead of its slowest reader.
const window = 4 << 20

var errGone = errors.New("the body is no longer kept from its start")

// A spool is a body that may be read, from any place and by any number of readers, while it is
// still being written by one writer. One that is whole, and in memory in one piece, is little more than its bytes.
type spool struct {
	mu   sync.Mutex // a leaf: nothing else is locked under it
	size int64      // bytes written
	only []byte     // all of it, if long is nil
	long *long
}

// long is what a spool needs that is not just one piece.
type long struct {
	chunks  [][]byte // each full but the last, while it comes
	first   int64    // offset of the first chunk: 0 unless the body is too large to be kept
	ended   bool
	err     error // why it ended short
	large   bool  // read bytes are dropped
	awaited bool  // a first reader is about to come
	news    chan struct{}
	eaten   chan struct{} // the writer waits for readers
	reader  map[*spoolReader]struct{}

	trailer http.Header

	disk   *lying                // where all of it lies instead of in chunks
	copied atomic.Pointer[lying] // where it lies besides
}

// newSpool returns a spool to be written. awaited: somebody is about to read it from the start.
func newSpool(awaited bool) *spool {
	return &spool{long: &long{awaited: awaited, news: make(chan struct{}), reader: map[*spoolReader]struct{}{}}}
}

// wholeBody returns a spool that holds these pieces, which must not change afterwards.
func wholeBody(pieces ...[]byte) *spool {
	s := &spool{}
	for _, p := range pieces {
		s.size += int64(len(p))
	}
	if len(pieces) == 1 {
		s.only = pieces[0]
	} else if len(pieces) > 1 {
		s.long = &long{chunks: pieces, ended: true}
	}
	return s
}

// lyingBody returns a spool for a body on disk.
func lyingBody(l *lying, trailer http.Header) *spool {
	return &spool{size: l.size, long: &long{ended: true, disk: l, trailer: trailer}}
}

// isWhole is whole for whoever has s.mu.
func (s *spool) isWhole() bool { return s.long == nil || s.long.ended && s.long.err == nil }

// lying returns where the body lies on disk instead of in memory, or nil.
func (s *spool) lying() *lying {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.long == nil {
		return nil
	}
	return s.long.disk
}

// copyOnDisk returns where the body lies, instead or besides, or nil.
func (s *spool) copyOnDisk() *lying {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.long == nil:
		return nil
	case s.long.disk != nil:
		return s.long.disk
	}
	return s.long.copied.Load()
}

// alsoAt notes where a body in memory lies besides. Small ones are not worth it.
func (s *spool) alsoAt(l *lying) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.long != nil && s.long.disk == nil {
		s.long.copied.Store(l)
	}
}

func (s *spool) inMemory() bool { return s.lying() == nil }

// lost reports whether the body can no longer be read from disk.
func (s *spool) lost() bool {
	l := s.lying()
	return l != nil && (l.bad.Load() || l.gone.Load())
}

// kept returns the pieces of a whole body in memory, to be appended to.
func (s *spool) kept() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.long != nil {
		return slices.Clone(s.long.chunks)
	}
	return [][]byte{s.only}
}

// trailer returns the trailer of a whole body.
func (s *spool) trailer() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.long == nil {
		return nil
	}
	return s.long.trailer
}

// write adds p. Of a large body it waits while the slowest reader lags, and fails when nobody reads.
func (s *spool) write(p []byte) error {
	for len(p) > 0 {
		s.mu.Lock()
		l := s.long
		if l.large {
			s.forget()
			if len(l.reader) == 0 && !l.awaited {
				s.mu.Unlock()
				return errGone
			}
			if s.size-l.first > window {
				l.eaten = make(chan struct{})
				wait := l.eaten
				s.mu.Unlock()
				<-wait
				continue
			}
		}
		p = p[s.add(p):]
		close(l.news)
		l.news = make(chan struct{})
		s.mu.Unlock()
	}
	return nil
}

func (s *spool) add(p []byte) int {
	l := s.long
	last := len(l.chunks) - 1
	if last < 0 || len(l.chunks[last]) == chunkSize {
		l.chunks = append(l.chunks, make([]byte, 0, min(chunkSize, max(len(p), 512))))
		last++
	}
	n := min(len(p), chunkSize-len(l.chunks[last]))
	l.chunks[last] = append(l.chunks[last], p[:n]...)
	s.size += int64(n)
	return n
}

// forget drops chunks that every reader has passed.
func (s *spool) forget() {
	l := s.long
	if l.awaited {
		return
	}
	low := s.size
	for r := range l.reader {
		low = min(low, r.at)
	}
	for len(l.chunks) > 1 && l.first+chunkSize <= low {
		l.chunks = l.chunks[1:]
		l.first += chunkSize
	}
}

// outgrow says that the body is too large to be kept: who reads it goes on, nobody else can begin.
func (s *spool) outgrow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.long.large = true
}

// end says that the body breaks off.
func (s *spool) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.long.ended, s.long.err = true, err
	s.wakeReaders()
}

func (s *spool) wakeReaders() {
	close(s.long.news)
	s.long.news, s.long.reader = nil, nil
}

// finish says that the body is whole. Its pieces are cut to what is in them.
func (s *spool) finish(trailer http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.long
	for i, c := range l.chunks {
		if cap(c)-len(c) > len(c)/8 {
			l.chunks[i] = append(make([]byte, 0, len(c)), c...)
		}
	}
	l.ended = true
	if len(trailer) > 0 {
		l.trailer = trailer
	}
	s.wakeReaders()
	if len(l.chunks) <= 1 && l.trailer == nil && !l.large {
		if len(l.chunks) == 1 {
			s.only = l.chunks[0]
		}
		s.long = nil
	}
}

// open returns a reader of n bytes from offset from; n < 0: to the end.
func (s *spool) open(ctx context.Context, from, n int64) (*spoolReader, error) {
	if l := s.lying(); l != nil { // not with s.mu held: it takes the disk's lock, and reads
		return s.openOnDisk(ctx, l, from, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.long
	if l != nil && l.large && l.first > 0 {
		return nil, errGone
	}
	r := &spoolReader{s: s, ctx: ctx, at: from, end: -1}
	if n >= 0 {
		r.end = from + n
	}
	if l != nil && !l.ended {
		l.reader[r] = struct{}{}
	}
	return r, nil
}

// openOnDisk is open for a body that lies on disk. It fails with errGone if that cannot be read.
func (s *spool) openOnDisk(ctx context.Context, l *lying, from, n int64) (*spoolReader, error) {
	d, err := l.open(from)
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
	if r.disk != nil {
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
		if s.long == nil || s.long.ended {
			defer s.mu.Unlock()
			return nil, s.ending(r)
		}
		news := s.long.news
		s.mu.Unlock()
		select {
		case <-news:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
}

// ending returns how a body ended for a reader that has all of it.
func (s *spool) ending(r *spoolReader) error {
	if s.long == nil {
		return io.EOF
	}
	if s.long.err != nil {
		return s.long.err
	}
	if r.trailer != nil {
		maps.Copy(r.trailer, s.long.trailer)
	}
	return io.EOF
}

// nextOnDisk is next for a body that lies on disk: what it returns is good until it is called again.
func (r *spoolReader) nextOnDisk(limit int) ([]byte, error) {
	end := r.s.size
	if r.end >= 0 {
		end = min(end, r.end)
	}
	if r.at >= end {
		if r.end < 0 && r.trailer != nil {
			maps.Copy(r.trailer, r.s.long.trailer)
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
	if s.long == nil {
		return s.only[off:min(s.size, off+int64(limit)):s.size]
	}
	off -= s.long.first
	for _, c := range s.long.chunks {
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
	if s.long != nil {
		delete(s.long.reader, r)
	}
	s.wakeWriter()
	return nil
}

func (s *spool) wakeWriter() {
	if l := s.long; l != nil && l.eaten != nil {
		close(l.eaten)
		l.eaten = nil
	}
}

// release says that who was awaited has come, or will not.
func (s *spool) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.long != nil {
		s.long.awaited = false
	}
	s.wakeWriter()
}
