package front

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/wedge-cloud/wedge"
)

// h2Opening is what a client like Chrome or Firefox begins a connection with: a request for "/" on a.example.
func h2Opening(pseudo []string, pad uint8, priorities bool, split bool) []byte {
	var b, block bytes.Buffer
	b.WriteString(h2Preface)
	fr := http2.NewFramer(&b, nil)
	fr.WriteSettings(http2.Setting{ID: 1, Val: 65536}, http2.Setting{ID: 2, Val: 0}, http2.Setting{ID: 4, Val: 6291456}, http2.Setting{ID: 6, Val: 262144})
	fr.WriteWindowUpdate(0, 15663105)
	if priorities {
		fr.WritePriority(3, http2.PriorityParam{StreamDep: 0, Weight: 200})
		fr.WritePriority(5, http2.PriorityParam{StreamDep: 3, Exclusive: true, Weight: 0})
	}
	enc := hpack.NewEncoder(&block)
	values := map[string]string{":method": "GET", ":authority": "a.example", ":scheme": "http", ":path": "/"}
	for _, name := range pseudo {
		enc.WriteField(hpack.HeaderField{Name: name, Value: values[name]})
	}
	enc.WriteField(hpack.HeaderField{Name: "user-agent", Value: strings.Repeat("browser ", 20)})
	h, rest := block.Bytes(), []byte(nil)
	if split {
		h, rest = h[:5], h[5:]
	}
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, BlockFragment: h, EndStream: true, EndHeaders: !split, PadLength: pad, Priority: http2.PriorityParam{Weight: 255}})
	if split {
		fr.WriteContinuation(7, true, rest)
	}
	return b.Bytes()
}

var (
	chromeOrder  = []string{":method", ":authority", ":scheme", ":path"}
	firefoxOrder = []string{":method", ":path", ":authority", ":scheme"}
)

const h2Common = "1:65536;2:0;4:6291456;6:262144|15663105|"

func TestH2Fingerprint(t *testing.T) {
	for want, opening := range map[string][]byte{
		h2Common + "0|m,a,s,p":                 h2Opening(chromeOrder, 0, false, false),
		h2Common + "3:0:0:201,5:1:3:1|m,p,a,s": h2Opening(firefoxOrder, 9, true, true),
		"|00|0|":                               []byte(h2Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x00\x01\x04\x00\x00\x00\x01"),
		"":                                     []byte("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"),
		"\x00":/* nothing, for it is too long */ append([]byte(h2Preface+"\x00\x50\x00\x04\x00\x00\x00\x00\x00"), make([]byte, maxH2Hello)...),
	} {
		for _, one := range []bool{false, true} { // all at once, or byte by byte
			s, done := &h2Sniffer{}, false
			var r io.Reader = bytes.NewReader(opening)
			if one {
				r = iotest.OneByteReader(r)
			}
			for b := make([]byte, 64<<10); !done; {
				n, err := r.Read(b)
				if done = s.feed(b[:n]); err != nil {
					break
				}
			}
			if got := s.print(); got != strings.Trim(want, "\x00") {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}

// TestH2FingerprintOfConnections asks the front what it tells handlers: over TLS, without it, and on HTTP/1.1.
func TestH2FingerprintOfConnections(t *testing.T) {
	ca := newAuthority(t)
	f := run(t, Config{Certificates: []CertificateFiles{ca.issue(t, "a", "a.example")}}, everything(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+wedge.ClientFrom(r.Context()).H2Fingerprint)
	}))
	conn, err := net.Dial("tcp", f.http)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(h2Opening(firefoxOrder, 0, true, false))
	fr := http2.NewFramer(io.Discard, conn)
	for got := ""; got == ""; {
		frame, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := frame.(*http2.DataFrame); ok {
			got = string(d.Data())
			if want := "HTTP/2.0 " + h2Common + "3:0:0:201,5:1:3:1|m,p,a,s"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
	seen := map[string]bool{}
	for range 2 {
		c := client(t, f.https, "2", &tls.Config{RootCAs: ca.pool})
		for range 2 {
			_, body := get(t, c, "https://a.example/")
			if !strings.HasPrefix(body, "HTTP/2.0 2:0;") || strings.Count(body, "|") != 3 || !strings.Contains(body[len(body)-7:], "m") {
				t.Errorf("over TLS: %q", body)
			}
			seen[body] = true
		}
	}
	if len(seen) != 1 {
		t.Errorf("one client has the fingerprints %v", seen)
	}
	if _, body := get(t, client(t, f.https, "1", &tls.Config{RootCAs: ca.pool}), "https://a.example/"); body != "HTTP/1.1 " {
		t.Errorf("HTTP/1.1: %q", body)
	}
}

// TestH2ForbiddenCipher sees that net/http still refuses what RFC 9113 forbids.
func TestH2ForbiddenCipher(t *testing.T) {
	ca := newAuthority(t)
	f := run(t, Config{Certificates: []CertificateFiles{ca.issue(t, "a", "a.example")}}, everything(func(http.ResponseWriter, *http.Request) {}))
	conn, err := tls.Dial("tcp", f.https, &tls.Config{RootCAs: ca.pool, ServerName: "a.example", NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(h2Opening(chromeOrder, 0, false, false))
	fr := http2.NewFramer(io.Discard, conn)
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("no GOAWAY: %v", err)
		}
		if g, ok := frame.(*http2.GoAwayFrame); ok {
			if g.ErrCode != http2.ErrCodeInadequateSecurity {
				t.Errorf("refused for %v", g.ErrCode)
			}
			return
		}
	}
}

func FuzzH2Sniffer(f *testing.F) {
	f.Add(h2Opening(chromeOrder, 0, false, false), 7)
	f.Add(h2Opening(firefoxOrder, 200, true, true), 1)
	f.Fuzz(func(t *testing.T, opening []byte, piece int) {
		whole := &h2Sniffer{}
		whole.feed(opening)
		if piece < 1 || len(opening) > maxH2Hello {
			return
		}
		parts := &h2Sniffer{}
		for rest := opening; len(rest) > 0; {
			n := min(piece, len(rest))
			if parts.feed(rest[:n]) {
				break
			}
			rest = rest[n:]
		}
		if whole.print() != parts.print() {
			t.Errorf("%q in one, %q in pieces of %d", whole.print(), parts.print(), piece)
		}
	})
}
