package hostcall

import (
	"crypto/subtle"
	"net/netip"
	"time"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var httpDownstream = calls{
	"next_request":         nextRequest,
	"next_request_wait":    nextRequestWait,
	"next_request_abandon": nextRequestAbandon,

	"downstream_original_header_names":         originalNames(byHandle),
	"downstream_original_header_count":         originalCount(byHandle),
	"downstream_client_ip_addr":                clientIP(byHandle),
	"downstream_server_ip_addr":                serverIP(byHandle),
	"downstream_client_h2_fingerprint":         textCall(byHandle, h2Fingerprint),
	"downstream_client_request_id":             textCall(byHandle, requestID),
	"downstream_client_oh_fingerprint":         textCall(byHandle, ohFingerprint),
	"downstream_client_ddos_detected":          numberCall(byHandle, no),
	"downstream_tls_cipher_openssl_name":       textCall(byHandle, tlsCipher),
	"downstream_tls_protocol":                  textCall(byHandle, tlsProtocol),
	"downstream_tls_client_hello":              textCall(byHandle, tlsHello),
	"downstream_tls_raw_client_certificate":    textCall(byHandle, tlsCertificate),
	"downstream_tls_client_cert_verify_result": numberCall(byHandle, tlsVerifyResult),
	"downstream_tls_client_servername":         textCall(byHandle, tlsServerName),
	"downstream_tls_ja3_md5":                   ja3(byHandle),
	"downstream_tls_ja4":                       textCall(byHandle, tlsJA4),
	"downstream_compliance_region":             textCall(byHandle, complianceRegion),
	"fastly_key_is_valid":                      numberCall(byHandle, keyIsValid),

	"downstream_bot_analyzed":      numberCall(byHandle, no),
	"downstream_bot_detected":      numberCall(byHandle, no),
	"downstream_bot_name":          textCall(byHandle, unknownText),
	"downstream_bot_category":      textCall(byHandle, unknownText),
	"downstream_bot_category_kind": numberCall(byHandle, unknown),
	"downstream_bot_verified":      numberCall(byHandle, unknown),

	"downstream_resvpnproxy_is_anonymous":         numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_anonymous_vpn":     numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_hosting_provider":  numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_proxy_over_vpn":    numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_public_proxy":      numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_relay_proxy":       numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_residential_proxy": numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_smart_dns_proxy":   numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_tor_exit_node":     numberCall(byHandle, unknown),
	"downstream_resvpnproxy_is_vpn_datacenter":    numberCall(byHandle, unknown),
	"downstream_resvpnproxy_vpn_service_name":     textCall(byHandle, unknownText),

	"downstream_visits_this_service": numberCall(first, visitsThisService),
	"downstream_visits_this_pop":     numberCall(first, visitsThisPoP),
}

// who finds the downstream request that a call asks about, and the first word after it.
type who func(c *compute.Call) (*incoming, int)

// first is for the older calls, which have no handle.
func first(c *compute.Call) (*incoming, int) {
	in := ex(c).first
	if in == nil {
		c.Fail(abi.Error)
	}
	return in, 0
}

// byHandle is for calls whose word 0 is a request; one that no client sent is an error.
func byHandle(c *compute.Call) (*incoming, int) {
	in := getRequest(c, c.U32(0)).in
	if in == nil {
		c.Fail(abi.Error)
	}
	return in, 1
}

// textCall makes a call that answers with text: buffer, *nwritten.
func textCall(w who, get func(*compute.Call, *incoming) (string, abi.Status)) compute.Func {
	return func(c *compute.Call) abi.Status {
		in, i := w(c)
		v, s := get(c, in)
		if s != abi.OK {
			return s
		}
		return c.PutBuf(i, i+2, v)
	}
}

// numberCall makes a call that answers with a u32.
func numberCall(w who, get func(*compute.Call, *incoming) (uint32, abi.Status)) compute.Func {
	return func(c *compute.Call) abi.Status {
		in, i := w(c)
		v, s := get(c, in)
		if s != abi.OK {
			return s
		}
		c.PutU32(c.U32(i), v)
		return abi.OK
	}
}

// no answers what nothing here looks for, and SDKs insist on knowing.
func no(*compute.Call, *incoming) (uint32, abi.Status) { return 0, abi.OK }

func unknown(*compute.Call, *incoming) (uint32, abi.Status)     { return 0, abi.None }
func unknownText(*compute.Call, *incoming) (string, abi.Status) { return "", abi.None }

// textOrNone is for metadata that may be missing.
func textOrNone(v string) (string, abi.Status) {
	if v == "" {
		return "", abi.None
	}
	return v, abi.OK
}

func requestID(_ *compute.Call, in *incoming) (string, abi.Status) {
	return in.client.RequestID, abi.OK
}

func h2Fingerprint(_ *compute.Call, in *incoming) (string, abi.Status) {
	return textOrNone(in.client.H2Fingerprint)
}

func ohFingerprint(_ *compute.Call, in *incoming) (string, abi.Status) {
	return textOrNone(in.client.OHFingerprint)
}

func complianceRegion(*compute.Call, *incoming) (string, abi.Status) { return "none", abi.OK }

// keyIsValid takes the same time whichever key, or none, matches.
func keyIsValid(c *compute.Call, in *incoming) (uint32, abi.Status) {
	c.Redact()
	valid := 0
	for _, key := range ex(c).host.Version.APIKeys {
		if len(key) > 0 {
			valid |= subtle.ConstantTimeCompare(key, []byte(in.key))
		}
	}
	return uint32(valid), abi.OK
}

func clientIP(w who) compute.Func {
	return func(c *compute.Call) abi.Status {
		in, i := w(c)
		return putAddr(c, i, in.client.Remote.Addr())
	}
}

func serverIP(w who) compute.Func {
	return func(c *compute.Call) abi.Status {
		in, i := w(c)
		return putAddr(c, i, in.client.Local.Addr())
	}
}

// putAddr writes an address's 4 or 16 bytes to word i and their number to the next. An unknown
// one is all zeros: guests do not start without an address.
func putAddr(c *compute.Call, i int, a netip.Addr) abi.Status {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	b := a.Unmap().AsSlice()
	c.Write(c.U32(i), b)
	c.PutU32(c.U32(i+1), uint32(len(b)))
	return abi.OK
}

func originalNames(w who) compute.Func {
	return func(c *compute.Call) abi.Status {
		in, i := w(c)
		m := openMany(c, i, i+2)
		for _, name := range in.originalNames() {
			if !m.add(name) {
				break
			}
		}
		return m.finish(i + 3)
	}
}

func originalCount(w who) compute.Func {
	return func(c *compute.Call) abi.Status {
		in, i := w(c)
		c.PutU32(c.U32(i), uint32(len(in.originalNames())))
		return abi.OK
	}
}

// nextRequest promises the sandbox another request.
func nextRequest(c *compute.Call) abi.Status {
	e := ex(c)
	mask := c.U32(0)
	timeout := e.limits.ReuseIdleTimeout
	if mask&^3 != 0 { // the lowest bit is reserved
		return abi.Inval
	}
	if mask&2 != 0 { // some SDKs give 4 bytes, some 8
		timeout = min(timeout, time.Duration(c.ReadU32(c.U32(1)))*time.Millisecond)
	}
	c.Read(c.U32(2), 4)
	if e.promise != nil {
		return abi.LimitExceeded
	}
	p := &promise{e: e, timeout: timeout}
	if e.pool == nil || e.in == nil || e.served >= e.limits.RequestsInReuse {
		p.offered = true
		p.resolve(nil, nil)
	}
	h := putItem(c, p)
	e.promise = p
	c.PutU32(c.U32(2), h)
	return abi.OK
}

func nextRequestWait(c *compute.Call) abi.Status {
	e := ex(c)
	p := getItem[*promise](c, c.U32(0))
	c.Read(c.U32(1), 4)
	c.Read(c.U32(2), 4)
	if e.in != nil && !e.in.answered {
		return abi.Unsupported
	}
	e.await(c, p)
	in, _ := p.result()
	e.items.take(c.U32(0))
	e.promise = nil
	if in == nil {
		return abi.None
	}
	e.begin(in)
	c.Sandbox.NextRequest()
	hs := openDownstream(c, in)
	c.PutU32(c.U32(1), hs.request)
	c.PutU32(c.U32(2), hs.body)
	return abi.OK
}

func nextRequestAbandon(c *compute.Call) abi.Status {
	takeItem[*promise](c, c.U32(0)).drop()
	return abi.OK
}
