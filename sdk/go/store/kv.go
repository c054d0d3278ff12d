package store

import (
	"context"
	"io"
	"io/fs"
	"runtime"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
	"github.com/wedge-cloud/wedge/sdk/go/internal/jsonscan"
)

// MaxMetadata is the longest metadata of a key, in bytes.
const MaxMetadata = 2000

// KV is a key-value store. Keys are 1 to 1,024 bytes of UTF-8.
type KV struct {
	name string
	h    abi.Handle
}

// OpenKV opens the key-value store that the service binds under name.
func OpenKV(name string) (*KV, error) {
	s := &KV{name: name}
	return s, fail("open kv store", name, abi.KVOpen(name, &s.h), abi.Inval, abi.None)
}

// Value is what a key holds. Read it, or drop it with Close.
type Value struct {
	io.ReadCloser
	Metadata   string
	Generation uint64 // changes with each write to the key
}

// Bytes reads the value to its end and closes it.
func (v *Value) Bytes() ([]byte, error) {
	defer v.Close()
	return io.ReadAll(v)
}

// Get returns what key holds; the error matches fs.ErrNotExist if it holds nothing.
func (s *KV) Get(ctx context.Context, key string) (*Value, error) {
	what := s.name + " " + key
	var pending abi.Handle
	var none abi.KVNothing
	if err := fail("get", what, abi.KVLookup(s.h, key, 0, &none, &pending)); err != nil {
		return nil, err
	}
	if err := wait(ctx, "get", what, pending); err != nil {
		return nil, err
	}
	v := &Value{}
	body := abi.Invalid
	var metadata [MaxMetadata]byte
	var n, code uint32
	st := abi.KVLookupWait(pending, &body, &metadata[0], MaxMetadata, &n, &v.Generation, &code)
	if err := kvFail("get", what, st, code, false); err != nil {
		return nil, err
	}
	v.Metadata = string(metadata[:min(n, MaxMetadata)])
	v.ReadCloser = &host.Body{H: body, Ctx: ctx}
	return v, nil
}

// Mode says what a put does with a value that is there already.
type Mode uint32

// Modes.
const (
	Overwrite Mode = iota
	Add            // only if absent; else the error matches fs.ErrExist
	Append
	Prepend
)

// Put holds the options of a write; the zero value overwrites for ever.
type Put struct {
	Mode         Mode
	Metadata     string        // at most MaxMetadata bytes
	TTL          time.Duration // rounded up to seconds; 0: for ever
	IfGeneration uint64        // write only if the key is at this generation, else [ErrConflict]; 0: in any case
}

// Put writes value under key. A nil opts is the zero Put.
func (s *KV) Put(ctx context.Context, key string, value []byte, opts *Put) error {
	what := s.name + " " + key
	if opts == nil {
		opts = &Put{}
	}
	body, err := host.NewBody()
	if err != nil {
		return &Error{"put", what, err}
	}
	if _, err := host.Write(body, value, false); err != nil {
		return &Error{"put", what, err}
	}
	mask, config := opts.config()
	var pending abi.Handle
	st := abi.KVInsert(s.h, key, body, mask, &config, &pending)
	runtime.KeepAlive(opts)
	if err := fail("put", what, st); err != nil {
		return err
	}
	if err := wait(ctx, "put", what, pending); err != nil {
		return err
	}
	var code uint32
	return kvFail("put", what, abi.KVInsertWait(pending, &code), code, opts.Mode == Add)
}

func (p *Put) config() (mask uint32, c abi.KVInsertConfig) {
	c.Mode = uint32(p.Mode)
	if p.Metadata != "" {
		mask |= abi.KVMetadata
		c.Metadata, c.MetadataLen = abi.PtrTo(p.Metadata), uint32(len(p.Metadata))
	}
	if p.TTL > 0 {
		mask |= abi.KVTTL
		c.TTLSeconds = uint32((p.TTL + time.Second - 1) / time.Second)
	}
	if p.IfGeneration != 0 {
		mask |= abi.KVIfGeneration
		c.IfGeneration = p.IfGeneration
	}
	return mask, c
}

