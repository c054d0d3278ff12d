package hostcall

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var kvStore = calls{
	"open":           kvOpen,
	"lookup":         kvLookup,
	"lookup_wait":    kvLookupWait,
	"lookup_wait_v2": kvLookupWaitV2,
	"insert":         kvInsert,
	"insert_wait":    kvInsertWait,
	"delete":         kvDelete,
	"delete_wait":    kvDeleteWait,
	"list":           kvList,
	"list_wait":      kvListWait,
}

// kv_error of the ABI.
const (
	kvOK                 = 1
	kvBadRequest         = 2
	kvNotFound           = 3
	kvPreconditionFailed = 4
	kvPayloadTooLarge    = 5
	kvInternalError      = 6
	kvTooManyRequests    = 7
)

// Masks and options of the ABI.
const (
	kvReserved = 1 << 0

	kvBackgroundFetch = 1 << 1
	kvReserved2       = 1 << 2
	kvMetadata        = 1 << 3
	kvTTL             = 1 << 4
	kvIfGeneration    = 1 << 5
	kvInsertMask      = 1<<6 - 1

	kvCursor   = 1 << 1
	kvLimit    = 1 << 2
	kvPrefix   = 1 << 3
	kvListMask = 1<<4 - 1

	kvMaxList = 1000
)

func kvOpen(c *compute.Call) abi.Status {
	name := c.Text(0)
	if kv := c.Sandbox.Host.KV; kv == nil || !kv.Has(name) {
		return abi.Inval
	}
	return putHandle(c, &ex(c).kvStores, 2, name)
}

// storeArg returns the name of the store that word 0 names.
func storeArg(c *compute.Call) string {
	name, ok := ex(c).kvStores.get(c.U32(0))
	if !ok {
		c.Fail(abi.BadHandle)
	}
	return name
}

// keyArg reads the key at words 1 and 2; a bad one ends the call with inval.
func keyArg(c *compute.Call) string {
	if c.U32(2) > wedge.MaxKVKey {
		c.Fail(abi.Inval)
	}
	key := c.Text(1)
	if !validKVKey(key) {
		c.Fail(abi.Inval)
	}
	return key
}

