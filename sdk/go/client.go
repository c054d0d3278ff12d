package edge

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
	"github.com/wedge-cloud/wedge/sdk/go/store"
)

type clientKey struct{}

// Client is what the host knows of whoever sent a request. Each method asks the host when
// it is called; what is not known is empty.
type Client struct {
	h     abi.Handle
	known bool // false: this request did not come from a host
}

// ClientInfo returns what the host knows of r's sender.
func ClientInfo(r *http.Request) *Client { return clientOf(r.Context()) }

func clientOf(ctx context.Context) *Client {
	if c, ok := ctx.Value(clientKey{}).(*Client); ok {
		return c
	}
	return &Client{}
}

func (c *Client) text(call host.TextCall) string {
	if !c.known {
		return ""
	}
	s, err := host.Text(call, c.h)
	if err != nil {
		return ""
	}
	return s
}

func (c *Client) addr(call func(abi.Handle, *[16]byte, *uint32) abi.Status) netip.Addr {
	if !c.known {
		return netip.Addr{}
	}
	b, err := host.Octets(call, c.h)
	if err != nil {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// RequestID returns the request's identity: 32 hex digits, unique.
func (c *Client) RequestID() string { return c.text(abi.ClientRequestID) }

// IP returns the client's address.
func (c *Client) IP() netip.Addr { return c.addr(abi.ClientIP) }

// ServerIP returns the address that the client connected to.
func (c *Client) ServerIP() netip.Addr { return c.addr(abi.ServerIP) }

// Geo returns what is known of the client's place.
func (c *Client) Geo() (*store.Place, error) { return Geo(c.IP()) }

// Proto returns "HTTP/1.1", "HTTP/2.0" and so on: the version the client spoke.
func (c *Client) Proto() string {
	var v uint32
	if !c.known || abi.ReqVersionGet(c.h, &v) != abi.OK {
		return ""
	}
	switch v {
	case 0:
		return "HTTP/0.9"
	case 1:
		return "HTTP/1.0"
	case 3:
		return "HTTP/2.0"
	case 4:
		return "HTTP/3.0"
	}
	return "HTTP/1.1"
}

// TLSProtocol returns "TLSv1.2" or "TLSv1.3".
func (c *Client) TLSProtocol() string { return c.text(abi.ClientTLSProtocol) }

// TLSCipher returns the cipher suite by its OpenSSL name.
func (c *Client) TLSCipher() string { return c.text(abi.ClientTLSCipher) }

// TLSServerName returns the server name the client asked for (SNI).
func (c *Client) TLSServerName() string { return c.text(abi.ClientTLSServerName) }

// TLSHello returns the ClientHello as it was received.
func (c *Client) TLSHello() []byte { return []byte(c.text(abi.ClientTLSHello)) }

// TLSCertificate returns the client's certificate as PEM.
func (c *Client) TLSCertificate() []byte { return []byte(c.text(abi.ClientTLSCertificate)) }

// JA3 returns the MD5 of the JA3 fingerprint; all zero if not known.
func (c *Client) JA3() (md5 [16]byte) {
	var n uint32
	if c.known && abi.ClientTLSJA3(c.h, &md5, &n) != abi.OK {
		return [16]byte{}
	}
	return md5
}

// JA4 returns the JA4 fingerprint.
func (c *Client) JA4() string { return c.text(abi.ClientTLSJA4) }

// H2Fingerprint returns the fingerprint of the HTTP/2 connection.
func (c *Client) H2Fingerprint() string { return c.text(abi.ClientH2Fingerprint) }

// HeaderFingerprint returns the fingerprint of the request's original header.
func (c *Client) HeaderFingerprint() string { return c.text(abi.ClientOHFingerprint) }

// HeaderNames returns the header names as they were received: order, case and repeats kept.
func (c *Client) HeaderNames() []string {
	if !c.known {
		return nil
	}
	list, _ := host.Names(abi.ClientHeaderNames, c.h, false)
	return list
}

// Jurisdiction returns the region whose rules apply where the request came in.
func (c *Client) Jurisdiction() string { return c.text(abi.ClientCompliance) }