// Delete removes key. Removing what is not there is no error.
func (s *KV) Delete(ctx context.Context, key string) error {
	what := s.name + " " + key
	var pending abi.Handle
	var none abi.KVNothing
	if err := fail("delete", what, abi.KVDelete(s.h, key, 0, &none, &pending)); err != nil {
		return err
	}
	if err := wait(ctx, "delete", what, pending); err != nil {
		return err
	}
	var code uint32
	st := abi.KVDeleteWait(pending, &code)
	if st == abi.OK && code == abi.KVNotFound {
		return nil
	}
	return kvFail("delete", what, st, code, false)
}

// List asks for a page of a store's keys, in byte order.
type List struct {
	Prefix   string
	Limit    int    // 1 to 1,000; 0: 1,000
	Cursor   string // Next of the page before; "": from the start
	Eventual bool   // faster, may miss writes of the last seconds
}

// Page is a part of a listing.
type Page struct {
	Keys []string
	Next string // "": this was the last page
}

// List returns one page of keys.
func (s *KV) List(ctx context.Context, l List) (*Page, error) {
	mask, config := l.config()
	var pending abi.Handle
	st := abi.KVList(s.h, mask, &config, &pending)
	runtime.KeepAlive(l)
	if err := fail("list", s.name, st); err != nil {
		return nil, err
	}
	if err := wait(ctx, "list", s.name, pending); err != nil {
		return nil, err
	}
	body := abi.Invalid
	var code uint32
	if err := kvFail("list", s.name, abi.KVListWait(pending, &body, &code), code, false); err != nil {
		return nil, err
	}
	b := &host.Body{H: body, Ctx: ctx}
	defer b.Close()
	text, err := io.ReadAll(b)
	if err != nil {
		return nil, &Error{"list", s.name, err}
	}
	return parsePage(s.name, text)
}

func parsePage(name string, text []byte) (*Page, error) {
	p := &Page{}
	err := jsonscan.Scan(text, func(path, value string) {
		switch path {
		case "data":
			p.Keys = append(p.Keys, value)
		case "meta.next_cursor":
			p.Next = value
		}
	})
	if err != nil {
		return nil, &Error{"list", name, err}
	}
	return p, nil
}

func (l *List) config() (mask uint32, c abi.KVListConfig) {
	if l.Eventual {
		c.Mode = 1
	}
	if l.Prefix != "" {
		mask |= abi.KVPrefix
		c.Prefix, c.PrefixLen = abi.PtrTo(l.Prefix), uint32(len(l.Prefix))
	}
	if l.Limit > 0 {
		mask |= abi.KVLimit
		c.Limit = uint32(l.Limit)
	}
	if l.Cursor != "" {
		mask |= abi.KVCursor
		c.Cursor, c.CursorLen = abi.PtrTo(l.Cursor), uint32(len(l.Cursor))
	}
	return mask, c
}

// Keys ranges over all keys with the prefix, page by page: for key, err := range s.Keys(ctx, "user/").
func (s *KV) Keys(ctx context.Context, prefix string) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		l := List{Prefix: prefix}
		for {
			page, err := s.List(ctx, l)
			if err != nil {
				yield("", err)
				return
			}
			for _, k := range page.Keys {
				if !yield(k, nil) {
					return
				}
			}
			if l.Cursor = page.Next; l.Cursor == "" {
				return
			}
		}
	}
}

// kvFail makes an error of a call's status and the store's own code.
func kvFail(op, what string, st abi.Status, code uint32, adding bool) error {
	if st != abi.OK {
		return fail(op, what, st)
	}
	var err error
	switch code {
	case abi.KVOK:
		return nil
	case abi.KVBadRequest:
		err = fs.ErrInvalid
	case abi.KVNotFound:
		err = fs.ErrNotExist
	case abi.KVPrecondition:
		err = ErrConflict
		if adding {
			err = fs.ErrExist
		}
	case abi.KVTooLarge:
		err = ErrTooLarge
	case abi.KVTooMany:
		err = ErrTooMany
	default:
		err = storeCode(code)
	}
	return &Error{op, what, err}
}

// storeCode is a failure of the store that has no name here.
type storeCode uint32

func (c storeCode) Error() string { return "store failed with code " + strconv.Itoa(int(c)) }
