package hostcall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// CGI is an http.Handler for guests that are plain WASI programs: each request runs the
// program once, as RFC 3875 says. Meta-variables are its environment, the request's body is
// its standard input, its standard output is the response, sent as it comes; what it prints
// to standard error goes to Host.Output. Running, Wait and Close are those of a [Handler].
type CGI struct {
	*Handler

	// PassAuthorization gives guests the Authorization header as HTTP_AUTHORIZATION. RFC 3875
	// section 4.1.18 advises against it, for servers that check credentials themselves.
	PassAuthorization bool
}

// NewCGI returns a CGI for the version that cfg.Host belongs to.
func NewCGI(cfg Config) *CGI { return &CGI{Handler: New(cfg)} }

// maxLocalRedirects is how often one request may be sent on within the service.
const maxLocalRedirects = 10

// ServeHTTP runs the guest for r and sends its answer: 500 if it ends badly, or without a whole
// header section; the connection is cut if it ends badly after that.
func (g *CGI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.ContainsRune(r.URL.Path, 0) { // the environment cannot carry it
		http.Error(w, "400 Bad Request", http.StatusBadRequest)
		return
	}
	x := newExchange(g.Handler, w, r)
	defer x.end()
	req := newCGIRequest(r, x.in, g.PassAuthorization)
	x.co = g.begin(x.in.ctx, func(ctx context.Context, co *compute.Coroutine) {
		err := g.answer(ctx, x.in, req, co)
		x.in.body.leave()
		g.failed(x.in, err)
	})
	x.serve()
}

// answer runs the guest, and again for each redirect within the service.
func (g *CGI) answer(ctx context.Context, in *incoming, req cgiRequest, co *compute.Coroutine) error {
	for hop := 0; ; hop++ {
		sb, e := g.sandbox(ctx, newID(g.random))
		out := &cgiOutput{in: in, sb: sb, e: e}
		sb.Env = append(req.environ(), sb.Env...) // first, for getenv takes the first of equals
		sb.Stdout, sb.Coroutine, e.co = out.write, co, co
		if hop == 0 {
			sb.Stdin = cgiInput{e, in.body}
		}
		err := g.run(ctx, sb)
		e.end(err)
		if err = out.end(err); err != nil || out.local == "" {
			return err
		}
		if hop == maxLocalRedirects {
			return out.fail(cgiFault(fmt.Errorf("it redirected locally more than %d times", maxLocalRedirects)))
		}
		req = req.redirect(out.local)
	}
}

// cgiInput reads a request's body as the guest's standard input.
type cgiInput struct {
	e *exec
	b *body
}

func (i cgiInput) Read(ctx context.Context, p []byte) (int, error) {
	i.e.sleepOn(ctx, i.b)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	n, err := i.b.read(p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return n, err
}

// cgiOutput makes a response of what a guest prints.
type cgiOutput struct {
	in *incoming
	sb *compute.Sandbox
	e  *exec

	head  []byte // the header section as far as it has come
	line  int    // where its last line begins
	body  *body  // once the header section is whole
	local string // path of a local redirect: the rest of the output is void
	err   error  // why no more is taken
}

// write takes what the guest prints. It waits while the client is slow.
func (o *cgiOutput) write(p []byte) error {
	if o.err == nil && o.body == nil && o.local == "" {
		p = o.writeHead(p)
	}
	if o.err != nil || o.local != "" {
		return o.err
	}
	ctx := o.sb.Context()
	for len(p) > 0 && o.body != nil {
		o.e.sleepOn(ctx, o.body)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(len(p), chunkSize)
		if o.body.write(p[:n], false) != abi.OK {
			o.err = errClientGone
			return o.err
		}
		p = p[n:]
	}
	return nil
}

// writeHead adds to the header section and answers once it is whole; it returns what
// follows the section.
func (o *cgiOutput) writeHead(p []byte) (rest []byte) {
	limit, had := o.e.limits.HeaderBytes, len(o.head)
	o.head = append(o.head, p[:min(len(p), limit+1-had)]...)
	end := 0
	if end, o.line = cgiHeadEnd(o.head, o.line); end == 0 {
		if len(o.head) > limit {
			_ = o.fail(cgiFault(fmt.Errorf("its header section has more than %d bytes", limit)))
		}
		return nil
	}
	resp, local, err := parseCGIHead(o.head[:end], o.e.limits.HeaderLines)
	o.head = nil
	if err != nil {
		_ = o.fail(cgiFault(err))
		return nil
	}
	if o.local = local; local == "" {
		b := newBody(nil)
		b.makeStreaming()
		o.answer(reply{response: resp, body: b})
		o.body = b
	}
	return p[end-had:]
}

func (o *cgiOutput) answer(rep reply) {
	o.in.answered = true
	if !o.in.say(o.sb.Context(), rep) {
		o.err = errClientGone
	}
}

// fail answers for a guest that has not; it returns err.
func (o *cgiOutput) fail(err error) error {
	o.err = err
	if !o.in.answered {
		o.in.answered = true
		o.in.say(context.Background(), reply{err: err})
	}
	return err
}

// end completes the response after the guest ended with err and returns what is to report.
func (o *cgiOutput) end(err error) error {
	switch {
	case o.err == errClientGone: // nobody is left to hear of it, and it is not the guest's fault
		if o.body != nil {
			o.body.finish(errAbandoned)
		}
		return nil
	case o.body != nil:
		o.body.finish(err)
		return err
	case err != nil:
		return o.fail(err)
	case o.err != nil:
		return o.err
	case o.local == "":
		return o.fail(cgiFault(errors.New("it ended without a whole header section")))
	}
	return nil
}

func cgiFault(err error) error {
	return &wedge.Error{Op: "run guest", What: "as CGI", Kind: wedge.BadGateway, Err: err,
		Hint: `Print "Content-Type: text/html", an empty line, and then the body (RFC 3875 section 6).`}
}
