package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
)

// SinkConfig is a sink of raw events that services may choose by its name: a file of the node, or a subject of a NATS. Which file or server
// that is, is for the operator to say, not for services.
type SinkConfig struct {
	File    string // batches are added to it, and a line is whole; see sinkFile
	MaxSize int64  // bytes of the file: then it gets the name with ".1", and a new one begins; 0: 1 GiB

	NATS        []string // URLs of its servers
	Subject     string   // a stream has to keep it
	Credentials string   // file; "": none

	Services []string // that may choose it; none: all
}

// namedSink is one that a node has.
type namedSink struct {
	SinkConfig
	put func(context.Context, *rawBatch) error
}

// sinkTargets sends batches to backends of versions, and to the sinks of the node.
type sinkTargets struct {
	next   http.RoundTripper
	named  map[string]*namedSink
	closes []func()
}

func openSinkTargets(next http.RoundTripper, all map[string]SinkConfig) (*sinkTargets, error) {
	t := &sinkTargets{next: next, named: map[string]*namedSink{}}
	for name, cfg := range all {
		n := &namedSink{SinkConfig: cfg}
		if cfg.File != "" {
			n.put = (&sinkFile{name: cfg.File, most: cfg.MaxSize}).put
		} else {
			p, err := bus.NewPublisher("wedge sink "+name, cfg.NATS, cfg.Credentials)
			if err != nil {
				t.close()
				return nil, err
			}
			t.closes = append(t.closes, p.Close)
			n.put = func(ctx context.Context, b *rawBatch) error { return p.Publish(ctx, cfg.Subject, b.ID, b.Lines) }
		}
		t.named[name] = n
	}
	return t, nil
}

func (t *sinkTargets) close() {
	for _, end := range t.closes {
		end()
	}
}

// send returns nil when the batch was taken, and an error of kind Invalid if it never will be.
func (t *sinkTargets) send(ctx context.Context, v *wedge.Version, sink *wedge.CollectSink, b *rawBatch) error {
	if sink.Backend != "" {
		return t.post(ctx, v, sink, b)
	}
	n := t.named[sink.Name]
	if n == nil || len(n.Services) > 0 && !slices.Contains(n.Services, v.Service) {
		return &wedge.Error{Op: "send raw events", What: "sink " + sink.Name, Kind: wedge.NotExist, Err: errors.New("this node has none of that name for the service"),
			Hint: "Its operator adds [sinks." + sink.Name + "] to wedge-node.toml."}
	}
	return n.put(ctx, b)
}

// post sends a batch to a backend, by whose rules it is reached.
func (t *sinkTargets) post(ctx context.Context, v *wedge.Version, sink *wedge.CollectSink, b *rawBatch) error {
	fail := func(kind wedge.Kind, err error) error {
		return &wedge.Error{Op: "send raw events", What: "backend " + sink.Backend, Kind: kind, Err: err}
	}
	to, ok := v.Backend(sink.Backend)
	path, err := url.ParseRequestURI(sink.Path)
	if !ok || to.URL == nil || err != nil {
		return fail(wedge.Invalid, errors.New("the version has no such backend with a URL, or the path is none"))
	}
	u := url.URL{Scheme: to.URL.Scheme, Host: to.URL.Host, Path: path.Path, RawPath: path.RawPath, RawQuery: path.RawQuery}
	req, err := http.NewRequestWithContext(wedge.WithBackend(ctx, to), http.MethodPost, u.String(), bytes.NewReader(b.Lines))
	if err != nil {
		return fail(wedge.Invalid, err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Wedge-Batch", b.ID)
	if len(sink.Token) > 0 {
		req.Header.Set("Authorization", "Bearer "+string(sink.Token))
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return fail(wedge.Unavailable, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	switch c := resp.StatusCode; {
	case c/100 == 2:
		return nil
	case c == http.StatusBadRequest, c == http.StatusRequestEntityTooLarge, c == http.StatusUnsupportedMediaType, c == http.StatusUnprocessableEntity:
		return fail(wedge.Invalid, errors.New("it answers "+resp.Status))
	default: // what is wrong with it somebody can mend: a token, a path, the receiver
		return fail(wedge.Unavailable, errors.New("it answers "+resp.Status))
	}
}

// sinkFile adds to a file. It is opened for each batch, so whoever moves it away gets a new one.
type sinkFile struct {
	name string
	most int64
	mu   sync.Mutex
}

const sinkFileSize = 1 << 30

func (f *sinkFile) put(_ context.Context, b *rawBatch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.OpenFile(f.name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return &wedge.Error{Op: "open sink", What: f.name, Kind: wedge.Unavailable, Err: err}
	}
	lines, err := f.whole(file, b.Lines)
	if err == nil {
		_, err = file.Write(lines)
	}
	var size int64
	if s, e := file.Stat(); e == nil {
		size = s.Size()
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return &wedge.Error{Op: "write to sink", What: f.name, Kind: wedge.Unavailable, Err: err}
	}
	most := f.most
	if most == 0 {
		most = sinkFileSize
	}
	if size < most {
		return nil
	}
	_ = os.Rename(f.name, f.name+".1") // or else it grows on, and the next batch tries again
	return nil
}

// whole begins a new line if what was written last, before a crash perhaps, is only a part of one.
func (f *sinkFile) whole(file *os.File, lines []byte) ([]byte, error) {
	s, err := file.Stat()
	if err != nil || s.Size() == 0 {
		return lines, err
	}
	end := make([]byte, 1)
	if _, err := file.ReadAt(end, s.Size()-1); err != nil || end[0] == '\n' {
		return lines, err
	}
	return append([]byte("\n"), lines...), nil
}
