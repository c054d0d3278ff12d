package hostcall

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
)

// slowKV is a store whose writes take until they are let go.
type slowKV struct {
	compute.KV
	release chan struct{}
	values  map[string]string // touched by one operation at a time in this test
}

func (k *slowKV) Put(ctx context.Context, _ string, put wedge.KVPut) (uint64, error) {
	select {
	case <-k.release:
		k.values[put.Key] = string(put.Value)
		return 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (k *slowKV) Get(_ context.Context, _, key string) (wedge.KVValue, error) {
	if v, ok := k.values[key]; ok {
		return wedge.KVValue{Value: []byte(v)}, nil
	}
	return wedge.KVValue{}, &wedge.Error{Kind: wedge.NotExist}
}

// TestKVOrder: a guest that does not wait for its write sees it all the same, and one that
// ends without waiting does not lose it.
func TestKVOrder(t *testing.T) {
	kv := &slowKV{release: make(chan struct{}), values: map[string]string{"other": "there"}}
	host := testHost(nil)
	host.KV = kv
	e := newExec(context.Background(), host, wedge.Limits{})
	startInsert(e, "s", wedge.KVPut{Key: "k", Value: nil}, newBody([]byte("written")))
	if v, err := wait(startLookup(e, "s", "other")); string(v.Value) != "there" || err != nil {
		t.Fatalf("another key gives %q, %v", v.Value, err)
	}
	got := startLookup(e, "s", "k")
	time.AfterFunc(10*time.Millisecond, func() { close(kv.release) })
	if v, err := wait(got); string(v.Value) != "written" || err != nil {
		t.Errorf("the lookup after the write gives %q, %v", v.Value, err)
	}

	kv.release = make(chan struct{})
	e.items.put(pendingInsert{startInsert(e, "s", wedge.KVPut{Key: "late"}, newBody([]byte("kept")))})
	time.AfterFunc(10*time.Millisecond, func() { close(kv.release) })
	e.end(nil)
	if kv.values["late"] != "kept" {
		t.Error("the write that the guest did not wait for is lost")
	}
}

// TestKVSkipped: a write that never had its turn lets go of its body's source.
func TestKVSkipped(t *testing.T) {
	kv := &slowKV{release: make(chan struct{}), values: map[string]string{}}
	host := testHost(nil)
	host.KV = kv
	e := newExec(context.Background(), host, wedge.Limits{})
	startInsert(e, "s", wedge.KVPut{Key: "k"}, newBody([]byte("first")))
	src := &closeCounter{}
	second := startInsert(e, "s", wedge.KVPut{Key: "k"}, newStreamBody(newStream(src, -1, nil)))
	e.end(errors.New("trap"))
	if _, err := wait(second); err == nil {
		t.Error("the write of a guest that trapped went through")
	}
	if src.closed.Load() != 1 {
		t.Errorf("the body's source was closed %d times", src.closed.Load())
	}
}

func wait[T any](f *future[T]) (T, error) {
	for !f.ready() {
		time.Sleep(time.Millisecond)
	}
	return f.result()
}

// closeCounter is a source that has nothing and counts how often it is closed.
type closeCounter struct{ closed atomic.Int32 }

func (c *closeCounter) Read([]byte) (int, error) { return 0, io.EOF }
func (c *closeCounter) Close() error             { c.closed.Add(1); return nil }
