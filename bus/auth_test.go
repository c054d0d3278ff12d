package bus

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// TestPasses: a PoP gets in with its pass alone, and does in its own name what PoPs do; everything else is refused.
func TestPasses(t *testing.T) {
	dir := t.TempDir()
	keys, err := OpenKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	core, err := OpenCore(CoreConfig{Dir: filepath.Join(dir, "log"), Listen: "127.0.0.1:0", Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	member := func(name string, sign func(public string) (string, error)) *Member {
		t.Helper()
		m, err := OpenMember(filepath.Join(dir, name+".nk"))
		if err != nil {
			t.Fatal(err)
		}
		pass, err := sign(m.Public())
		if err != nil {
			t.Fatal(err)
		}
		m.Carry(pass)
		return m
	}
	link := func(name string, m *Member) *Link {
		t.Helper()
		dial := func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", core.Addr())
		}
		l, err := Connect(LinkConfig{Name: name, PoP: name, Dial: dial, Member: m, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return l
	}
	catalog := &Log{Name: "CATALOG", Core: true}
	own := link("", member("core", keys.CorePass))
	for _, g := range []*Log{ops, catalog} {
		if err := own.Keep(t.Context(), g, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(own.KeepShelf(t.Context(), things, 1), own.Put(t.Context(), things, "a", []byte("thing"))); err != nil {
		t.Fatal(err)
	}
	popPass := func(name string) func(string) (string, error) {
		return func(public string) (string, error) {
			return keys.Pass(name, public, []*Log{ops, catalog}, []*Shelf{things}, nil)
		}
	}
	lhrMember := member("lhr", popPass("lhr"))
	lhr, nrt := link("lhr", lhrMember), link("nrt", member("nrt", popPass("nrt")))

	// What a PoP does.
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	b, r := newBox(), &reader{}
	b.add("1", "2")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = lhr.Pump(ctx, ops, "lhr.0001", b, nil)
	}()
	f := r.follower()
	followed, enough := context.WithCancel(ctx)
	take := f.Entry
	f.Entry = func(e wedge.Entry) error {
		err := take(e)
		if r.count() == 2 {
			enough()
		}
		return err
	}
	_ = nrt.Follow(followed, ops, 1, f)
	if strings.Join(r.items, ",") != "lhr.0001 1 1,lhr.0001 2 2" {
		t.Fatalf("nrt has read %q", r.items)
	}
	if _, err := nrt.Append(ctx, ops, "nrt.0001", 0, []byte("x")); err != nil {
		t.Error(err)
	}

	if b, err := nrt.Get(ctx, things, "a"); err != nil || string(b) != "thing" {
		t.Errorf("took %q, %v", b, err)
	}

	// What it may not.
	short, stopShort := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stopShort()
	for what, try := range map[string]func(context.Context) error{
		"another's name": func(ctx context.Context) error {
			_, err := nrt.Append(ctx, ops, "lhr.0001", 1, []byte("forged"))
			return err
		},
		"the catalog": func(ctx context.Context) error {
			_, err := nrt.Append(ctx, catalog, "control", 0, []byte("forged"))
			return err
		},
		"a shelf":         func(ctx context.Context) error { return nrt.Put(ctx, things, "a", []byte("forged")) },
		"a shelf's thing": func(ctx context.Context) error { return nrt.Drop(ctx, things, "a") },
		"a log's removal": func(ctx context.Context) error {
			return nrt.askAPI(ctx, "STREAM.DELETE.OPS", struct{}{}, new(struct{}))
		},
	} {
		if try(short) == nil {
			t.Errorf("%s: allowed", what)
		}
	}
	heard := make(chan string, 10)
	for _, subject := range []string{"pop.*", "_INBOX_lhr.>"} {
		if stop, err := nrt.Hear(subject, func(s string, _ []byte) { heard <- s }); err == nil {
			defer stop()
		}
	}
	time.Sleep(50 * time.Millisecond)
	_ = nrt.Say("pop.lhr", []byte("forged"))
	_ = own.Say("_INBOX_lhr.x", []byte("secret"))
	_ = nrt.Say("pop.nrt", []byte("own"))
	if got := <-heard; got != "pop.nrt" {
		t.Errorf("heard %s", got)
	}

	// Who has no pass, one of another fleet, or one that is of no use any more, does not get in.
	others, err := OpenKeys(filepath.Join(dir, "other-keys"))
	if err != nil {
		t.Fatal(err)
	}
	none := link("xyz", nil)
	foreign := link("abc", member("abc", func(public string) (string, error) { return others.Pass("abc", public, []*Log{ops}, nil, nil) }))
	if err := core.Expel([]string{lhrMember.Public()}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); lhr.Up() && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(600 * time.Millisecond) // each has tried again
	for name, l := range map[string]*Link{"no pass": none, "foreign": foreign, "expelled": lhr} {
		if l.nc.IsConnected() {
			t.Errorf("%s: connected", name)
		}
	}
	if !nrt.nc.IsConnected() {
		t.Error("a member was cut off with another")
	}
	stop()
	<-done
}
