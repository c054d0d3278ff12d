package host

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
)

func TestCanonical(t *testing.T) {
	for _, name := range []string{"content-type", "ETAG", "x-a--b", "www-authenticate", "a", "sec-ch-ua"} {
		b := []byte(name)
		Canonical(b)
		if want := http.CanonicalHeaderKey(name); string(b) != want {
			t.Errorf("%s became %s, want %s", name, b, want)
		}
	}
}

func TestReasons(t *testing.T) {
	for r, want := range map[Reason]string{0: "unknown", 2: "dns timeout", ConnectionRefused: "connection refused", HTTP2Error: "http/2 error", 26: "unknown", 255: "unknown"} {
		if r.String() != want {
			t.Errorf("reason %d is %q, want %q", r, r, want)
		}
	}
}

// TestListGrows plays a host that gives two pieces a call, and asks for a larger buffer once.
func TestListGrows(t *testing.T) {
	all := []string{"a", "", strings.Repeat("b", 5000), "c", "d"}
	got, err := list(false, func(buf *byte, bufLen, cursor uint32, next *int64, n *uint32) abi.Status {
		end := min(int(cursor)+2, len(all))
		text := strings.Join(all[cursor:end], "\x00") + "\x00"
		*n = uint32(len(text))
		if len(text) > int(bufLen) {
			return abi.BufLen
		}
		copy(scratch, text)
		if *next = int64(end); end == len(all) {
			*next = -1
		}
		return abi.OK
	})
	if err != nil || !slices.Equal(got, all) {
		t.Errorf("%v, %d pieces", err, len(got))
	}
}
