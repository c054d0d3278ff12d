package hostcall

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/picture"
)

var imageOptimizer = calls{"transform_image_optimizer_request": transformImage}

// image_optimizer_transform_config_options and image_optimizer_error_tag of the ABI.
const (
	imageClaims  = 1 << 1
	imageOK      = 1
	imageError   = 2
	imageWarning = 3
)

// maxImageOptions is how many bytes of options are looked at.
const maxImageOptions = 8 << 10

// transformImage: request, body, backend, mask, config, error detail, *response, *body. It sends the request to the backend
// as send does, and changes the image that comes. What is no image of status 200 is passed on.
func transformImage(c *compute.Call) abi.Status {
	if c.U32(4)&^imageClaims != 0 {
		return abi.Inval
	}
	for out := 6; out <= 8; out++ {
		c.Read(c.U32(out), 4)
	}
	options := ""
	if c.U32(4)&imageClaims != 0 {
		options = string(c.Read(c.ReadU32(c.U32(5)), min(c.ReadU32(c.U32(5)+4), maxImageOptions)))
	}
	p, own, accept, s := fetchImage(c)
	if s != abi.OK {
		return s
	}
	if c.U32(4)&imageClaims == 0 {
		options = own
	}
	o, err := picture.Parse(options)
	if err != nil {
		p.drop()
		return imageFailed(c, err)
	}
	varies := o.Negotiate(accept)
	ex(c).await(c, p)
	f, err := p.result()
	if err != nil {
		imageFailed(c, err)
		return fetchStatus(err)
	}
	c.PutU32(c.U32(6), imageOK)
	if varies {
		f.resp.headers.add("vary", "Accept")
	}
	if f.resp.status != http.StatusOK {
		return deliver(c, f, 7)
	}
	return optimize(c, f, o)
}

// fetchImage starts the fetch, and returns the request's own query and its Accept fields too. The request stays open, unlike
// that of a send: the Rust SDK closes it, and panics if it cannot.
func fetchImage(c *compute.Call) (p *pending, query, accept string, s abi.Status) {
	e, name := ex(c), c.Text(2)
	req := *getRequest(c, c.U32(0))
	b := newBody(nil)
	if c.U32(1) != abi.InvalidHandle {
		b = takeBody(c, c.U32(1))
	}
	backend, s := e.mayFetch(name)
	if s != abi.OK {
		b.leave()
		return nil, "", "", s
	}
	req.decompress = true
	query, accept = req.url.RawQuery, strings.Join(req.headers.values("accept"), ",")
	return e.fetch(&req, b, backend, sendKind{cached: true}), query, accept, abi.OK
}

// optimize changes the image that f brings and delivers it. All of its bytes count against the sandbox meanwhile.
func optimize(c *compute.Call, f fetched, o *picture.Options) abi.Status {
	n := picture.MaxBytes
	if size, ok := f.body.size(); ok {
		n = int(min(size, picture.MaxBytes))
	}
	a := &ex(c).account
	if !a.hold(n) {
		f.body.leave()
		return imageFailed(c, &wedge.Error{Op: "transform image", Kind: wedge.Exhausted, Hint: "Raise limits.hostcall_bytes."})
	}
	var in, out picture.File
	var err error
	c.Block(func(ctx context.Context) {
		defer a.release(n)
		var file []byte
		if file, err = f.body.readAll(ctx, picture.MaxBytes); err == nil {
			in, out, err = picture.Transform(ctx, file, o)
		}
	})
	if err != nil {
		return imageFailed(c, err)
	}
	if out.Warning != "" {
		putImageDetail(c, imageWarning, out.Warning)
	}
	describeImage(&f.resp.headers, in, out)
	return deliver(c, fetched{f.resp, newBody(out.Bytes)}, 7)
}

// describeImage makes a response's fields those of the image that was made.
func describeImage(h *headers, in, out picture.File) {
	for _, name := range []string{"content-type", "content-length", "etag", "accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"} {
		h.remove(name)
	}
	h.add("content-type", out.Format.Type())
	h.add("fastly-io-info", fmt.Sprintf("ifsz=%d idim=%dx%d ifmt=%s ofsz=%d odim=%dx%d ofmt=%s",
		len(in.Bytes), in.Width, in.Height, in.Format, len(out.Bytes), out.Width, out.Height, out.Format))
	if out.Warning != "" {
		h.add("fastly-io-warning", out.Warning)
	}
}

// imageFailed says why in the error detail.
func imageFailed(c *compute.Call, err error) abi.Status {
	putImageDetail(c, imageError, err.Error())
	return abi.Error
}

// putImageDetail writes the tag. SDKs give no room for a message; the author finds it where the guest's standard error goes.
func putImageDetail(c *compute.Call, tag uint32, text string) {
	c.PutU32(c.U32(6), tag)
	if out := ex(c).host.Output; out != nil {
		out(2, []byte("image optimizer: "+text+"\n"))
	}
}
