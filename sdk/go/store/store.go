// Package store reads and writes what a version of a service binds: key-value stores,
// configuration, secrets, access lists, and what is known of addresses and devices. It does not
// need net/http; package edge offers the same under its own name.
//
// Errors match with errors.Is: fs.ErrNotExist for a store, key or record that does not
// exist, fs.ErrExist, fs.ErrInvalid, [ErrConflict], [ErrTooLarge], [ErrTooMany], and
// errors.ErrUnsupported where the host lacks the call (always outside of Wasm).
package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
)

// Errors that a write to a store can match.
var (
	ErrConflict = errors.New("changed meanwhile") // the key is at another generation
	ErrTooLarge = errors.New("value too large")
	ErrTooMany  = errors.New("too many requests") // slow down and try again
)

// Error says which operation failed on which thing, and why.
type Error struct {
	Op   string // "get"
	What string // store, or store and key
	Err  error
}

// Error joins operation, thing and cause.
func (e *Error) Error() string { return e.Op + " " + e.What + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fail wraps a status; statuses in absent mean that the thing does not exist.
func fail(op, what string, st abi.Status, absent ...abi.Status) error {
	if st == abi.OK {
		return nil
	}
	err := error(st)
	if st == abi.Inval {
		err = fs.ErrInvalid
	}
	for _, a := range absent {
		if st == a {
			err = fs.ErrNotExist
		}
	}
	return &Error{op, what, err}
}

// lookup makes a call that returns one value to a buffer, and a copy of the value.
func lookup(op, what string, call func(buf *byte, bufLen uint32, n *uint32) abi.Status) ([]byte, error) {
	b, err := host.Fill(call)
	if err != nil {
		return nil, fail(op, what, err.(abi.Status), abi.None)
	}
	return append([]byte{}, b...), nil
}

// Config is a config store: small values that change without a deploy.
type Config struct {
	name string
	h    abi.Handle
}

// OpenConfig opens the config store that the service binds under name.
func OpenConfig(name string) (*Config, error) {
	c := &Config{name: name}
	return c, fail("open config store", name, abi.ConfigOpen(name, &c.h), abi.BadHandle, abi.None)
}

// Get returns the value of key, at most 8,000 bytes.
func (c *Config) Get(key string) (string, error) {
	b, err := lookup("get", c.name+" "+key, func(buf *byte, bufLen uint32, n *uint32) abi.Status {
		return abi.ConfigGet(c.h, key, buf, bufLen, n)
	})
	return string(b), err
}

// Secrets is a secret store.
type Secrets struct {
	name string
	h    abi.Handle
}

// OpenSecrets opens the secret store that the service binds under name.
func OpenSecrets(name string) (*Secrets, error) {
	s := &Secrets{name: name}
	return s, fail("open secret store", name, abi.SecretOpen(name, &s.h), abi.None)
}

// Get returns a secret. It stays with the host until [Secret.Plaintext].
func (s *Secrets) Get(name string) (*Secret, error) {
	out := &Secret{name: name}
	return out, fail("get secret", s.name+" "+name, abi.SecretGet(s.h, name, &out.h), abi.None)
}

// Secret names a value that the host keeps; it prints as "[secret]".
type Secret struct {
	name string
	h    abi.Handle
}

// NewSecret makes a secret of bytes that the guest has, for calls that want one.
func NewSecret(value []byte) (*Secret, error) {
	s := &Secret{name: "of the guest"}
	var p *byte
	if len(value) > 0 {
		p = &value[0]
	}
	return s, fail("make secret", s.name, abi.SecretFromBytes(p, uint32(len(value)), &s.h))
}

// Plaintext returns the value.
func (s *Secret) Plaintext() ([]byte, error) {
	return lookup("read secret", s.name, func(buf *byte, bufLen uint32, n *uint32) abi.Status {
		return abi.SecretPlaintext(s.h, buf, bufLen, n)
	})
}

// String hides the value.
func (s *Secret) String() string { return "[secret]" }

// GoString hides it from %#v too.
func (s *Secret) GoString() string { return "[secret]" }

// Handle returns the number by which hostcalls know the secret.
func (s *Secret) Handle() uint32 { return uint32(s.h) }

// Log is a named log endpoint. Each Write is one line, and never blocks on delivery.
type Log struct {
	name string
	h    abi.Handle
	open bool
	err  error
}

// OpenLog names a log endpoint; the host learns of it at the first write.
func OpenLog(name string) *Log { return &Log{name: name} }

// Write sends one line; a newline at its end is left out by the host.
func (l *Log) Write(line []byte) (int, error) { return l.WriteString(string(line)) }

// WriteString is Write for strings.
func (l *Log) WriteString(line string) (int, error) {
	if !l.open {
		l.open = true
		l.err = fail("open log", l.name, abi.LogEndpoint(l.name, &l.h))
	}
	if l.err != nil {
		return 0, l.err
	}
	var n uint32
	if err := fail("write log", l.name, abi.LogWrite(l.h, line, &n)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// Purge makes all cached objects with the surrogate key unusable; if soft is set, stale.
func Purge(key string, soft bool) error {
	mask := uint32(0)
	if soft {
		mask = abi.PurgeSoft
	}
	var options abi.PurgeOptions
	return fail("purge", key, abi.PurgeKey(key, mask, &options))
}

// wait lets other goroutines run until h is ready.
func wait(ctx context.Context, op, what string, h abi.Handle) error {
	if err := host.Wait(ctx, h); err != nil {
		return &Error{op, what, err}
	}
	return nil
}
