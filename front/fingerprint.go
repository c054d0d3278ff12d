package front

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ja3Text is the string that JA3 is the MD5 of: version, ciphers, extensions, groups and
// point formats, in decimal and in the client's order.
func (h *hello) ja3Text() string {
	b := strconv.AppendUint(make([]byte, 0, 256), uint64(h.version), 10)
	for _, list := range [][]uint16{h.ciphers, h.extensions, h.groups} {
		b = append(b, ',')
		for i, v := range list {
			if i > 0 {
				b = append(b, '-')
			}
			b = strconv.AppendUint(b, uint64(v), 10)
		}
	}
	b = append(b, ',')
	for i, v := range h.points {
		if i > 0 {
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return string(b)
}

func (h *hello) ja3() [16]byte { return md5.Sum([]byte(h.ja3Text())) }

// ja4 is the JA4 fingerprint for TLS over TCP.
func (h *hello) ja4() string {
	sni := byte('i')
	if slices.Contains(h.extensions, extServerName) {
		sni = 'd'
	}
	head := fmt.Sprintf("t%s%c%02d%02d%s", h.ja4Version(), sni, min(len(h.ciphers), 99), min(len(h.extensions), 99), h.ja4ALPN())
	return head + "_" + ja4Hash(h.ja4Ciphers()) + "_" + ja4Hash(h.ja4Extensions())
}

func (h *hello) ja4Version() string {
	v := h.version
	if len(h.versions) > 0 {
		v = slices.Max(h.versions)
	}
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// ja4ALPN is the first and last character of the first protocol, or of its hex form if
// either is not alphanumeric.
func (h *hello) ja4ALPN() string {
	if h.alpn == "" {
		return "00"
	}
	first, last := h.alpn[0], h.alpn[len(h.alpn)-1]
	if !isAlnum(first) || !isAlnum(last) {
		x := hex.EncodeToString([]byte{first, last})
		first, last = x[0], x[3]
	}
	return string([]byte{first, last})
}

func (h *hello) ja4Ciphers() string {
	sorted := slices.Clone(h.ciphers)
	slices.Sort(sorted)
	return hexList(sorted)
}

func (h *hello) ja4Extensions() string {
	sorted := slices.Clone(h.extensions)
	sorted = slices.DeleteFunc(sorted, func(v uint16) bool { return v == extServerName || v == extALPN })
	slices.Sort(sorted)
	s := hexList(sorted)
	if len(h.sigAlgs) > 0 && s != "" {
		s += "_" + hexList(h.sigAlgs)
	}
	return s
}

func hexList(list []uint16) string {
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%04x", v)
	}
	return b.String()
}

func ja4Hash(s string) string {
	if s == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
