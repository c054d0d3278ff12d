package hostcall

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// On a TLS connection these calls always succeed, with nothing where nothing is known: the
// Go SDK refuses a request about which one of them fails. Without TLS they answer none.

func tlsOf(in *incoming) (*wedge.ClientTLS, *tls.ConnectionState, bool) {
	t := in.client.TLS
	if t == nil {
		return nil, nil, false
	}
	if t.State == nil {
		return t, &tls.ConnectionState{}, true
	}
	return t, t.State, true
}

func tlsCipher(_ *compute.Call, in *incoming) (string, abi.Status) {
	_, state, ok := tlsOf(in)
	if !ok {
		return "", abi.None
	}
	return openSSLNames[state.CipherSuite], abi.OK
}

func tlsProtocol(_ *compute.Call, in *incoming) (string, abi.Status) {
	_, state, ok := tlsOf(in)
	if !ok {
		return "", abi.None
	}
	return protocolNames[state.Version], abi.OK
}

func tlsHello(_ *compute.Call, in *incoming) (string, abi.Status) {
	t, _, ok := tlsOf(in)
	if !ok {
		return "", abi.None
	}
	return string(t.Hello), abi.OK
}

func tlsServerName(_ *compute.Call, in *incoming) (string, abi.Status) {
	_, state, ok := tlsOf(in)
	if !ok {
		return "", abi.None
	}
	return state.ServerName, abi.OK
}

func tlsJA4(_ *compute.Call, in *incoming) (string, abi.Status) {
	t, _, ok := tlsOf(in)
	if !ok {
		return "", abi.None
	}
	return t.JA4, abi.OK
}

func ja3(w who) compute.Func {
	return func(c *compute.Call) abi.Status {
		in, i := w(c)
		t, _, ok := tlsOf(in)
		if !ok {
			return abi.None
		}
		c.Write(c.U32(i), t.JA3[:])
		c.PutU32(c.U32(i+1), uint32(len(t.JA3)))
		return abi.OK
	}
}

func tlsCertificate(_ *compute.Call, in *incoming) (string, abi.Status) {
	_, state, ok := tlsOf(in)
	if !ok || len(state.PeerCertificates) == 0 {
		return "", abi.None
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: state.PeerCertificates[0].Raw})), abi.OK
}

// client_cert_verify_result of the ABI.
const (
	certOK        = 0
	certBad       = 1
	certExpired   = 3
	certUnknownCA = 4
	certMissing   = 5
	certUnknown   = 6
)

func tlsVerifyResult(_ *compute.Call, in *incoming) (uint32, abi.Status) {
	t, state, ok := tlsOf(in)
	switch {
	case !ok || !t.CertAsked && len(state.PeerCertificates) == 0:
		return 0, abi.None
	case len(state.PeerCertificates) == 0:
		return certMissing, abi.OK
	case len(state.VerifiedChains) == 0:
		return verifyResult(t.CertError), abi.OK
	}
	return certOK, abi.OK
}

// verifyResult returns what a guest is told of a certificate that proves nothing.
func verifyResult(err error) uint32 {
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &authority):
		return certUnknownCA
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return certExpired
	case errors.As(err, &invalid):
		return certBad
	}
	return certUnknown
}

var protocolNames = map[uint16]string{
	tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3",
}

// openSSLNames are OpenSSL's names of the suites that crypto/tls can agree on.
var openSSLNames = map[uint16]string{
	tls.TLS_AES_128_GCM_SHA256:       "TLS_AES_128_GCM_SHA256",
	tls.TLS_AES_256_GCM_SHA384:       "TLS_AES_256_GCM_SHA384",
	tls.TLS_CHACHA20_POLY1305_SHA256: "TLS_CHACHA20_POLY1305_SHA256",

	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       "ECDHE-ECDSA-AES128-GCM-SHA256",
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       "ECDHE-ECDSA-AES256-GCM-SHA384",
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          "ECDHE-ECDSA-AES128-SHA",
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256:       "ECDHE-ECDSA-AES128-SHA256",
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          "ECDHE-ECDSA-AES256-SHA",
	tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA:              "ECDHE-ECDSA-RC4-SHA",
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         "ECDHE-RSA-AES128-GCM-SHA256",
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         "ECDHE-RSA-AES256-GCM-SHA384",
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   "ECDHE-RSA-CHACHA20-POLY1305",
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:            "ECDHE-RSA-AES128-SHA",
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256:         "ECDHE-RSA-AES128-SHA256",
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:            "ECDHE-RSA-AES256-SHA",
	tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA:           "ECDHE-RSA-DES-CBC3-SHA",
	tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA:                "ECDHE-RSA-RC4-SHA",
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256:               "AES128-GCM-SHA256",
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384:               "AES256-GCM-SHA384",
	tls.TLS_RSA_WITH_AES_128_CBC_SHA:                  "AES128-SHA",
	tls.TLS_RSA_WITH_AES_128_CBC_SHA256:               "AES128-SHA256",
	tls.TLS_RSA_WITH_AES_256_CBC_SHA:                  "AES256-SHA",
	tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:                 "DES-CBC3-SHA",
	tls.TLS_RSA_WITH_RC4_128_SHA:                      "RC4-SHA",
}
