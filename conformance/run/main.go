// Command run asks a caching proxy whether it caches as the RFCs say, and prints a table by section.
//
//	go run ./conformance/run -proxy http://127.0.0.1:8080 -listen 127.0.0.1:9000
//
// The proxy must forward every path to the address given with -listen, where this command answers
// as the origin. With -case NAME -v it prints all that was sent and seen in that case.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"

	"github.com/wedge-cloud/wedge/conformance"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run() error {
	proxy := flag.String("proxy", "", "URL of the proxy under test")
	listen := flag.String("listen", "127.0.0.1:9000", "address where the proxy finds the origin")
	target := flag.String("target", "", "field of RFC 9213 that the proxy reads besides CDN-Cache-Control")
	name := flag.String("case", "", "only cases whose name begins with this, and what they need")
	parallel := flag.Int("parallel", 0, "cases at a time (default 64)")
	asJSON := flag.Bool("json", false, "print one JSON object for each case")
	verbose := flag.Bool("v", false, "print what was sent and seen")
	quiet := flag.Bool("q", false, "print the table only, not why cases failed")
	flag.Parse()
	if *proxy == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen as the origin: %w", err)
	}
	results, err := conformance.Run(ctx, conformance.Config{
		Proxy: *proxy, Origin: ln, Target: *target, Parallel: *parallel,
		Filter: func(c *conformance.Case) bool { return strings.HasPrefix(c.Name, *name) },
	})
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(results)
	}
	if !*quiet {
		conformance.Explain(os.Stdout, results, *verbose)
	}
	return conformance.Table(os.Stdout, results)
}

func printJSON(results []conformance.Result) error {
	enc := json.NewEncoder(os.Stdout)
	for _, r := range results {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
