package host

import "github.com/wedge-cloud/wedge/sdk/go/internal/abi"

// NamesCall returns header or trailer names from a cursor on.
type NamesCall func(h abi.Handle, buf *byte, bufLen, cursor uint32, next *int64, n *uint32) abi.Status

// ValuesCall returns the values of one name from a cursor on.
type ValuesCall func(h abi.Handle, name string, buf *byte, bufLen, cursor uint32, next *int64, n *uint32) abi.Status

// Names returns all that call lists for h, in canonical form (Content-Type) if canonical is set.
func Names(call NamesCall, h abi.Handle, canonical bool) ([]string, error) {
	return list(canonical, func(buf *byte, bufLen, cursor uint32, next *int64, n *uint32) abi.Status {
		return call(h, buf, bufLen, cursor, next, n)
	})
}

// Values returns the values of a name; none if it is absent.
func Values(call ValuesCall, h abi.Handle, name string) ([]string, error) {
	return list(false, func(buf *byte, bufLen, cursor uint32, next *int64, n *uint32) abi.Status {
		return call(h, name, buf, bufLen, cursor, next, n)
	})
}

// Header reads all names and values: one hostcall, and one more for each name.
func Header(names NamesCall, values ValuesCall, h abi.Handle) (map[string][]string, error) {
	keys, err := Names(names, h, true)
	if err != nil {
		return nil, err
	}
	header := make(map[string][]string, len(keys)+2)
	for _, k := range keys {
		if header[k], err = Values(values, h, k); err != nil {
			return nil, err
		}
	}
	return header, nil
}

// list collects NUL-terminated pieces over as many calls as the host wants. All strings
// of one call share one allocation.
func list(canonical bool, call func(buf *byte, bufLen, cursor uint32, next *int64, n *uint32) abi.Status) (all []string, err error) {
	buf := scratchOf(firstScratch)
	for cursor := int64(0); cursor >= 0; {
		var next int64
		var n uint32
		st := call(&buf[0], uint32(len(buf)), uint32(cursor), &next, &n)
		if st == abi.BufLen && int(n) > len(buf) {
			buf = scratchOf(int(n))
			continue
		}
		if st != abi.OK {
			return nil, st
		}
		if n == 0 || next == cursor {
			return all, nil
		}
		if canonical {
			Canonical(buf[:n])
		}
		all = appendPieces(all, string(buf[:n]))
		cursor = next
	}
	return all, nil
}

func appendPieces(all []string, s string) []string {
	if all == nil {
		pieces := 0
		for i := range len(s) {
			if s[i] == 0 {
				pieces++
			}
		}
		all = make([]string, 0, pieces)
	}
	for start, i := 0, 0; i < len(s); i++ {
		if s[i] == 0 {
			all = append(all, s[start:i])
			start = i + 1
		}
	}
	return all
}

// Canonical brings names to the form of http.CanonicalHeaderKey, in place: upper case at
// the start, after '-' and after NUL. It does not need that function's table, which would
// be built anew for every request.
func Canonical(b []byte) {
	upper := true
	for i, c := range b {
		switch {
		case upper && 'a' <= c && c <= 'z':
			b[i] = c - 32
		case !upper && 'A' <= c && c <= 'Z':
			b[i] = c + 32
		}
		upper = c == '-' || c == 0
	}
}

// SetHeader writes header to h by the calls of requests or responses, leaving out names
// for which skip reports true.
func SetHeader(insert, add func(abi.Handle, string, string) abi.Status, h abi.Handle, header map[string][]string, skip func(string) bool) error {
	for name, values := range header {
		if skip != nil && skip(name) {
			continue
		}
		call := insert
		for _, v := range values {
			if st := call(h, name, v); st != abi.OK {
				return &HeaderError{name, st}
			}
			call = add
		}
	}
	return nil
}

// HeaderError says which header the host refused. It does not show the value, which may be secret.
type HeaderError struct {
	Name   string
	Status abi.Status
}

// Error names the header.
func (e *HeaderError) Error() string { return "set header " + e.Name + ": " + e.Status.Error() }

// Unwrap returns the status.
func (e *HeaderError) Unwrap() error { return e.Status }
