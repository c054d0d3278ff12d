package front

// maxHello bounds what is kept of a ClientHello: two of the largest handshake messages that
// crypto/tls reads, with their record headers, fit in.
const maxHello = 132 << 10

// sniffer collects the first handshake message of a TLS connection from its records
// (RFC 8446 section 5.1). It reads along and never changes or refuses anything.
type sniffer struct {
	raw  []byte // records as they came, not yet taken apart
	msg  []byte // the handshake message so far
	done bool   // the message is whole, or given up
}

// feed takes the next bytes that the client sent.
func (s *sniffer) feed(b []byte) {
	if len(s.raw)+len(s.msg)+len(b) > maxHello {
		s.giveUp()
		return
	}
	s.raw = append(s.raw, b...)
	for !s.done && len(s.raw) >= 5 {
		n := int(s.raw[3])<<8 | int(s.raw[4])
		if s.raw[0] != 22 || n == 0 {
			s.giveUp()
			return
		}
		if len(s.raw) < 5+n {
			return
		}
		s.msg = append(s.msg, s.raw[5:5+n]...)
		s.raw = s.raw[5+n:]
		s.check()
	}
}

func (s *sniffer) check() {
	if len(s.msg) < 4 {
		return
	}
	if size := 4 + int(s.msg[1])<<16 + int(s.msg[2])<<8 + int(s.msg[3]); len(s.msg) >= size {
		s.msg, s.raw, s.done = s.msg[:size:size], nil, true
	}
}

func (s *sniffer) giveUp() { *s = sniffer{done: true} }

// hello returns the whole message, or nil.
func (s *sniffer) hello() []byte {
	if !s.done {
		return nil
	}
	return s.msg
}
