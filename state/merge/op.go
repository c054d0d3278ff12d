package merge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
)

// Op is an operation on a value. As JSON it is what guests send; what the host alone may do has no JSON.
//
//	grow, counter            add (By, which is 1 if it is 0)
//	register, multi          set (Value, Who)
//	add-wins, remove-wins    add, remove (Value)
//	list                     append, prepend (Value, Keep); insert (Value, ID: after which); remove (ID)
//	map                      any of these, on what Path leads to, of that Kind if it is not there; drop (Path)
//	stock                    stock (By); grant (To, By, For); spend (By); return, move (By; To);
//	                         reclaim (From, Heard, Force); settle
//	all but grow, stock      clear
//	grow, counter, map       adopt (From)
type Op struct {
	Op    string          `json:"op"`
	Path  []string        `json:"path,omitempty"`
	Kind  Kind            `json:"kind,omitzero"`
	By    int64           `json:"by,omitempty"`
	Value json.RawMessage `json:"value,omitempty"` // kept with keys in order and no space; numbers as they are written
	Who   string          `json:"who,omitempty"`   // to whom the write was promised: what an apology will say
	ID    string          `json:"id,omitempty"`    // of an item of a list
	Keep  int             `json:"keep,omitempty"`  // remove items at the other end beyond so many; 0: none
	To    Writer          `json:"to,omitzero"`
	For   int64           `json:"for,omitempty"` // milliseconds that a share is for, up to a year

	From  Writer    `json:"-"` // whose shares are reclaimed, whose count is adopted
	Heard time.Time `json:"-"` // when the caller asked From for the value, by its clock; what From answered is in the value
	Kept  bool      `json:"-"` // Value is in the form in which it is kept already: the caller made it so
	Force bool      `json:"-"` // reclaim without having heard; what From has spent meanwhile is spent twice
}

// ParseOp reads an operation from JSON. The error is of kind Invalid, or Denied for what only the host may do.
func ParseOp(b []byte) (op Op, err error) {
	bad := func(err error) (Op, error) {
		return Op{}, &wedge.Error{Op: "read operation", Kind: wedge.Invalid, Err: err, Hint: `Send one JSON object such as {"op":"add","by":3}.`}
	}
	if len(b) > 2*MaxValue+MaxDepth*MaxName {
		return bad(errors.New("too long"))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&op); err != nil {
		return bad(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad(errors.New("more than one JSON value"))
	}
	if op.Op == "adopt" || op.Op == "reclaim" {
		return Op{}, &wedge.Error{Op: "read operation", What: op.Op, Kind: wedge.Denied, Err: errors.New("not for guests"),
			Hint: "Leave it to the PoP, which knows who is gone and what it has heard."}
	}
	return op, nil
}

// canonical returns the one way in which a JSON value is kept, so that equal elements of sets are equal bytes.
func (op *Op) canonical() (string, error) {
	if op.Kept && len(op.Value) <= MaxValue {
		return string(op.Value), nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(op.Value))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return "", refuse(wedge.Invalid, errors.New("no JSON in value"), "")
	}
	if _, err := d.Token(); err != io.EOF {
		return "", refuse(wedge.Invalid, errors.New("more than one JSON value in value"), "")
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", refuse(wedge.Invalid, err, "")
	}
	s := out.String()[:out.Len()-1]
	if !validJSON([]byte(s)) {
		return "", refuse(wedge.Invalid, errors.New("a value that is nested too deeply"), "")
	}
	if len(s) > MaxValue {
		return "", refuse(wedge.Exhausted, fmt.Errorf("a value of %d bytes", len(s)), fmt.Sprintf("Keep it below %d, or keep it in a KV store and its key here.", MaxValue))
	}
	return s, nil
}

// validJSON reports whether b is a JSON value that can be shown within others.
func validJSON(b []byte) bool {
	depth, text := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '[' || c == '{':
			if depth++; depth > 1000 {
				return false
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return utf8.Valid(b) && json.Valid(b)
}

func checkName(s string) error {
	if len(s) > MaxName || !utf8.ValidString(s) {
		return refuse(wedge.Invalid, errors.New("a name that is too long, or no UTF-8"), fmt.Sprintf("Use up to %d bytes.", MaxName))
	}
	return nil
}

// by returns how many the operation is about, at least 1.
func (op *Op) by() (uint64, error) {
	switch {
	case op.By == 0:
		return 1, nil
	case op.By < 0 || op.By > maxSum:
		return 0, refuse(wedge.Invalid, fmt.Errorf("by %d", op.By), "Use a number from 1 to 9007199254740992.")
	}
	return uint64(op.By), nil
}

func unknownOp(k Kind, op string) error {
	return refuse(wedge.Invalid, fmt.Errorf("%q is no operation on a value of kind %v", op, k), "")
}
