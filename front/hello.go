package front

import (
	"encoding/binary"
	"errors"
)

// TLS extension numbers that the fingerprints look into (IANA, ExtensionType values).
const (
	extServerName        = 0
	extSupportedGroups   = 10
	extPointFormats      = 11
	extSignatureAlgs     = 13
	extALPN              = 16
	extSupportedVersions = 43
)

// hello is what a ClientHello (RFC 8446 section 4.1.2) says, in the order it says it, with
// the reserved GREASE values (RFC 8701) left out.
type hello struct {
	version    uint16 // legacy_version
	ciphers    []uint16
	extensions []uint16
	groups     []uint16
	points     []byte
	sigAlgs    []uint16
	versions   []uint16
	alpn       string // the first protocol
	serverName string
}

var errHello = errors.New("malformed ClientHello")

// parseHello reads a ClientHello handshake message, without record headers. It is stricter
// than needed nowhere: an extension it does not look into may hold anything.
func parseHello(msg []byte) (hello, error) {
	var h hello
	if len(msg) < 4 || msg[0] != 1 || int(msg[1])<<16|int(msg[2])<<8|int(msg[3]) != len(msg)-4 {
		return h, errHello
	}
	r := reader{b: msg[4:]}
	h.version = r.u16()
	r.take(32) // random
	r.vec8()   // session id
	h.ciphers = numbers(r.vec16())
	r.vec8() // compression methods
	if r.bad {
		return h, errHello
	}
	if len(r.b) == 0 { // TLS 1.2 and before: extensions may be missing altogether
		return h, nil
	}
	exts := reader{b: r.vec16()}
	if r.bad || len(r.b) != 0 {
		return h, errHello
	}
	for len(exts.b) > 0 {
		typ := exts.u16()
		body := exts.vec16()
		if exts.bad || !h.extension(typ, reader{b: body}) {
			return h, errHello
		}
	}
	return h, nil
}

// extension notes one extension and reports whether it is well-formed.
func (h *hello) extension(typ uint16, r reader) bool {
	if isGrease(typ) {
		return true
	}
	h.extensions = append(h.extensions, typ)
	switch typ {
	case extServerName:
		list := reader{b: r.vec16()}
		if kind := list.take(1); kind != nil && kind[0] == 0 {
			h.serverName = string(list.vec16())
		}
		return !list.bad && !r.bad
	case extSupportedGroups:
		h.groups = numbers(r.vec16())
	case extPointFormats:
		h.points = r.vec8()
	case extSignatureAlgs:
		h.sigAlgs = numbers(r.vec16())
	case extSupportedVersions:
		h.versions = numbers(r.vec8())
	case extALPN:
		list := reader{b: r.vec16()}
		h.alpn = string(list.vec8())
		return !list.bad && !r.bad
	}
	return !r.bad
}

// isGrease reports whether v is one of the 16 values of RFC 8701.
func isGrease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

func numbers(b []byte) []uint16 {
	out := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		if v := binary.BigEndian.Uint16(b); !isGrease(v) {
			out = append(out, v)
		}
	}
	return out
}

// reader takes pieces off b; once a piece is missing it is bad and yields nothing more.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	piece := r.b[:n:n]
	r.b = r.b[n:]
	return piece
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) vec8() []byte {
	if b := r.take(1); b != nil {
		return r.take(int(b[0]))
	}
	return nil
}

func (r *reader) vec16() []byte { return r.take(int(r.u16())) }
