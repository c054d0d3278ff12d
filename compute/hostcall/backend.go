package hostcall

import (
	"maps"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var backendCalls = calls{
	"exists":                    backendExists,
	"is_healthy":                backendU32(backendHealth),
	"is_dynamic":                backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return flag(b.Dynamic), abi.OK }),
	"get_host":                  backendHost,
	"get_override_host":         backendOverrideHost,
	"get_port":                  backendPort,
	"get_connect_timeout_ms":    backendMillis(func(b *wedge.Backend) (d, or time.Duration) { return b.ConnectTimeout, wedge.DefaultConnectTimeout }),
	"get_first_byte_timeout_ms": backendMillis(func(b *wedge.Backend) (d, or time.Duration) { return b.FirstByteTimeout, wedge.DefaultFirstByteTimeout }),
	"get_between_bytes_timeout_ms": backendMillis(func(b *wedge.Backend) (d, or time.Duration) {
		return b.BetweenBytesTimeout, wedge.DefaultBetweenBytesTimeout
	}),
	"get_http_keepalive_time":  backendMillis(func(b *wedge.Backend) (d, or time.Duration) { return b.KeepAlive, wedge.DefaultKeepAlive }),
	"get_tcp_keepalive_enable": backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return flag(b.TCPKeepAlive), abi.OK }),
	"get_tcp_keepalive_interval": backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) {
		return uint32(b.TCPKeepInterval / time.Second), abi.OK
	}),
	"get_tcp_keepalive_probes": backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return uint32(b.TCPKeepProbes), abi.OK }),
	"get_tcp_keepalive_time": backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) {
		return uint32(b.TCPKeepTime / time.Second), abi.OK
	}),
	"is_ssl":              backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return flag(b.URL.Scheme == "https"), abi.OK }),
	"get_ssl_min_version": backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return tlsVersionNumber(b.TLS.MinVersion) }),
	"get_ssl_max_version": backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return tlsVersionNumber(b.TLS.MaxVersion) }),
	"get_max_connections": backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return uint32(b.MaxConnections), abi.OK }),
	"get_max_use":         backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return uint32(b.MaxUse), abi.OK }),
	"get_max_lifetime_ms": backendMillis(func(b *wedge.Backend) (d, or time.Duration) { return b.MaxLifetime, 0 }),
	"is_ipv6_preferred":   backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) { return flag(!b.PreferIPv4), abi.OK }),
}

// backend finds a backend of the version or one that the sandbox registered.
func (e *exec) backend(name string) (*wedge.Backend, bool) {
	if b, ok := e.host.Version.Backend(name); ok {
		return b, true
	}
	b, ok := e.backends[name]
	if !ok {
		b, ok = e.older[name]
	}
	return b, ok
}

// register adds a dynamic backend that counts size; without room the call ends with limitexceeded. One of that name for
// an earlier request gives way, and all of those do when there are too many.
func (e *exec) register(c *compute.Call, b *wedge.Backend, size int) {
	if len(e.backends) >= e.limits.DynamicBackends {
		c.Fail(abi.LimitExceeded)
	}
	hold(c, size)
	if e.backends == nil {
		e.backends = map[string]*wedge.Backend{}
	}
	e.backends[b.Name] = b
	if delete(e.older, b.Name); len(e.backends)+len(e.older) > e.limits.DynamicBackends {
		e.older = nil
	}
}

// ageBackends makes the backends those of an earlier request: SDKs forget between requests what they registered, and
// register the same again.
func (e *exec) ageBackends() {
	if e.older == nil {
		e.older = map[string]*wedge.Backend{}
	}
	maps.Copy(e.older, e.backends)
	e.backends = nil
}

// backendArg finds the backend that words 0 and 1 name; an unknown one ends the call with inval.
func backendArg(c *compute.Call) *wedge.Backend {
	b, ok := ex(c).backend(c.Text(0))
	if !ok {
		c.Fail(abi.Inval)
	}
	return b
}

func backendU32(get func(*exec, *wedge.Backend) (uint32, abi.Status)) compute.Func {
	return func(c *compute.Call) abi.Status {
		v, s := get(ex(c), backendArg(c))
		if s == abi.OK {
			c.PutU32(c.U32(2), v)
		}
		return s
	}
}

func backendMillis(get func(*wedge.Backend) (d, or time.Duration)) compute.Func {
	return backendU32(func(_ *exec, b *wedge.Backend) (uint32, abi.Status) {
		d, or := get(b)
		if d == 0 {
			d = or
		}
		return uint32(d / time.Millisecond), abi.OK
	})
}

func backendExists(c *compute.Call) abi.Status {
	_, ok := ex(c).backend(c.Text(0))
	c.PutU32(c.U32(2), flag(ok))
	return abi.OK
}

func backendHealth(e *exec, b *wedge.Backend) (uint32, abi.Status) {
	health := b.Health
	if health == wedge.HealthUnknown && e.host.Health != nil {
		health = e.host.Health(b)
	}
	return uint32(health), abi.OK
}

func backendHost(c *compute.Call) abi.Status { return c.PutBuf(2, 4, backendArg(c).URL.Hostname()) }

func backendOverrideHost(c *compute.Call) abi.Status {
	b := backendArg(c)
	if b.HostOverride == "" {
		return abi.None
	}
	return c.PutBuf(2, 4, b.HostOverride)
}

func backendPort(c *compute.Call) abi.Status {
	b := backendArg(c)
	port := uint64(80)
	if b.URL.Scheme == "https" {
		port = 443
	}
	if p, err := strconv.ParseUint(b.URL.Port(), 10, 16); err == nil {
		port = p
	}
	c.PutU16(c.U32(2), uint16(port))
	return abi.OK
}

// tls_version of the ABI counts from TLS 1.0, crypto/tls from 0x0301.
const tls10 = 0x0301

func tlsVersionNumber(v uint16) (uint32, abi.Status) {
	if v < tls10 {
		return 0, abi.None
	}
	return uint32(v - tls10), abi.OK
}