// validKVKey tells whether a store takes the key (ABI section 7.6).
func validKVKey(key string) bool {
	if key == "" || len(key) > wedge.MaxKVKey || !utf8.ValidString(key) ||
		strings.ContainsAny(key, "\r\n#;?^|") || strings.HasPrefix(key, ".well-known/acme-challenge") {
		return false
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// maskArg returns the mask at word i; bits beyond known end the call with inval.
func maskArg(c *compute.Call, i int, known uint32) uint32 {
	if c.U32(i)&^known != 0 {
		c.Fail(abi.Inval)
	}
	return c.U32(i)
}

// kvError returns the kv_error that stands for err.
func kvError(err error) uint32 {
	if err == nil {
		return kvOK
	}
	if errors.Is(err, errTooLarge) {
		return kvPayloadTooLarge
	}
	switch wedge.KindOf(err) {
	case wedge.NotExist:
		return kvNotFound
	case wedge.Exist, wedge.Conflict:
		return kvPreconditionFailed
	case wedge.Invalid:
		return kvBadRequest
	case wedge.Exhausted:
		return kvTooManyRequests
	}
	return kvInternalError
}

// Pending operations, each a type of its own so that one kind's wait refuses another's handle.
type (
	pendingLookup struct{ *future[wedge.KVValue] }
	pendingInsert struct{ *future[struct{}] }
	pendingDelete struct{ *future[struct{}] }
	pendingList   struct{ *future[[]byte] }
)

// kvParallel is how many KV operations of one sandbox run at a time. What they bring is
// counted only when it is there, so this bounds what is not counted yet.
const kvParallel = 4

// errNoRoom says that a result did not fit the sandbox's account.
var errNoRoom = errors.New("the sandbox's limit of buffered bytes is reached")

// startKV runs f, which does op, in the background once the sandbox's earlier writes of that key
// are over and one of its turns is free.
func startKV[T any](e *exec, op kvOp, f func(context.Context) (T, error)) *future[T] {
	if e.kvTurns == nil {
		e.kvTurns = make(chan struct{}, kvParallel)
	}
	turns, before := e.kvTurns, e.kvOrder.before(op.kvKey)
	var written chan struct{}
	if op.write {
		written = e.kvOrder.write(op.kvKey)
	}
	return start(e, func(ctx context.Context) (v T, err error) {
		if written != nil {
			defer close(written)
		}
		if err := await(ctx, before, turns); err != nil {
			if op.skip != nil {
				op.skip()
			}
			return v, err
		}
		defer func() { <-turns }()
		return f(ctx)
	})
}

// await waits for earlier writes and then takes a turn; without one before, for they need them.
func await(ctx context.Context, before []<-chan struct{}, turns chan<- struct{}) error {
	for _, w := range before {
		select {
		case <-w:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	select {
	case turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startLookup begins to get a key. The value counts against the sandbox until it is taken.
func startLookup(e *exec, store, key string) *future[wedge.KVValue] {
	kv, acc := e.host.KV, &e.account
	return startKV(e, kvOp{kvKey: kvKey{store, key}}, func(ctx context.Context) (wedge.KVValue, error) {
		v, err := kv.Get(ctx, store, key)
		if err == nil && !acc.hold(len(v.Value)) {
			return wedge.KVValue{}, errNoRoom
		}
		return v, err
	})
}

// valueBody turns the value of a lookup into a body and opens a handle for it.
func valueBody(c *compute.Call, v wedge.KVValue) uint32 {
	ex(c).account.release(len(v.Value)) // the body counts it from here on
	return putBody(c, newBody(v.Value))
}

func kvLookup(c *compute.Call) abi.Status {
	store, key := storeArg(c), keyArg(c)
	maskArg(c, 3, kvReserved)
	c.Read(c.U32(5), 4)
	c.PutU32(c.U32(5), putItem(c, pendingLookup{startLookup(ex(c), store, key)}))
	return abi.OK
}

func kvLookupWait(c *compute.Call) abi.Status {
	c.Read(c.U32(5), 4)
	return lookupWait(c, func(uint64) { c.PutU32(c.U32(5), 0) }) // a generation does not fit 32 bits
}

func kvLookupWaitV2(c *compute.Call) abi.Status {
	c.Read(c.U32(5), 8)
	return lookupWait(c, func(generation uint64) { c.PutU64(c.U32(5), generation) })
}

// lookupWait: handle, *body, metadata buffer, *nwritten, *generation, *kv_error. When the buffer
// is short the handle stays, so that the guest can ask again.
func lookupWait(c *compute.Call, putGeneration func(uint64)) abi.Status {
	p := getItem[pendingLookup](c, c.U32(0))
	for _, word := range [...]int{1, 4, 6} {
		c.Read(c.U32(word), 4)
	}
	c.Read(c.U32(2), c.U32(3))
	v, err := p.wait(c)
	if err == errNoRoom {
		ex(c).items.take(c.U32(0))
		return abi.LimitExceeded
	}
	if err != nil {
		ex(c).items.take(c.U32(0))
		c.PutU32(c.U32(4), 0)
		c.PutU32(c.U32(6), kvError(err))
		return abi.OK
	}
	if s := c.PutBuf(2, 4, v.Metadata); s != abi.OK {
		return s
	}
	ex(c).items.take(c.U32(0))
	c.PutU32(c.U32(1), valueBody(c, v))
	putGeneration(v.Generation)
	c.PutU32(c.U32(6), kvOK)
	return abi.OK
}

func kvInsert(c *compute.Call) abi.Status {
	store, put := storeArg(c), wedge.KVPut{Key: keyArg(c)}
	readInsertConfig(c, &put)
	c.Read(c.U32(6), 4)
	c.PutU32(c.U32(6), putItem(c, pendingInsert{startInsert(ex(c), store, put, takeBody(c, c.U32(3)))}))
	return abi.OK
}

// readInsertConfig reads the mask at word 4 and the fields of kv_insert_config at word 5 that it names.
func readInsertConfig(c *compute.Call, put *wedge.KVPut) {
	mask, at := maskArg(c, 4, kvInsertMask), c.U32(5)
	if mask == 0 && at == 0 {
		return
	}
	mode := c.ReadU32(at)
	if mode > uint32(wedge.KVPrepend) {
		c.Fail(abi.Inval)
	}
	put.Mode = wedge.KVMode(mode)
	if mask&kvMetadata != 0 {
		n := c.ReadU32(at + 12)
		if n == 0 || n > wedge.MaxKVMetadata {
			c.Fail(abi.Inval)
		}
		metadata := string(c.Read(c.ReadU32(at+8), n))
		put.Metadata = &metadata
	}
	if mask&kvTTL != 0 {
		seconds := c.ReadU32(at + 16)
		if seconds == 0 { // a key that expires at once, or never? nobody can mean it
			c.Fail(abi.Inval)
		}
		put.TTL = time.Duration(seconds) * time.Second
	}
	if mask&kvIfGeneration != 0 {
		generation := c.ReadU64(at + 24)
		put.IfGeneration = &generation
	}
}

// startInsert begins to write what b holds, which may still be on its way from a backend.
func startInsert(e *exec, store string, put wedge.KVPut, b *body) *future[struct{}] {
	kv := e.host.KV
	return startKV(e, kvOp{kvKey{store, put.Key}, true, b.leave}, func(ctx context.Context) (none struct{}, err error) {
		if put.Value, err = b.readAll(ctx, wedge.MaxKVValue); err != nil {
			return none, err
		}
		_, err = kv.Put(ctx, store, put)
		if wedge.KindOf(err) == wedge.Exhausted && err != nil {
			err = errors.Join(errTooLarge, err) // only the size of the value can be it
		}
		return none, err
	})
}

func kvInsertWait(c *compute.Call) abi.Status {
	p := getItem[pendingInsert](c, c.U32(0))
	c.Read(c.U32(1), 4)
	_, err := p.wait(c)
	ex(c).items.take(c.U32(0))
	c.PutU32(c.U32(1), kvError(err))
	return abi.OK
}

func kvDelete(c *compute.Call) abi.Status {
	store, key := storeArg(c), keyArg(c)
	maskArg(c, 3, kvReserved)
	c.Read(c.U32(5), 4)
	c.PutU32(c.U32(5), putItem(c, pendingDelete{startDelete(ex(c), store, key)}))
	return abi.OK
}

func startDelete(e *exec, store, key string) *future[struct{}] {
	kv := e.host.KV
	return startKV(e, kvOp{kvKey{store, key}, true, nil}, func(ctx context.Context) (struct{}, error) { return struct{}{}, kv.Delete(ctx, store, key) })
}

// kvDeleteWait counts the deletion of an absent key as done, as SDKs expect.
func kvDeleteWait(c *compute.Call) abi.Status {
	p := getItem[pendingDelete](c, c.U32(0))
	c.Read(c.U32(1), 4)
	_, err := p.wait(c)
	ex(c).items.take(c.U32(0))
	if err != nil && wedge.KindOf(err) == wedge.NotExist {
		err = nil
	}
	c.PutU32(c.U32(1), kvError(err))
	return abi.OK
}
