package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Slices. Of a file that is too large to be one object only its fields are kept, as an object without a body. The
// bytes are fetched in slices of one length, as they are asked for; each is an object with a key of its own,
// so that slices are shared while they come, evicted, purged and put on disk as all objects are. The
// entity tag is part of their key: slices of two versions never meet, and as long as the file's own object is
// fresh they are.

const (
	maxSlice  = 1 << 20
	sliceTime = 365 * 24 * time.Hour // they are as fresh as the file
)

// errChanged is how a slice fails that is no longer to be had: the file has changed, or its origin wants to be asked otherwise.
var errChanged = errors.New("the origin no longer answers with slices of the file that is stored")

// slice is how long slices are, but for the last of a file.
func (c *Cache) slice() int64 { return min(maxSlice, c.cfg.MaxObject) }

// slice says which bytes a fetch is for. It travels in the fetch's context.
type slice struct {
	part part
	etag string
}

type sliceKey struct{}

// sliceable returns what to keep of a response that is too large to be an object: its length, if slices of it
// can be asked for.
func (c *Cache) sliceable(req *http.Request, resp *http.Response) (length int64, ok bool) {
	if req.Method != http.MethodGet || req.Context().Value(sliceKey{}) != nil || !isStrong(resp.Header.Get("Etag")) || len(resp.Trailer) > 0 {
		return 0, false
	}
	switch resp.StatusCode {
	case http.StatusOK:
		length, ok = resp.ContentLength, resp.Header.Get("Accept-Ranges") == "bytes"
	case http.StatusPartialContent:
		var p *part
		if p, ok = parsePart(resp.Header); ok {
			length = p.length
		}
	}
	return length, ok && length > c.cfg.MaxObject
}

// sliced describes the file that a response is of, or of a part of.
func (f *facts) sliced(length int64) {
	f.status, f.part, f.length = http.StatusOK, nil, length
	delete(f.header, "Content-Range")
	f.header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	if f.header["Accept-Ranges"] == nil {
		f.header["Accept-Ranges"] = []string{"bytes"}
	}
}

// fromSlices answers a request for all or a range of a sliced file.
func (x *exchange) fromSlices(o *object, resp *http.Response) (*http.Response, error) {
	length := resp.ContentLength
	from, to := int64(0), length
	if len(x.ranges) == 1 && ifRange(x.req, &o.fields) {
		var ok bool
		if from, to, ok = x.ranges[0].resolve(length); !ok {
			return unsatisfiable(resp, length), nil
		}
		resp.StatusCode, resp.Status = http.StatusPartialContent, "206 Partial Content"
		resp.Header["Content-Range"] = []string{(&part{from, to, length}).String()}
	}
	r := &sliceReader{x: x, o: o, at: from, end: to, length: length, size: x.c.slice(), etag: o.fields.get("Etag")}
	if err := r.open(); err != nil { // before anybody is told that it is there
		return nil, err
	}
	resp.Body, resp.ContentLength = r, to-from
	resp.Header["Content-Length"] = []string{strconv.FormatInt(to-from, 10)}
	return resp, nil
}

// sliceReader reads from one slice after the other.
type sliceReader struct {
	x       *exchange
	o       *object
	at, end int64
	length  int64 // of the file
	size    int64 // of a slice
	etag    string
	slice   io.ReadCloser // has the byte at at; nil: to be opened
}

// Read implements io.Reader.
func (r *sliceReader) Read(p []byte) (int, error) {
	if r.at >= r.end {
		return 0, io.EOF
	}
	if r.slice == nil {
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	n, err := r.slice.Read(p[:min(int64(len(p)), r.end-r.at)])
	r.at += int64(n)
	if err == io.EOF || r.at%r.size == 0 {
		r.Close()
		if err == io.EOF && n == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		err = nil
	}
	return n, err
}

// open opens the slice that r.at is in, and has the next one fetched, for it will be wanted soon.
func (r *sliceReader) open() error {
	first := r.at - r.at%r.size
	resp, err := r.fetch(r.x.req.Context(), first)
	if errors.Is(err, errChanged) {
		r.x.c.discard(r.o)
		return errGone
	}
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, resp.Body, r.at-first); err != nil {
		resp.Body.Close()
		return err
	}
	r.slice = resp.Body
	if next := first + r.size; next < r.end {
		go r.ahead(next)
	}
	return nil
}

// ahead fetches a slice that is not there, for a reader who will come to it.
func (r *sliceReader) ahead(first int64) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(r.x.req.Context()), time.Minute)
	defer stop()
	if resp, err := r.fetch(ctx, first); err == nil {
		resp.Body.Close()
	}
}

// fetch returns a slice as the cache has it or gets it.
func (r *sliceReader) fetch(ctx context.Context, first int64) (*http.Response, error) {
	s := &slice{part: part{first, min(first+r.size, r.length), r.length}, etag: r.etag}
	pol, forever := *r.x.pol, sliceTime
	pol.Space += "\x00slice\x00" + s.etag + "\x00" + s.part.String()
	pol.TTL, pol.SWR, pol.Compress = &forever, nil, false
	req := conditional(r.x.get(), nil, "")
	delete(req.Header, "Cache-Control") // they were heeded already
	delete(req.Header, "Pragma")
	resp, err := r.x.c.RoundTrip(req.WithContext(wedge.WithCaching(context.WithValue(ctx, sliceKey{}, s), &pol)))
	if err == nil && resp.StatusCode != http.StatusOK { // an error's page is no piece of the file
		resp.Body.Close()
		return nil, fmt.Errorf("the origin answered with status %d instead of a slice", resp.StatusCode)
	}
	return resp, err
}

// Close implements io.Closer.
func (r *sliceReader) Close() error {
	if r.slice == nil {
		return nil
	}
	err := r.slice.Close()
	r.slice = nil
	return err
}

// next sends the flight's request on. Of a slice the origin is asked for a range; what it answers is the whole of
// what the cache has under the slice's key.
func (f *flight) next() (*http.Response, error) {
	s, ok := f.req.Context().Value(sliceKey{}).(*slice)
	if !ok {
		return f.c.cfg.Next.RoundTrip(f.req)
	}
	req := f.req.Clone(f.req.Context())
	req.Header["Range"] = []string{fmt.Sprintf("bytes=%d-%d", s.part.from, s.part.to-1)}
	if req.Header["If-None-Match"] == nil {
		req.Header["If-Range"] = []string{s.etag}
	}
	resp, err := f.c.cfg.Next.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusNotModified || resp.StatusCode >= 500 {
		return resp, err
	}
	size := s.part.to - s.part.from
	if p, ok := parsePart(resp.Header); !ok || *p != s.part || resp.StatusCode != http.StatusPartialContent || resp.Header.Get("Etag") != s.etag {
		resp.Body.Close()
		return nil, errChanged
	}
	out := *resp
	out.Header = resp.Header.Clone()
	out.StatusCode, out.Status, out.ContentLength = http.StatusOK, "200 OK", size
	out.Header["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	delete(out.Header, "Content-Range")
	return &out, nil
}
