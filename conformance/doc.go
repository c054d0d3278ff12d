// Package conformance asks any caching reverse proxy, by its URL, whether it caches as the RFCs say.
//
// A case is a short conversation: what a client sends, what the origin would answer, and what
// must come of it. The cases are transcripts in testdata/cache, one file for each section of an
// RFC; parse.go has their grammar. [Run] plays both ends, the client and the origin, and the
// proxy stands between them:
//
//	runner -- client.go --> proxy under test --> origin.go
//	   ^                                            |
//	   +------------- what the origin saw ----------+
//
// From Go:
//
//	ln, err := net.Listen("tcp", "127.0.0.1:0") // the proxy's origin is at ln.Addr()
//	results, err := conformance.Run(ctx, conformance.Config{Proxy: "http://127.0.0.1:8080", Origin: ln})
//	err = conformance.Table(os.Stdout, results)
//
// The proxy must forward every path to the origin, and unknown header fields with it. Whether
// an answer came from the cache is not asked of the proxy: the origin knows whether it was asked.
// The command in conformance/run does the same from a shell.
package conformance
