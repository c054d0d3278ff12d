package cache

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"
)

func someFacts() *facts {
	return &facts{
		service: "shop", vary: "accept", variant: "accept=x\n", status: 206, part: &part{3, 8, 20},
		asked: time.Unix(5, 6000), came: time.Unix(7, 8000), age: 1, lifetime: 2, swr: 3 * time.Second, sie: 4 * time.Second, noStale: true,
		keys: []string{"a", "b"}, header: http.Header{"Etag": {`"x"`}, "Surrogate-Key": {"a b"}, "X": {"1", "2", ""}, "Content-Range": {"bytes 3-7/20"}},
		trailer: []string{"T"}, metadata: []byte("m"),
	}
}

func someObject() *object {
	body := newSpool(false)
	_ = body.write([]byte("01234"))
	body.finish(http.Header{"T": {"t"}})
	return someFacts().object(body)
}

func TestMeta(t *testing.T) {
	want := someFacts()
	if f := someObject().facts(); !reflect.DeepEqual(&f, want) {
		t.Errorf("%+v", f)
	}
	got, trailer, sums, err := parseMeta(appendMeta(nil, someObject(), "shop", []uint32{7}), 5)
	if err != nil {
		t.Fatal(err)
	}
	if trailer.Get("T") != "t" || len(sums) != 1 || sums[0] != 7 || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v %+v", trailer, sums, got)
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(appendMeta(nil, someObject(), "shop", []uint32{7}), int64(5))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 || size > maxBody {
			return
		}
		var before []byte
		for range 2 { // the first time it may become normal
			about, trailer, sums, err := parseMeta(b, size)
			if err != nil {
				if before != nil {
					t.Fatal(err)
				}
				return
			}
			before, b = b, appendMeta(nil, about.object(lyingBody(&lying{size: size}, trailer)), about.service, sums)
		}
		if !bytes.Equal(before, b) {
			t.Errorf("%q\n%q", before, b)
		}
	})
}

// FuzzFields: what is written down is read back, whatever it is, and a hit says the same as net/http.
func FuzzFields(f *testing.F) {
	f.Add("Content-Length: 5\r\nCache-Status: a\r\nZ: 1\r\n", "A", "1\r\nB: 2")
	f.Fuzz(func(t *testing.T, lines, name, value string) {
		h, ok := parseFields(lines)
		if !ok {
			return
		}
		h[name] = append(h[name], value)
		packed := packFields(h)
		if packed.long() {
			return
		}
		back, ok := parseFields(packed.lines)
		if !ok || !reflect.DeepEqual(back, packed.header()) {
			t.Fatalf("%q: %v", packed.lines, back)
		}
		if again := packFields(back); again != packed {
			t.Fatalf("%+v\n%+v", packed, again)
		}
		for name := range back {
			if name == "Age" || http.CanonicalHeaderKey(name) != name {
				return // objects have no Age, and who reads the head would put other names beside these
			}
		}
		head := packed.append(nil, &hitHead{status: 200, cache: "Wedge", ttl: time.Minute, length: 5})
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
		if err != nil {
			return // a field that makes the message another one: see renders
		}
		ttl := time.Minute
		(&outcome{hit: true, ttl: &ttl}).append(back, "Wedge")
		back["Age"], back["Content-Length"] = []string{"0"}, []string{"5"}
		for _, name := range Inward {
			delete(back, name)
		}
		for name, values := range back {
			if got := resp.Header[name]; !hopByHop[name] && !slices.Equal(got, values) {
				t.Errorf("%s: %q, not %q\n%q", name, got, values, head)
			}
		}
	})
}

func FuzzHead(f *testing.F) {
	h := head{at: placeOf(3, 96), meta: 20, body: 5, key: key{1}, variant: 4, seq: 9, metaSum: 8}
	h.bodyAt = h.own()
	b := make([]byte, headSize)
	h.put(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headSize { // or nothing would get past the checksum
			copy(b, headMagic[:])
			checksummed(b[:headSize])
		}
		h, err := parseHead(b, placeOf(3, 96))
		if err != nil {
			return
		}
		if n := h.size(); n < headSize || n > headSize+maxMeta+maxBody {
			t.Errorf("%d bytes", n)
		}
		again := make([]byte, headSize)
		h.put(again)
		if h2, err := parseHead(again, h.at); err != nil || h2 != h {
			t.Errorf("%+v, %+v, %v", h, h2, err)
		}
	})
}

