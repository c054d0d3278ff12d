package hostcall

import (
	"context"
	"sync"

	"github.com/ua-parser/uap-go/uaparser"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var uap = calls{"parse": uapParse}

// maxUserAgent is how many bytes of a User-Agent are looked at: hundreds of regular
// expressions are tried on it. Real ones are shorter.
const maxUserAgent = 1024

// userAgentCache is how many results of each kind are kept for the whole process.
const userAgentCache = 1024

// userAgents returns the parser, which takes a moment to build and then stays.
var userAgents = sync.OnceValue(func() *uaparser.Parser {
	p, err := uaparser.New(uaparser.WithCacheSize(userAgentCache))
	if err != nil {
		panic("hostcall: user agent expressions: " + err.Error())
	}
	return p
})

// userAgentArg reads the User-Agent at words 0 and 1 and makes the parser ready.
func userAgentArg(c *compute.Call) string {
	ua := c.Bytes(0)
	return string(ua[:min(len(ua), maxUserAgent)])
}

// parser returns the parser; building it is not the guest's CPU time.
func parser(c *compute.Call) (p *uaparser.Parser) {
	c.Block(func(context.Context) { p = userAgents() })
	return p
}

// uapParse: user agent; then family, major, minor, patch, each a buffer and its *nwritten.
func uapParse(c *compute.Call) abi.Status {
	s := userAgentArg(c)
	ua := parser(c).ParseUserAgent(s)
	values := [...]string{ua.Family, ua.Major, ua.Minor, ua.Patch}
	for i := range values {
		c.Read(c.U32(2+3*i), c.U32(3+3*i))
		c.Read(c.U32(4+3*i), 4)
	}
	status := abi.OK
	for i, v := range values {
		if s := c.PutBuf(2+3*i, 4+3*i, v); s != abi.OK {
			status = s
		}
	}
	return status
}
