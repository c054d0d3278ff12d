package front

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"slices"
	"testing"
)

// captureHello returns what a crypto/tls client sends first, with record headers.
func captureHello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() { tls.Client(client, cfg).Handshake(); client.Close() }()
	head := make([]byte, 5)
	if _, err := readFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := readFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

func readFull(c net.Conn, b []byte) (int, error) {
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		if n += m; err != nil {
			return n, err
		}
	}
	return len(b), nil
}

// helloBytes writes a ClientHello by hand.
func helloBytes(version uint16, ciphers []uint16, exts ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{1, 0, 0, 0}, version)
	b = append(b, make([]byte, 32)...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(ciphers)))
	for _, c := range ciphers {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	b = append(b, 1, 0)
	if exts != nil {
		all := slices.Concat(exts...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
		b = append(b, all...)
	}
	n := len(b) - 4
	b[1], b[2], b[3] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

func ext(typ uint16, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}

func u16s(prefix int, list ...uint16) []byte {
	b := []byte{byte(2 * len(list))}
	if prefix == 2 {
		b = []byte{0, byte(2 * len(list))}
	}
	for _, v := range list {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

// TestJA3 checks against the examples that the authors of JA3 published.
func TestJA3(t *testing.T) {
	for _, test := range []struct {
		msg       []byte
		text, sum string
	}{
		{
			helloBytes(769, []uint16{47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4},
				ext(0, 0, 4, 0, 0, 1, 'a'), ext(10, u16s(2, 23, 24, 25)...), ext(11, 1, 0)),
			"769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0", "ada70206e40642a3e4461f35503241d5",
		},
		{
			helloBytes(769, []uint16{4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99}),
			"769,4-5-10-9-100-98-3-6-19-18-99,,,", "de350869b8c85de67a350c8d186f11e6",
		},
		{
			helloBytes(769, []uint16{0x0a0a, 47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4},
				ext(0xdada), ext(0, 0, 4, 0, 0, 1, 'a'), ext(10, u16s(2, 0x1a1a, 23, 24, 25)...), ext(11, 1, 0)),
			"769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0", "ada70206e40642a3e4461f35503241d5",
		},
	} {
		h, err := parseHello(test.msg)
		if err != nil {
			t.Fatal(err)
		}
		sum := h.ja3()
		if got := h.ja3Text(); got != test.text || hex.EncodeToString(sum[:]) != test.sum {
			t.Errorf("got %s (%x), want %s (%s)", got, sum, test.text, test.sum)
		}
	}
}

// chrome is the published example of JA4: a browser's hello with GREASE.
func chrome() []byte {
	exts := [][]byte{ext(0x2a2a), ext(0x001b, 2, 0, 2), ext(0, 0, 4, 0, 0, 1, 'a'), ext(0x0033), ext(0x0010, 0, 12, 2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'),
		ext(0x4469), ext(0x0017), ext(0x002d), ext(0x000d, u16s(2, 0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)...),
		ext(0x0005), ext(0x0023), ext(0x0012), ext(0x002b, u16s(1, 0x7a7a, 0x0304, 0x0303)...), ext(0xff01, 0), ext(0x000b, 1, 0), ext(0x000a, u16s(2, 0x8a8a, 29, 23, 24)...), ext(0x0015, 0, 0), ext(0xbaba, 0)}
	return helloBytes(0x0303, []uint16{0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035}, exts...)
}

func TestJA4(t *testing.T) {
	h, err := parseHello(chrome())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, test := range []struct {
		h    hello
		want string
	}{
		{hello{version: 0x0303}, "t12i000000_000000000000_000000000000"},
		{hello{version: 0x0301, alpn: "h"}, "t10i0000hh_000000000000_000000000000"},
		{hello{version: 0x7f1c, alpn: "\xab\xcd"}, "t00i0000ad_000000000000_000000000000"},
		{hello{version: 0x0300, alpn: "0\xab"}, "ts3i00003b_000000000000_000000000000"},
		{hello{version: 0x0303, ciphers: make([]uint16, 120)}, "t12i990000_" + ja4Hash(hexList(make([]uint16, 120))) + "_000000000000"},
	} {
		if got := test.h.ja4(); got != test.want {
			t.Errorf("%+v: got %s, want %s", test.h, got, test.want)
		}
	}
}

func TestHelloOfCryptoTLS(t *testing.T) {
	for _, test := range []struct {
		cfg  *tls.Config
		head string
	}{
		{&tls.Config{ServerName: "shop.example", NextProtos: []string{"h2", "http/1.1"}}, "t13d"},
		{&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, "t12i"},
	} {
		raw := captureHello(t, test.cfg)
		h, err := parseHello(raw[5:])
		if err != nil {
			t.Fatal(err)
		}
		if h.serverName != test.cfg.ServerName || h.ja4()[:4] != test.head {
			t.Errorf("got SNI %q and %s, want %q and %s…", h.serverName, h.ja4(), test.cfg.ServerName, test.head)
		}
	}
}

func TestSniffer(t *testing.T) {
	msg := chrome()
	records := func(size int) (out []byte) {
		for part := range slices.Chunk(msg, size) {
			out = append(append(out, 22, 3, 1, byte(len(part)>>8), byte(len(part))), part...)
		}
		return out
	}
	for _, test := range []struct {
		name string
		raw  []byte
		step int
		want bool
	}{
		{"one record", records(1 << 14), 1 << 14, true},
		{"byte by byte", records(1 << 14), 1, true},
		{"many records", records(7), 100, true},
		{"more follows", append(records(50), 23, 3, 3, 0, 1, 0), 64, true},
		{"not a handshake", append([]byte{21}, records(50)[1:]...), 64, false},
		{"empty record", append([]byte{22, 3, 1, 0, 0}, records(50)...), 64, false},
		{"unfinished", records(1 << 14)[:50], 64, false},
		{"endless", slices.Repeat([]byte{22, 3, 1, 1, 0, 1, 0xff, 0xff, 0xff}, 1<<15), 4096, false},
	} {
		var s sniffer
		for part := range slices.Chunk(test.raw, test.step) {
			if !s.done {
				s.feed(part)
			}
			if len(s.raw)+len(s.msg) > maxHello {
				t.Fatalf("%s: holds %d bytes", test.name, len(s.raw)+len(s.msg))
			}
		}
		if got := slices.Equal(s.hello(), msg); got != test.want {
			t.Errorf("%s: hello found %v, want %v", test.name, got, test.want)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add(chrome())
	f.Add(helloBytes(769, nil))
	f.Add(captureHello(f, &tls.Config{ServerName: "shop.example"})[5:])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			return
		}
		h.ja3()
		if got := h.ja4(); len(got) != 36 {
			t.Errorf("JA4 %q has %d bytes", got, len(got))
		}
		var s sniffer
		s.feed(b)
	})
}
