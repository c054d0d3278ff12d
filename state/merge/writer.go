package merge

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
)

// Writer is who writes to a value: a PoP and the incarnation of its database (see state's Incarnation). A PoP whose
// database was lost, or was set back, is another writer: it does not know which dots the earlier one has given out.
type Writer struct {
	PoP         string // 1 to 31 bytes
	Incarnation uint64
}

const maxPoP = 31

// ParseWriter reads what [Writer.String] gives, as entries of the fleet's logs have it.
func ParseWriter(s string) (Writer, error) {
	pop, inc, ok := strings.Cut(s, ".")
	b, err := hex.DecodeString(inc)
	if !ok || err != nil || len(b) != 8 || !(Writer{PoP: pop}).valid() || strings.ToLower(inc) != inc {
		return Writer{}, &wedge.Error{Op: "read writer", What: strconv.Quote(s), Kind: wedge.Invalid, Err: errors.New("not a writer"),
			Hint: "Use a PoP's name, a dot and sixteen hexadecimal digits."}
	}
	n, _ := strconv.ParseUint(inc, 16, 64)
	return Writer{pop, n}, nil
}

// String returns the name that logs know the writer by, such as fra1.0123456789abcdef.
func (w Writer) String() string { return fmt.Sprintf("%s.%016x", w.PoP, w.Incarnation) }

// MarshalText implements [encoding.TextMarshaler].
func (w Writer) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (w *Writer) UnmarshalText(b []byte) (err error) {
	*w, err = ParseWriter(string(b))
	return err
}

func (w Writer) valid() bool { return w.PoP != "" && len(w.PoP) <= maxPoP && utf8.ValidString(w.PoP) }

func (w Writer) compare(o Writer) int {
	return cmp.Or(cmp.Compare(w.PoP, o.PoP), cmp.Compare(w.Incarnation, o.Incarnation))
}

// dot names one change of one value: the seq-th of that writer, from 1.
type dot struct {
	writer Writer
	seq    uint64
}

// maxSeq bounds what others may claim to have written, so that numbers never wrap.
const maxSeq = 1 << 53

func (d dot) compare(o dot) int { return cmp.Or(d.writer.compare(o.writer), cmp.Compare(d.seq, o.seq)) }

func (d dot) String() string { return d.writer.String() + ":" + strconv.FormatUint(d.seq, 10) }

func parseDot(s string) (dot, error) {
	w, n, ok := strings.Cut(s, ":")
	writer, err := ParseWriter(w)
	seq, err2 := strconv.ParseUint(n, 10, 64)
	if !ok || err != nil || err2 != nil || seq == 0 || seq > maxSeq {
		return dot{}, refuse(wedge.Invalid, fmt.Errorf("%q is no id", s), "Take ids from what the value looks like when it is read.")
	}
	return dot{writer, seq}, nil
}

// refuse makes the error for an operation that is not carried out.
func refuse(kind wedge.Kind, why error, hint string) error {
	return &wedge.Error{Op: "change value", Kind: kind, Err: why, Hint: hint}
}
