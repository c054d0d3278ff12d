package wedgetest

import (
	"fmt"
	"testing"
)

// TestJSAPI asks many small questions, each with one right answer. Each is asked twice: a sandbox that has served before answers as
// a new one does.
func TestJSAPI(t *testing.T) {
	n := shared(t, "jsapi", func() App {
		manifest := bindings() + fmt.Sprintf("[backends.cached]\nurl = %q\n", sharedOrigin().URL)
		return App{Guest: JSGuest(t, Guest("jsapi"), "--enable-http-cache"), Manifest: manifest}
	})
	questions := []asks{
		{path: "/acl/longest", want: `[{"prefix":"10.6.0.0/16","action":"BLOCK"},{"prefix":"10.0.0.0/8","action":"ALLOW"}]`},
		{path: "/acl/bad", want: `["Error","Error"]`},
		{path: "/config/names", want: `["TypeError","TypeError","TypeError"]`},
		{path: "/config/keys", want: `["TypeError",["no error",null],"TypeError"]`},
		{path: "/secret/names", want: `["TypeError","TypeError"]`},
		{path: "/secret/bytes", want: `[60000,""]`},
		{path: "/geo/own", want: `{"city":"Ouagadougou"}`},
		{path: "/geo/bad", want: `"Error"`},
		{path: "/kv/ttl", want: `[true,null]`},
		{path: "/kv/metadata", want: `[[0,255],"TypeError"]`},
		{path: "/kv/metadata-goes", want: `null`},
		{path: "/kv/metadata-long", want: `"Error"`},
		{path: "/kv/generation", want: `"TypeError"`},
		{path: "/kv/bad-keys", want: `["TypeError","TypeError","TypeError","TypeError","TypeError","TypeError","TypeError","TypeError","TypeError","TypeError","TypeError","TypeError"]`},
		{path: "/kv/odd-keys", want: `true`},
		{path: "/kv/append-absent", want: `"x"`},
		{path: "/kv/at-once", want: `true`},
		{path: "/backend/options?target=ORIGIN", want: `[1111,2222,3333,4444,{"intervalSecs":6,"timeSecs":5,"probes":7},false,"127.0.0.1"]`},
		{path: "/backend/tls", want: `[true,443,1.2,1.3]`},
		{path: "/backend/host?target=ORIGIN", want: `["forced.test","forced.test"]`},
		{path: "/backend/targets", want: `["TypeError","TypeError","TypeError","TypeError","TypeError","TypeError"]`},
		{path: "/backend/implicit?target=ORIGIN", want: `[true,"hello from origin\n"]`},
		{path: "/backend/slow?target=ORIGIN", want: `"NetworkError"`},
		{path: "/fetch/get", want: `["GET origin.test /saw 0"]`},
		{path: "/fetch/post-nothing", want: `["POST origin.test /saw 0","Content-Length: 0"]`},
		{path: "/fetch/post-text", want: `["POST origin.test /saw 4","Content-Length: 4","Content-Type: text/plain;charset=UTF-8","text"]`},
		{path: "/fetch/post-params", want: `["POST origin.test /saw 5","Content-Length: 5","Content-Type: application/x-www-form-urlencoded;charset=UTF-8","a=1+2"]`},
		{path: "/fetch/post-stream", want: `["PUT origin.test /saw -1","ab"]`},
		{path: "/fetch/length", want: `["POST origin.test /saw 5","Content-Length: 5","Content-Type: text/plain;charset=UTF-8","12345"]`},
		{path: "/fetch/manual", want: `["POST origin.test /saw -1","Content-Type: text/plain;charset=UTF-8","12345"]`},
		{path: "/fetch/headers", want: `["GET origin.test /saw 0","X-Empty: ","X-Two: 1","X-Two: 2"]`},
		{path: "/fetch/key", want: `["GET origin.test /saw 0"]`},
		{path: "/fetch/url", want: `["/saw?a%20b=%C3%A9&%zz","/saw?x"]`},
		{path: "/fetch/statuses", want: `[[204,""],[304,""]]`},
		{path: "/fetch/race", want: `"timer"`},
		{path: "/body/pieces", want: `["ab","c",0]`},
		{path: "/body/closed", want: `"Error"`},
		{path: "/simple/none", want: `null`},
		{path: "/simple/throws", want: `["RangeError","x"]`},
		{path: "/simple/at-once", want: `[["x","x"],2]`},
		{path: "/core/length", want: `5`},
		{path: "/core/written", want: `[null,"one two"]`},
		{path: "/core/short", want: `null`},
		{path: "/core/old", want: `null`},
		{path: "/core/range", want: `["789","89","34"]`},
		{path: "/core/body-twice", want: `"Error"`},
		{path: "/core/soft", want: `["found usable stale mustInsertOrUpdate","found usable stale",null]`},
		{path: "/core/itself", want: `["mustInsertOrUpdate","mustInsertOrUpdate"]`},
		{path: "/core/abandoned", want: `"mustInsertOrUpdate"`},
		{path: "/core/twice", want: `["Error","Error","Error"]`},
		{path: "/http/override", want: `[100,50,["a","b"]]`},
		{path: "/http/ttl-0", want: `["200 false 1","200 false 2"]`},
		{path: "/http/uncacheable", want: `["200 false 1","200 false 2"]`},
		{path: "/http/not-this", want: `["200 false 1","200 false 2","200 true 2"]`},
		{path: "/http/after-all", want: `["200 false 1","200 true 1"]`},
		{path: "/http/changed", want: `[201,true,77,["x-v"],true,"1"]`},
		{path: "/http/body", want: `["one","one"]`},
		{path: "/http/throws", want: `["RangeError","RangeError"]`},
		{path: "/http/cacheable", want: `[true,true,false]`},
		{path: "/handoff", want: `[true,true]`},
	}
	for range 2 {
		testAsks(t, n, questions)
	}
}
