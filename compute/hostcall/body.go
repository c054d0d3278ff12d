package hostcall

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/wedge-cloud/wedge/abi"
)

// streamRoom is how many bytes may wait in a streaming body before a writer blocks.
const streamRoom = 64 << 10

// maxParts is how many pieces one body may be made of.
const maxParts = 1 << 14

var (
	errClosed    = errors.New("body was closed")
	errAbandoned = errors.New("guest gave the body up before its end")
	errTooLarge  = errors.New("body is too large")
)

// A body is a queue of bytes and streams. The guest reads it and writes to either end; or it
// is streaming: then the guest only writes, and one consumer on the host (the client's
// response, a request to a backend) reads what comes until the guest closes it.
type body struct {
	mu       sync.Mutex
	parts    []part
	buffered int // bytes in parts that are not streams
	account  *account
	trailers headers // streams add theirs when they end
	atEnd    bool    // the guest has read to the end

	streaming bool
	ended     bool  // no more will be written
	failed    error // the consumer gets it instead of an end
	gone      bool  // the consumer left
	muted     bool  // the consumer takes no bytes, and the writer need not know
	taken     item  // ready when a consumer that is quick about it has all; nil: the consumer takes its time

	waiters waiters       // of the guest: for bytes, or for room
	news    chan struct{} // of the consumer: something was written
}

// A part is bytes that belong to the body, or a stream.
type part struct {
	bytes  []byte
	stream *stream
}

// newBody returns a body that holds b, which must not change afterwards.
func newBody(b []byte) *body {
	d := &body{}
	if len(b) > 0 {
		d.parts, d.buffered = []part{{bytes: b[:len(b):len(b)]}}, len(b)
	}
	return d
}

// newStreamBody returns a body that gives what s gives.
func newStreamBody(s *stream) *body { return &body{parts: []part{{stream: s}}} }

// adopt makes the body count against a; it reports false when there is no room.
func (b *body) adopt(a *account) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !a.hold(b.buffered) {
		return false
	}
	b.account.release(b.buffered)
	b.account = a
	return b.trailers.adopt(a)
}

// size returns how many bytes are still to be read; ok is false when that is not known.
func (b *body) size() (n int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streaming && !b.ended || b.failed != nil {
		return 0, false
	}
	for _, p := range b.parts {
		if p.stream == nil {
			n += int64(len(p.bytes))
			continue
		}
		rest := p.stream.remaining()
		if rest < 0 || n+rest < 0 {
			return 0, false
		}
		n += rest
	}
	return n, true
}

// whole reports whether all of the body is there, in no more than limit bytes.
func (b *body) whole(limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streaming && !b.ended || b.failed != nil || b.buffered > limit {
		return false
	}
	return !b.isReading()
}

// reading reports whether some of the body is still to come from elsewhere.
func (b *body) reading() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isReading()
}

// isReading is reading for whoever has b.mu.
func (b *body) isReading() bool {
	return slices.ContainsFunc(b.parts, func(p part) bool { return p.stream != nil })
}

// holds reports whether the body reads src.
func (b *body) holds(src io.ReadCloser) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.parts {
		if p.stream != nil && p.stream.src == src {
			return true
		}
	}
	return false
}

// write adds a copy of p at the back, or at the front. It does not wait for room.
func (b *body) write(p []byte, front bool) abi.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.muted:
		return abi.OK
	case b.gone:
		return abi.BadHandle
	case front && b.streaming:
		return abi.Unsupported
	case len(p) == 0:
		return abi.OK
	case len(b.parts) >= maxParts || !b.account.hold(len(p)):
		return abi.LimitExceeded
	}
	if front {
		b.parts = append([]part{{bytes: append([]byte(nil), p...)}}, b.parts...)
	} else {
		b.appendBytes(p)
	}
	b.buffered += len(p)
	b.tell()
	return abi.OK
}

// appendBytes joins small writes, so that a guest writing single bytes costs a byte each.
func (b *body) appendBytes(p []byte) {
	if last := len(b.parts) - 1; last >= 0 && b.parts[last].stream == nil && len(b.parts[last].bytes)+len(p) <= chunkSize {
		b.parts[last].bytes = append(b.parts[last].bytes, p...)
		return
	}
	b.parts = append(b.parts, part{bytes: append([]byte(nil), p...)})
}

// tell wakes the consumer.
func (b *body) tell() {
	if b.news != nil {
		select {
		case b.news <- struct{}{}:
		default:
		}
	}
}

// append moves everything of src to the back of b, trailers too. src must not be used again.
func (b *body) append(src *body) abi.Status {
	src.mu.Lock()
	parts, n, trailers, from := src.parts, src.buffered, src.trailers, src.account
	src.parts, src.buffered, src.trailers = nil, 0, headers{}
	src.mu.Unlock()

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone || len(b.parts)+len(parts) > maxParts {
		closeParts(parts)
		from.release(n)
		trailers.free()
		if b.muted {
			return abi.OK
		}
		if b.gone {
			return abi.BadHandle
		}
		return abi.LimitExceeded
	}
	if b.account == nil {
		from.release(n)
	}
	b.parts = append(b.parts, parts...)
	b.buffered += n
	for _, f := range trailers.list {
		b.trailers.add(f.name, f.value)
	}
	b.tell()
	return abi.OK
}

// makeStreaming turns the body into a write-only one; the caller becomes its consumer.
func (b *body) makeStreaming() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streaming = true
	b.news = make(chan struct{}, 1)
}

func (b *body) isStreaming() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.streaming
}

// ready reports whether the guest may write (streaming) or read without waiting.
func (b *body) ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streaming {
		return b.gone || b.buffered < streamRoom
	}
	return b.readable()
}