func checksummed(b []byte) {
	sum := checksum(b[:len(b)-4])
	b[len(b)-4], b[len(b)-3], b[len(b)-2], b[len(b)-1] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
}

func FuzzJournal(f *testing.F) {
	b := []byte(journalMagic)
	for _, p := range []noted{{kind: notedNames, n: 1, service: "shop", keys: []string{"a", ""}}, {kind: notedKey, soft: true, n: 2, print: 77}, {kind: notedLast, n: 3}} {
		b = append(b, p.frame()...)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		all := []byte(journalMagic)
		good, err := parseJournal(b, func(p *noted) { all = append(all, p.frame()...) })
		if err == nil && (good > int64(len(b)) || good < int64(len(journalMagic))) {
			t.Errorf("%d of %d bytes are good", good, len(b))
		}
		if n, err := parseJournal(all, func(*noted) {}); err != nil || n != int64(len(all)) {
			t.Errorf("what was read cannot be written: %v", err)
		}
		p, ok := parseNoted(b)
		if ok && p.kind > notedLast {
			t.Error(p)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	d := newDisk(directory(f.TempDir()), 1<<20, slog.New(slog.DiscardHandler), &Stats{})
	d.segs = []*segment{{id: 1, size: 500, minSeq: 3}}
	d.index.put(slot{print: 5, at: placeOf(1, 0), size: 300, variant: 2})
	d.index.put(slot{print: 5, at: placeOf(1, 300), size: 200, variant: 3})
	f.Add(d.encodeCheckpoint(9))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 12 {
			copy(b, checkpointMagic)
			checksummed(b)
		}
		segs, slots, _, err := parseCheckpoint(b)
		if err != nil {
			return
		}
		x := index{heads: map[uint64]uint32{}}
		for _, s := range slots {
			x.load(s)
		}
		for id := range segs {
			x.drop(id)
		}
		if x.used != 0 || x.live != 0 || len(x.heads) != 0 {
			t.Errorf("%d slots are left, %d of them live", x.used, x.live)
		}
	})
}

// unsynced saves the time that flushing takes.
type unsynced struct{ directory }

type unsyncedFile struct{ file }

func (unsynced) sync() error     { return nil }
func (unsyncedFile) Sync() error { return nil }

func (u unsynced) create(name string) (file, error) {
	f, err := u.directory.create(name)
	return unsyncedFile{f}, err
}

// FuzzSegment: whatever a segment file is, opening and reading it does no harm.
func FuzzSegment(f *testing.F) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=3600")}
	dir := f.TempDir()
	c := newLab(o, Config{Dir: dir, Disk: megabytes})
	for _, url := range []string{page, page + "2"} {
		get(c, context.Background(), url)
	}
	rest(c)
	seed, err := os.ReadFile(dir + "/" + segmentName(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, true)
	f.Add(seed, false)
	f.Fuzz(func(t *testing.T, b []byte, sums bool) {
		if sums { // let what is behind the head's checksum, and the meta's, be seen
			for at := 0; at+headSize <= len(b); {
				h, _ := parseHead(b[at:], placeOf(1, int64(at)))
				if h.meta > 0 && at+headSize+h.meta <= len(b) {
					h.metaSum = checksum(b[at+headSize : at+headSize+h.meta])
					h.put(b[at:])
				}
				at += int(max(headSize, h.size()))
			}
		}
		dir := t.TempDir()
		newLab(away(), Config{files: unsynced{directory(dir)}, Disk: megabytes}).disk.forgetAll()
		if err := os.WriteFile(dir+"/"+segmentName(1), b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := newLab(away(), Config{files: unsynced{directory(dir)}, Disk: megabytes, Log: slog.New(slog.DiscardHandler)})
		for _, url := range []string{page, page + "2"} {
			if g := get(c, context.Background(), url); g.err == nil && !sums && g.body != "answer 1" && g.body != "answer 2" {
				t.Errorf("%q", g.body)
			}
		}
		_ = c.Close()
	})
}
