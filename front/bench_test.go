package front

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

// request is what a browser might send: 16 header lines.
const request = "GET /assets/app.js?v=3 HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n" +
	"sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\n" +
	"Sec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef\r\nDNT: 1\r\n\r\n"

// BenchmarkLoopback compares requests through a front with a bare http.Server, over kept-alive
// connections on loopback.
func BenchmarkLoopback(b *testing.B) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	b.Run("net-http", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := &http.Server{Handler: h}
		go s.Serve(l)
		defer s.Close()
		load(b, l.Addr().String())
	})
	b.Run("front", func(b *testing.B) {
		f := run(b, Config{}, map[string]Route{"shop.example": {Service: "shop", Version: 1, Handler: h}})
		load(b, f.http)
		f.stop()
		<-f.ended
	})
}

func load(b *testing.B, addr string) {
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		br, body := bufio.NewReader(c), make([]byte, 5)
		for pb.Next() {
			io.WriteString(c, request)
			for blank := false; !blank; {
				line, err := br.ReadSlice('\n')
				if err != nil {
					b.Error(err)
					return
				}
				blank = len(line) == 2
			}
			io.ReadFull(br, body)
		}
	})
}

// BenchmarkFramer measures what following one request's head costs.
func BenchmarkFramer(b *testing.B) {
	f := framer{maxBytes: 128 << 10, maxLines: 256}
	b.ReportAllocs()
	for b.Loop() {
		if n, no := f.feed([]byte(request)); n != len(request) || no != nil {
			b.Fatal(n, no)
		}
	}
}
