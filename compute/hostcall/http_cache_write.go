package hostcall

import (
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// Bits of http_cache_write_options_mask.
const (
	httpVary      = 1 << 1
	httpAge       = 1 << 2
	httpSWR       = 1 << 3
	httpKeys      = 1 << 4
	httpLength    = 1 << 5
	httpPCI       = 1 << 6
	httpSIE       = 1 << 7
	httpWriteMask = 1<<8 - 1
)

// httpWriteArgs reads the response that word 1 names, and its http_cache_write_options: the mask
// at word 2 and the struct at word 3.
func httpWriteArgs(c *compute.Call, d *cached) wedge.CacheWrite {
	resp := getResponse(c, c.U32(1))
	if resp.status < 200 { // not final
		c.Fail(abi.Inval)
	}
	o := record{c, maskArg(c, 2, httpWriteMask), c.U32(3)}
	w := wedge.CacheWrite{MaxAge: o.duration(0), Length: -1, Sensitive: o.has(httpPCI), Status: resp.status, Response: resp.headers.toHTTP(nil)}
	if o.has(httpVary) {
		w.Vary, d.rule = o.vary(8), string(o.bytes(8, maxVary))
	}
	if o.has(httpAge) {
		w.InitialAge = o.duration(16)
	}
	if o.has(httpSWR) {
		w.SWR = o.duration(24)
	}
	if o.has(httpKeys) {
		w.SurrogateKeys = o.keys(32)
	}
	if o.has(httpLength) {
		w.Length = o.length(40)
	}
	if o.has(httpSIE) {
		w.SIE = o.duration(48)
	}
	return w
}

// The response stays open though witx says that it is used up: the JavaScript SDK goes on with it
// when a guest transforms the body.

func httpInsert(c *compute.Call, d *cached) abi.Status {
	return d.insert(c, httpWriteArgs(c, d), 4, -1)
}

func httpInsertAndStreamBack(c *compute.Call, d *cached) abi.Status {
	return d.insert(c, httpWriteArgs(c, d), 4, 5)
}

func httpUpdate(c *compute.Call, d *cached) abi.Status {
	return d.update(c, httpWriteArgs(c, d), -1)
}

func httpUpdateAndReturnFresh(c *compute.Call, d *cached) abi.Status {
	return d.update(c, httpWriteArgs(c, d), 4)
}

// httpRecordPass lets nobody wait for such a response. Of the options only max_age counts. What it
// leaves is not evicted, so that a guest does it no more often than it may fetch.
func httpRecordPass(c *compute.Call, d *cached) abi.Status {
	e := ex(c)
	mask, at, maxAge := maskArg(c, 1, httpWriteMask), c.U32(2), time.Duration(0)
	if mask != 0 || at != 0 {
		maxAge = record{c, mask, at}.duration(0)
	}
	if e.passes >= e.limits.Fetches {
		return abi.LimitExceeded
	}
	e.passes++
	return cacheStatus(d.tx.Pass(maxAge))
}

// httpSuggestedOptions writes what the fields of a response say about keeping it: max_age, and what else
// the mask asks for. Texts go to the buffers of the struct at word 3, everything else to that at word 5; the
// mask at word 4 says which of the latter there are. If a text does not fit its length is there, and buflen.
func httpSuggestedOptions(c *compute.Call, d *cached) abi.Status {
	resp := getResponse(c, c.U32(1))
	want := record{c, maskArg(c, 2, httpWriteMask), c.U32(3)}
	maskOut, out := c.U32(4), c.U32(5)
	c.Read(maskOut, 4)
	w := d.tx.Suggest(resp.status, resp.headers.toHTTP(nil))
	there, short := uint32(0), false
	put := func(bit, off uint32, v int64, is bool) {
		if want.has(bit) && is {
			c.PutU64(out+off, uint64(v))
			there |= bit
		}
	}
	text := func(bit, off uint32, words []string) {
		if want.has(bit) {
			short = !want.putText(out, off, strings.Join(words, " ")) || short
			if len(words) > 0 {
				there |= bit
			}
		}
	}
	c.PutU64(out, uint64(max(0, w.MaxAge)))
	put(httpAge, 16, int64(w.InitialAge), true)
	put(httpSWR, 24, int64(w.SWR), true)
	put(httpLength, 40, w.Length, w.Length >= 0)
	put(httpSIE, 48, int64(w.SIE), true)
	text(httpVary, 8, w.Vary)
	text(httpKeys, 32, w.SurrogateKeys)
	if want.has(httpPCI) && w.Sensitive {
		there |= httpPCI
	}
	c.PutU32(maskOut, there)
	if short {
		return abi.BufLen
	}
	return abi.OK
}

// putText writes a text to the buffer that o's field names, and pointer and length to the same field at out.
func (o record) putText(out, off uint32, s string) bool {
	ptr, room := o.c.ReadU32(o.at+off), o.c.ReadU32(o.at+off+4)
	o.c.PutU32(out+off, ptr)
	o.c.PutU32(out+off+4, uint32(len(s)))
	if uint64(len(s)) > uint64(room) {
		return false
	}
	o.c.Write(ptr, []byte(s))
	return true
}
