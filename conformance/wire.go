package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
	"strings"
)

// Both ends speak HTTP/1.1 by hand: net/http tidies up what is to be looked at here, such as the
// order of fields, lines of the same name, and bodies that end early.

// field is one header line.
type field struct{ name, value string }

// Bounds on what the proxy may send; more is an error.
const (
	maxHead = 64 << 10
	maxBody = 4 << 20
)

// joined returns the values of all lines called name, joined with ", ", and their number.
func joined(fields []field, name string) (string, int) {
	values := valuesOf(fields, name)
	return strings.Join(values, ", "), len(values)
}

func valuesOf(fields []field, name string) []string {
	var values []string
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			values = append(values, f.value)
		}
	}
	return values
}

// readHead reads a start line and the fields up to the empty line.
func readHead(r *bufio.Reader) (start string, fields []field, err error) {
	left := maxHead
	if start, err = readLine(r, &left); err != nil {
		return "", nil, err
	}
	fields, err = readFields(r, &left)
	return start, fields, err
}

func readFields(r *bufio.Reader, left *int) ([]field, error) {
	var fields []field
	for {
		line, err := readLine(r, left)
		if err != nil || line == "" {
			return fields, noEOF(err)
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fields, fmt.Errorf("header line %q has no colon", line)
		}
		fields = append(fields, field{name, strings.Trim(value, " \t")})
	}
}

// readLine reads one line without its end, and counts it in left.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if *left -= len(part); *left < 0 {
			return "", fmt.Errorf("more than %d bytes of header", maxHead)
		}
		if err == nil {
			return strings.TrimRight(string(line), "\r\n"), nil
		}
		if err != bufio.ErrBufferFull {
			if len(line) > 0 {
				err = noEOF(err)
			}
			return "", err
		}
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// body is what follows a head.
type body struct {
	text     string
	trailers []field
	cut      bool // it ended before its framing said so
}

// readBody reads the body that fields announce. A response may also end with the connection.
func readBody(r *bufio.Reader, fields []field, response bool) (body, error) {
	coding, _ := joined(fields, "Transfer-Encoding")
	length, n := joined(fields, "Content-Length")
	switch {
	case strings.HasSuffix(strings.ToLower(coding), "chunked"):
		return readChunked(r)
	case n > 0 && coding == "":
		size, err := strconv.ParseInt(length, 10, 64)
		if err != nil || size < 0 || size > maxBody {
			return body{}, fmt.Errorf("Content-Length: %s: not a length this suite expects", length)
		}
		return readAll(io.LimitReader(r, size), int(size))
	case response:
		return readAll(r, -1)
	}
	return body{}, nil
}

func readChunked(r *bufio.Reader) (body, error) {
	b, err := readAll(httputil.NewChunkedReader(r), -1)
	if err != nil || b.cut {
		return b, err
	}
	left := maxHead
	b.trailers, err = readFields(r, &left)
	b.cut = err != nil
	return b, nil
}

// readAll reads all there is; size is how much that should be, or -1.
func readAll(r io.Reader, size int) (body, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	b := body{text: string(text), cut: err != nil || size > len(text)}
	if len(text) > maxBody {
		return b, fmt.Errorf("a body of more than %d bytes", maxBody)
	}
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() {
		return b, fmt.Errorf("the body did not end in time: %w", err)
	}
	return b, nil
}
