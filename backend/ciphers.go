package backend

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
)

var errNoCipher = errors.New("the cipher list leaves no cipher suite that is known here")

// setCiphers applies an OpenSSL cipher list. It governs TLS 1.2 and below; the suites of TLS
// 1.3 are always on, unless the list is empty of anything older: then 1.3 is all there is.
// The order is not kept: crypto/tls has its own.
func setCiphers(cfg *tls.Config, list string) error {
	if list == "" {
		return nil
	}
	ids, tls13 := parseCiphers(list)
	switch {
	case len(ids) > 0:
		cfg.CipherSuites = ids
	case tls13 && (cfg.MaxVersion == 0 || cfg.MaxVersion >= tls.VersionTLS13):
		cfg.MinVersion = tls.VersionTLS13
	default:
		return errNoCipher
	}
	return nil
}

// Bounds on the work with a list that a guest wrote; what is beyond them is not read.
const (
	maxCipherList   = 4096 // bytes
	maxCipherTokens = 256
)

// parseCiphers reads the format of OpenSSL's ciphers(1): names and groups, joined within
// a term by "+", with "!" (never), "-" (not so far) and "+" (to the end) before a term. Names
// not known are passed over, as OpenSSL does. tls13 tells that a suite of TLS 1.3 was named.
func parseCiphers(list string) (ids []uint16, tls13 bool) {
	terms := strings.FieldsFunc(list[:min(len(list), maxCipherList)], func(r rune) bool { return r == ':' || r == ',' || r == ' ' || r == ';' })
	never := map[uint16]bool{}
	for _, term := range terms[:min(len(terms), maxCipherTokens)] {
		op := term[0]
		name := strings.TrimLeft(term, "!-+")
		tls13 = tls13 || op != '!' && op != '-' && slices.Contains(suites13, name)
		for _, s := range suites {
			if !s.matches(name) {
				continue
			}
			switch at := slices.Index(ids, s.id); {
			case op == '!':
				never[s.id] = true
				fallthrough
			case op == '-':
				if at >= 0 {
					ids = slices.Delete(ids, at, at+1)
				}
			case op != '+' && op != '@' && at < 0 && !never[s.id]:
				ids = append(ids, s.id)
			}
		}
	}
	return ids, tls13
}

// suites13 names the suites of TLS 1.3, which crypto/tls does not let anyone choose from.
var suites13 = []string{
	tls.CipherSuiteName(tls.TLS_AES_128_GCM_SHA256),
	tls.CipherSuiteName(tls.TLS_AES_256_GCM_SHA384),
	tls.CipherSuiteName(tls.TLS_CHACHA20_POLY1305_SHA256),
}

// A suite is a cipher suite of Go with the words by which OpenSSL knows it.
type suite struct {
	id    uint16
	words string // between blanks: its OpenSSL and IANA names, and the groups it is in
}

func (s suite) matches(term string) bool {
	if term == "" {
		return false
	}
	for word := range strings.SplitSeq(term, "+") {
		if !strings.Contains(s.words, " "+word+" ") {
			return false
		}
	}
	return true
}

const (
	groupECDHE = " ECDHE EECDH kECDHE kEECDH ECDH ALL "
	groupRSA   = " kRSA aRSA RSA ALL "
	authRSA    = " aRSA "
	authECDSA  = " aECDSA ECDSA "
	gcm128     = " AESGCM AES AES128 HIGH SHA256 TLSv1.2 DEFAULT "
	gcm256     = " AESGCM AES AES256 HIGH SHA384 TLSv1.2 DEFAULT "
	chacha     = " CHACHA20 HIGH TLSv1.2 DEFAULT "
	cbc128     = " AES AES128 HIGH SHA SHA1 TLSv1 SSLv3 DEFAULT "
	cbc256     = " AES AES256 HIGH SHA SHA1 TLSv1 SSLv3 DEFAULT "
	cbc128s2   = " AES AES128 HIGH SHA256 TLSv1.2 DEFAULT "
	old3DES    = " 3DES MEDIUM SHA SHA1 SSLv3 "
)

// suites are those of TLS 1.2 and below that Go can do, RC4 left out, the best first.
var suites = []suite{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, " ECDHE-ECDSA-AES128-GCM-SHA256 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 " + groupECDHE + authECDSA + gcm128},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, " ECDHE-RSA-AES128-GCM-SHA256 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 " + groupECDHE + authRSA + gcm128},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, " ECDHE-ECDSA-AES256-GCM-SHA384 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 " + groupECDHE + authECDSA + gcm256},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, " ECDHE-RSA-AES256-GCM-SHA384 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 " + groupECDHE + authRSA + gcm256},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, " ECDHE-ECDSA-CHACHA20-POLY1305 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 " + groupECDHE + authECDSA + chacha},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, " ECDHE-RSA-CHACHA20-POLY1305 TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 " + groupECDHE + authRSA + chacha},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, " ECDHE-ECDSA-AES128-SHA256 TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256 " + groupECDHE + authECDSA + cbc128s2},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, " ECDHE-RSA-AES128-SHA256 TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256 " + groupECDHE + authRSA + cbc128s2},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, " ECDHE-ECDSA-AES128-SHA TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA " + groupECDHE + authECDSA + cbc128},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, " ECDHE-RSA-AES128-SHA TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA " + groupECDHE + authRSA + cbc128},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, " ECDHE-ECDSA-AES256-SHA TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA " + groupECDHE + authECDSA + cbc256},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, " ECDHE-RSA-AES256-SHA TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA " + groupECDHE + authRSA + cbc256},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, " AES128-GCM-SHA256 TLS_RSA_WITH_AES_128_GCM_SHA256 " + groupRSA + gcm128},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, " AES256-GCM-SHA384 TLS_RSA_WITH_AES_256_GCM_SHA384 " + groupRSA + gcm256},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA256, " AES128-SHA256 TLS_RSA_WITH_AES_128_CBC_SHA256 " + groupRSA + cbc128s2},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, " AES128-SHA TLS_RSA_WITH_AES_128_CBC_SHA " + groupRSA + cbc128},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, " AES256-SHA TLS_RSA_WITH_AES_256_CBC_SHA " + groupRSA + cbc256},
	{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, " ECDHE-RSA-DES-CBC3-SHA TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA " + groupECDHE + authRSA + old3DES},
	{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, " DES-CBC3-SHA TLS_RSA_WITH_3DES_EDE_CBC_SHA " + groupRSA + old3DES},
}
