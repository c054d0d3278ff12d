package front

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// certificates are what the front can show, and which of them for which name.
type certificates struct {
	all    []*tls.Certificate
	byName map[string][]*tls.Certificate // lower case; wildcards as "*.shop.example"
}

// ReloadCertificates reads the certificate files again and uses them for handshakes from now
// on, all or none: on an error, of kind Invalid, the old ones stay.
func (f *Front) ReloadCertificates() error {
	set := &certificates{byName: map[string][]*tls.Certificate{}}
	for _, files := range f.cfg.Certificates {
		cert, err := files.load()
		if err != nil {
			return err
		}
		set.add(&cert)
	}
	if len(set.all) == 0 {
		return &wedge.Error{Op: "load certificates", Kind: wedge.Invalid, Err: errors.New("none are configured"),
			Hint: "Name at least one certificate and key file for the TLS listeners."}
	}
	f.certs.Store(set)
	return nil
}

func (files CertificateFiles) load() (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return cert, &wedge.Error{Op: "load certificate", What: files.Cert, Kind: wedge.Invalid, Err: err,
			Hint: "Check that both files are PEM, readable by this process, and belong together."}
	}
	return cert, nil
}

// Check reads the files. The error is of kind Invalid.
func (files CertificateFiles) Check() error {
	_, err := files.load()
	return err
}

func (s *certificates) add(cert *tls.Certificate) {
	s.all = append(s.all, cert)
	names := cert.Leaf.DNSNames
	if len(names) == 0 {
		names = []string{cert.Leaf.Subject.CommonName}
	}
	for _, name := range names {
		name = strings.ToLower(name)
		s.byName[name] = append(s.byName[name], cert)
	}
}

// choose picks the certificate for a handshake: by name, by wildcard, else the first; and
// among several for one name the first whose kind of key the client can use.
func (s *certificates) choose(h *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(h.ServerName, "."))
	fits := s.byName[name]
	if _, parent, ok := strings.Cut(name, "."); ok && len(fits) == 0 {
		fits = s.byName["*."+parent]
	}
	if len(fits) == 0 {
		fits = s.all
	}
	for _, cert := range fits {
		if h.SupportsCertificate(cert) == nil {
			return cert
		}
	}
	return fits[0]
}

func (f *Front) tlsConfig() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		ClientCAs:  f.cfg.ClientCAs,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return f.certs.Load().choose(h), nil
		},
	}
	switch f.cfg.ClientCert {
	case ClientCertRequest:
		c.ClientAuth = tls.RequestClientCert
	case ClientCertRequire:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c
}

// handshake makes TLS out of a connection and notes what the client said in it.
func (f *Front) handshake(raw *rawConn) (*tls.Conn, error) {
	raw.sniff = &sniffer{}
	raw.SetDeadline(time.Now().Add(f.cfg.HandshakeTimeout))
	conn := tls.Server(raw, f.tls)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		answerPlain(err)
		return nil, err
	}
	raw.SetDeadline(time.Time{})
	raw.info.tls = f.clientTLS(conn.ConnectionState(), raw.sniff.hello())
	raw.sniff = nil
	return conn, nil
}

// answerPlain tells a client that speaks HTTP to a TLS port so.
func answerPlain(err error) {
	var rec tls.RecordHeaderError
	if !errors.As(err, &rec) || rec.Conn == nil {
		return
	}
	switch string(rec.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET":
		io.WriteString(rec.Conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nthis port speaks HTTPS\n")
		if cw, ok := rec.Conn.(interface{ CloseWrite() error }); ok {
			cw.CloseWrite()
		}
		io.CopyN(io.Discard, rec.Conn, 64<<10) // bounded in time by the handshake's deadline
	}
}

func (f *Front) clientTLS(state tls.ConnectionState, msg []byte) *wedge.ClientTLS {
	c := &wedge.ClientTLS{State: &state, Hello: msg, CertAsked: f.cfg.ClientCert != ClientCertNone}
	if f.cfg.ClientCert == ClientCertRequest {
		state.VerifiedChains, c.CertError = f.verify(state.PeerCertificates)
	}
	if h, err := parseHello(msg); err == nil {
		c.JA3, c.JA4 = h.ja3(), h.ja4()
	}
	return c
}

// verify does what crypto/tls leaves out for a certificate that is asked for, not required.
func (f *Front) verify(certs []*x509.Certificate) ([][]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, nil
	}
	opts := x509.VerifyOptions{Roots: f.cfg.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	return certs[0].Verify(opts)
}

// ReadCAs reads the authorities that sign clients' certificates, of which there is at least one, from a PEM file.
func ReadCAs(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(text) {
		err = errors.New("no certificate in it")
	}
	if err != nil {
		return nil, &wedge.Error{Op: "read client authorities", What: file, Kind: wedge.Invalid, Err: err, Hint: "Give a PEM file with the certificates of those who sign clients' certificates."}
	}
	return pool, nil
}
