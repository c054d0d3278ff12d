package cache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/http"
)

// errDamaged is what is read back and is not what was written.
var errDamaged = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Values on disk are one after the other: numbers as varints, strings and lists after their lengths.

func putString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func putStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = putString(b, s)
	}
	return b
}

func putHeader(b []byte, h http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(h)))
	for name, values := range h {
		b = putStrings(putString(b, name), values)
	}
	return b
}

// wire reads such values. What it reads is hostile: no length is believed before it is compared
// with what is left. After a first fault everything reads as zero.
type wire struct {
	b   []byte
	bad bool
}

func (w *wire) fail() {
	w.b, w.bad = nil, true
}

func (w *wire) uint() uint64 {
	n, size := binary.Uvarint(w.b)
	if size <= 0 {
		w.fail()
		return 0
	}
	w.b = w.b[size:]
	return n
}

func (w *wire) int() int64 {
	n, size := binary.Varint(w.b)
	if size <= 0 {
		w.fail()
		return 0
	}
	w.b = w.b[size:]
	return n
}

// count reads how many things follow, of which each takes at least one byte.
func (w *wire) count() int {
	n := w.uint()
	if n > uint64(len(w.b)) {
		w.fail()
		return 0
	}
	return int(n)
}

func (w *wire) string() string {
	n := w.count()
	s := string(w.b[:n])
	w.b = w.b[n:]
	return s
}

func (w *wire) strings() []string {
	n := w.count()
	if n == 0 {
		return nil
	}
	var list []string // grows with what there is, not with what is claimed
	for range n {
		list = append(list, w.string())
	}
	return list
}

func (w *wire) header() http.Header {
	h := http.Header{}
	for range w.count() {
		name := w.string()
		h[name] = w.strings()
	}
	return h
}
