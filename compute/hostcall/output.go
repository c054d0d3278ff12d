package hostcall

import (
	"bytes"

	"github.com/wedge-cloud/wedge/compute"
)

// maxLine is how much of a guest's line is held back for its newline, in bytes.
const maxLine = 16 << 10

// output assembles the lines that a guest prints, by stream, so that those of sandboxes that
// run at the same time stay apart.
type output [stderr + 1][]byte

// print passes whole lines on and keeps the rest.
func (o *output) print(host *compute.Host, stream uint32, b []byte) {
	rest := &o[stream]
	end := bytes.LastIndexByte(b, '\n') + 1
	if end == 0 && len(*rest)+len(b) <= maxLine {
		*rest = append(*rest, b...)
		return
	}
	if len(b)-end > maxLine || end == 0 {
		end = len(b)
	}
	if len(*rest) > 0 {
		host.Output(int(stream), append(*rest, b[:end]...))
	} else {
		host.Output(int(stream), b[:end])
	}
	*rest = append((*rest)[:0], b[end:]...)
}

// flush passes on what the guest printed last, without a newline.
func (o *output) flush(host *compute.Host) {
	for stream, rest := range o {
		if len(rest) > 0 && host.Output != nil {
			host.Output(stream, rest)
		}
		o[stream] = nil
	}
}