func (b *body) readable() bool {
	for len(b.parts) > 0 {
		p := b.parts[0]
		if p.stream == nil {
			return true
		}
		if !p.stream.fill() {
			return false
		}
		if !b.dropIfEnded() {
			return true
		}
	}
	return true
}

func (b *body) notify(ch chan<- struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiters.add(ch)
	if !b.streaming && len(b.parts) > 0 && b.parts[0].stream != nil {
		b.parts[0].stream.notify(ch)
	}
}

// read gives the guest what is there, once ready has said so; 0 bytes are the end. Bytes that lie there in
// several pieces come together.
func (b *body) read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) && len(b.parts) > 0 {
		if b.parts[0].stream == nil {
			n += b.takeBytes(p[n:])
			continue
		}
		if n > 0 {
			return n, nil
		}
		n, err = b.parts[0].stream.take(p)
		if err == io.EOF {
			b.dropIfEnded()
			continue
		}
		return n, err
	}
	b.atEnd = b.atEnd || n == 0 && len(b.parts) == 0
	return n, nil
}

// takeBytes copies from the first part, which is bytes.
func (b *body) takeBytes(p []byte) int {
	first := &b.parts[0]
	n := copy(p, first.bytes)
	first.bytes = first.bytes[n:]
	b.used(n)
	if len(first.bytes) == 0 {
		b.shift()
	}
	return n
}

func (b *body) used(n int) {
	b.buffered -= n
	b.account.release(n)
	if b.buffered < streamRoom {
		b.waiters.wake()
	}
}

func (b *body) shift() {
	b.parts[0] = part{}
	if b.parts = b.parts[1:]; len(b.parts) == 0 {
		b.parts = nil
	}
}

// dropIfEnded takes the first part, a stream, out if it came to its end.
func (b *body) dropIfEnded() bool {
	s := b.parts[0].stream
	if n, err := s.take(nil); n != 0 || err != io.EOF {
		return false
	}
	if s.trailer != nil {
		t := fromHTTP(s.trailer())
		for _, f := range t.list {
			if b.account.hold(fieldSize(f.name, f.value)) {
				b.trailers.add(f.name, f.value)
			}
		}
	}
	s.close()
	b.shift()
	return true
}

// finish ends a streaming body cleanly, or with err.
func (b *body) finish(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.ended, b.failed = true, err
		b.tell()
	}
}

// drop gives the body up: a streaming one that was not finished fails, of any other the
// streams are closed.
func (b *body) drop() {
	if b.isStreaming() {
		b.finish(errAbandoned)
		return
	}
	b.leave()
}

// leave is the consumer's end: nothing will be read any more.
func (b *body) leave() {
	b.mu.Lock()
	parts := b.parts
	b.parts, b.gone = nil, true
	b.account.release(b.buffered)
	b.buffered = 0
	b.trailers.free()
	b.waiters.wake()
	b.tell()
	b.mu.Unlock()
	closeParts(parts)
}

// mute is leave for a message that has no body: what the guest still writes is dropped.
func (b *body) mute() {
	b.mu.Lock()
	b.muted = true
	b.mu.Unlock()
	b.leave()
}

func closeParts(parts []part) {
	for _, p := range parts {
		if p.stream != nil {
			p.stream.close()
		}
	}
}

// next gives the consumer the next bytes: a piece that was queued, or what a stream read
// into scratch. It returns io.EOF at a clean end, and an error when the guest gave the body
// up, a stream broke, or ctx ended while there was nothing. To interrupt a stream call leave.
func (b *body) next(ctx context.Context, scratch []byte) ([]byte, error) {
	for {
		b.mu.Lock()
		switch {
		case b.gone:
			b.mu.Unlock()
			return nil, errClosed
		case len(b.parts) > 0 && b.parts[0].stream == nil:
			p := b.parts[0].bytes
			b.shift()
			b.used(len(p))
			b.mu.Unlock()
			return p, nil
		case len(b.parts) > 0:
			s := b.parts[0].stream
			b.mu.Unlock()
			n, err := s.read(scratch)
			if err == io.EOF {
				b.streamEnded(s)
				continue
			}
			return scratch[:n], err
		case b.failed != nil:
			b.mu.Unlock()
			return nil, b.failed
		case b.ended || !b.streaming:
			b.mu.Unlock()
			return nil, io.EOF
		}
		news := b.news
		b.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// streamEnded takes s out unless somebody else did.
func (b *body) streamEnded(s *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.parts) > 0 && b.parts[0].stream == s {
		b.dropIfEnded()
	}
}

// idle reports whether next would have to wait now, as far as is known.
func (b *body) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.parts) > 0 {
		return b.parts[0].stream != nil
	}
	return b.streaming && !b.ended
}

// readAll reads a body that is not streaming to its end and closes it. More than limit bytes
// are an error. It returns early when ctx ends.
func (b *body) readAll(ctx context.Context, limit int) ([]byte, error) {
	defer b.leave()
	stop := context.AfterFunc(ctx, b.leave)
	defer stop()
	if n, ok := b.size(); ok && n > int64(limit) {
		return nil, errTooLarge
	}
	scratch := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(scratch)
	var all []byte
	for {
		p, err := b.next(ctx, scratch[:])
		if len(all)+len(p) > limit {
			return nil, errTooLarge
		}
		all = append(all, p...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// eachTrailer calls f for each trailer line.
func (b *body) eachTrailer(f func(name, value string)) {
	b.mu.Lock()
	list := b.trailers.list
	b.mu.Unlock()
	for _, line := range list {
		f(line.name, line.value)
	}
}
