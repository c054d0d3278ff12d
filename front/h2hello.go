package front

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// An h2Conn is an HTTP/2 connection, or the clear side of one over TLS, read along until the first request's head is there.
// For net/http it is a connection without TLS, which it takes as it does any that begins with the preface.
type h2Conn struct {
	net.Conn
	info  *connInfo
	sniff *h2Sniffer // nil once it is done
}

func (c *h2Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.sniff != nil && c.sniff.feed(p[:n]) {
		if print := c.sniff.print(); print != "" {
			c.info.h2print.Store(&print)
		}
		c.sniff = nil
	}
	return n, err
}

// h2Print returns the fingerprint of an HTTP/2 connection, "" if there is none.
func (i *connInfo) h2Print() string {
	if p := i.h2print.Load(); p != nil {
		return *p
	}
	return ""
}

// h2Ciphers are those of TLS 1.2 that RFC 9113 (section 9.2.2, appendix A) allows and crypto/tls has.
var h2Ciphers = []uint16{
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,
}

// handH2 gives a connection to the HTTP/2 server. One with a cipher that HTTP/2 forbids goes there as it is: net/http
// then sees the cipher, and refuses it.
func (f *Front) handH2(conn *tls.Conn, info *connInfo) {
	if s := info.tls.State; s.Version == tls.VersionTLS12 && !slices.Contains(h2Ciphers, s.CipherSuite) {
		f.h2conns.hand(conn)
		return
	}
	f.h2conns.hand(&h2Conn{Conn: conn, info: info, sniff: &h2Sniffer{}})
}

// maxH2Hello bounds what is kept of a connection's beginning, in bytes. Browsers send a few hundred.
const maxH2Hello = 16 << 10

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Frame types and flags, RFC 9113 section 6.
const (
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameSettings     = 0x4
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// An h2Sniffer reads what an HTTP/2 client says first: its settings, its window, its priorities, and in which order
// the pseudo-header fields of its first request stand. It never changes or refuses anything.
type h2Sniffer struct {
	raw     []byte // not yet taken apart
	seen    int
	begun   bool // the preface is behind
	settled bool // the first SETTINGS frame is too
	failed  bool

	settings   []string
	window     uint32
	priorities []string
	block      []byte // of the first HEADERS frame and what continues it
	pseudo     []string
}

// feed takes the next bytes, and reports whether nothing more is wanted.
func (s *h2Sniffer) feed(b []byte) (done bool) {
	if s.seen += len(b); s.seen > maxH2Hello {
		s.failed = true
		return true
	}
	s.raw = append(s.raw, b...)
	if !s.begun {
		if len(s.raw) < len(h2Preface) {
			return false
		}
		if string(s.raw[:len(h2Preface)]) != h2Preface {
			s.failed = true
			return true
		}
		s.raw, s.begun = s.raw[len(h2Preface):], true
	}
	for len(s.raw) >= 9 && !done {
		n := int(s.raw[0])<<16 | int(s.raw[1])<<8 | int(s.raw[2])
		if len(s.raw) < 9+n {
			return false
		}
		done = s.frame(s.raw[3], s.raw[4], binary.BigEndian.Uint32(s.raw[5:])&(1<<31-1), s.raw[9:9+n])
		s.raw = s.raw[9+n:]
	}
	return done
}

// frame takes one frame, and reports whether it was the last of interest.
func (s *h2Sniffer) frame(kind, flags byte, stream uint32, p []byte) (done bool) {
	switch kind {
	case frameSettings:
		if flags&flagAck != 0 || s.settled {
			return false
		}
		s.settled = true
		for ; len(p) >= 6; p = p[6:] {
			id, v := binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])
			s.settings = append(s.settings, strconv.Itoa(int(id))+":"+strconv.FormatUint(uint64(v), 10))
		}
	case frameWindowUpdate:
		if stream == 0 && len(p) == 4 && s.window == 0 {
			s.window = binary.BigEndian.Uint32(p) & (1<<31 - 1)
		}
	case framePriority:
		if len(p) == 5 {
			on := binary.BigEndian.Uint32(p)
			s.priorities = append(s.priorities, join(":", uint64(stream), uint64(on>>31), uint64(on&(1<<31-1)), uint64(p[4])+1))
		}
	case frameHeaders:
		s.block = append(s.block, unpadded(flags, p)...)
		return flags&flagEndHeaders != 0 && s.endBlock()
	case frameContinuation:
		s.block = append(s.block, p...)
		return flags&flagEndHeaders != 0 && s.endBlock()
	}
	return false
}

// unpadded returns the field block of a HEADERS frame.
func unpadded(flags byte, p []byte) []byte {
	pad, skip := 0, 0
	if flags&flagPadded != 0 && len(p) > 0 {
		pad, skip = int(p[0]), 1
	}
	if flags&flagPriority != 0 {
		skip += 5
	}
	if skip+pad > len(p) {
		return nil
	}
	return p[skip : len(p)-pad]
}

// endBlock reads the names of the pseudo-header fields, which stand before all others.
func (s *h2Sniffer) endBlock() bool {
	d := hpack.NewDecoder(4096, nil)
	d.SetMaxStringLength(maxH2Hello)
	d.SetEmitFunc(func(f hpack.HeaderField) {
		if f.IsPseudo() && len(f.Name) > 1 && len(s.pseudo) < 8 {
			s.pseudo = append(s.pseudo, f.Name[1:2])
		}
	})
	if _, err := d.Write(s.block); err != nil {
		s.failed = true
	}
	return true
}

// print is the fingerprint in Akamai's form: settings, window, priorities, order of pseudo-header fields. "" if the
// client did not speak HTTP/2.
func (s *h2Sniffer) print() string {
	if s.failed || !s.settled {
		return ""
	}
	window, priorities := "00", "0"
	if s.window > 0 {
		window = strconv.FormatUint(uint64(s.window), 10)
	}
	if len(s.priorities) > 0 {
		priorities = strings.Join(s.priorities, ",")
	}
	return strings.Join([]string{strings.Join(s.settings, ";"), window, priorities, strings.Join(s.pseudo, ",")}, "|")
}

func join(sep string, numbers ...uint64) string {
	all := make([]string, len(numbers))
	for i, n := range numbers {
		all[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(all, sep)
}
