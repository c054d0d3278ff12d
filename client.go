package wedge

import (
	"context"
	"crypto/tls"
	"net/netip"
)

// Client is what the front knows of the connection and request it accepted, beyond
// what http.Request holds. It is immutable once the request is handed on.
type Client struct {
	RequestID      string // 32 hex digits, unique per request
	Remote         netip.AddrPort
	Local          netip.AddrPort
	TLS            *ClientTLS // nil on a plain connection
	HeaderNames    []string   // header names as received: order, case and repeats kept; nil if not known
	H2Fingerprint  string     // of the HTTP/2 connection's beginning, in Akamai's form; "" if not HTTP/2 or not known
	OHFingerprint  string     // of the original headers' order; "" if not known
	BytesIn        func() int64
	ConnRequestNum int    // 1 for the first request on its connection
	Version        int    // of the service that answers; 0: the route's. Whoever chooses another sets it
	Refused        string // the rate by which the request was refused; "": it was not. Whoever refuses sets it
}

// ClientTLS is what the handshake told.
type ClientTLS struct {
	State *tls.ConnectionState
	Hello []byte   // the ClientHello handshake message as received, without record headers; nil if not known
	JA3   [16]byte // MD5 of the JA3 string
	JA4   string

	CertAsked bool  // the client was asked for a certificate; whether it sent one is in State
	CertError error // why the one it sent proves nothing; nil: it does, or there is none
}

type clientKey struct{}

// WithClient returns ctx carrying c.
func WithClient(ctx context.Context, c *Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientFrom returns the Client that the front put into ctx, or nil.
func ClientFrom(ctx context.Context) *Client {
	c, _ := ctx.Value(clientKey{}).(*Client)
	return c
}
