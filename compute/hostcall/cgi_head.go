package hostcall

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// cgiHeadEnd looks for the empty line that ends a CGI header section, from the line that
// begins at line on. It returns where the section ends, the empty line included, 0 if it
// does not yet, and where to go on looking.
func cgiHeadEnd(b []byte, line int) (end, next int) {
	for {
		n := bytes.IndexByte(b[line:], '\n')
		if n < 0 {
			return 0, line
		}
		if n == 0 || n == 1 && b[line] == '\r' {
			return line + n + 1, line
		}
		line += n + 1
	}
}

// parseCGIHead reads a whole CGI header section (RFC 3875 section 6). It returns the response that
// it stands for, or the path and query of a local redirect (section 6.2.2).
func parseCGIHead(b []byte, lines int) (resp *response, local string, err error) {
	resp = newResponse()
	status, location, typed := "", "", false
	for line := range bytes.Lines(b) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) == 0 {
			break
		}
		name, value, err := parseCGIField(line)
		if err != nil {
			return nil, "", err
		}
		switch lower := strings.ToLower(name); {
		case lower == "status":
			if status != "" {
				return nil, "", errors.New("it printed Status twice")
			}
			status = value
			continue
		case lower == "transfer-encoding", strings.HasPrefix(lower, "x-cgi-"): // the server's business
			continue
		case lower == "content-length":
			resp.manual = true // then the guest must keep its word
		case lower == "content-type":
			typed = true
		case lower == "location":
			location = value
		}
		if len(resp.headers.list) >= lines {
			return nil, "", fmt.Errorf("it printed more than %d header lines", lines)
		}
		resp.headers.add(name, value)
	}
	if status == "" && strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") {
		return nil, location, nil
	}
	resp.status, err = cgiStatus(status, location != "", typed)
	return resp, "", err
}

func parseCGIField(line []byte) (name, value string, err error) {
	n, v, ok := bytes.Cut(line, []byte(":"))
	v = bytes.Trim(v, " \t")
	if !ok || !validToken(n) || !validValue(v) {
		return "", "", fmt.Errorf("%.80q is not a header line", line)
	}
	return string(n), string(v), nil
}

// cgiStatus decides the status: the one printed, else 302 for a Location, else 200 for a typed document.
func cgiStatus(printed string, redirect, typed bool) (int, error) {
	switch {
	case printed != "":
		digits, _, _ := strings.Cut(printed, " ")
		code, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || len(digits) != 3 || code < 200 || code > 599 {
			return 0, fmt.Errorf("%.80q is not a status", printed)
		}
		return int(code), nil
	case redirect:
		return 302, nil
	case !typed:
		return 0, errors.New("it printed neither Content-Type, Status nor Location")
	}
	return 200, nil
}
