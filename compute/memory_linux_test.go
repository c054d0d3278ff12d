//go:build !plainmem

package compute

import (
	"bytes"
	"context"
	"errors"
	"math/rand"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/wasm"
)

const plain = false

// withScans runs a test with each way to find dirty pages: the kernel's scan, the page map, and none.
func withScans(t *testing.T, test func(t *testing.T)) {
	t.Run("as the kernel offers", test)
	missing, open := scanMissing, pagemap
	defer func() { scanMissing, pagemap = missing, open }()
	scanMissing = func() bool { return true }
	t.Run("page map", test)
	pagemap = func() (*os.File, error) { return nil, errors.New("no /proc here") }
	t.Run("neither", test)
}

func TestFreshWithEachScan(t *testing.T) {
	withScans(t, func(t *testing.T) {
		e := newEngine(t, Config{})
		m := load(t, e, canary("image"), Options{Limits: canaryLimits})
		first, _ := serve(m, 0, 1<<30, endReturn, 0)
		for i := range int32(12) {
			got, err := serve(m, 100*(i%2), 4096<<(i%4), endReturn, 0)
			if err != nil || !slices.Equal(got[:len(first)], first) {
				t.Fatalf("run %d sees %v (%v), want %v", i, got, err, first)
			}
		}
		if n := e.stats.Created.Load(); n != 1 {
			t.Errorf("%d instances", n)
		}
	})
}

func testImage(t *testing.T, seed int64, data, pages, limit int) *image {
	t.Helper()
	b := make([]byte, data)
	rand.New(rand.NewSource(seed)).Read(b)
	img, err := newImage(wasm.Image{Data: b, MinPages: uint32(pages), MaxPages: 65536}, wedge.Limits{Memory: uint64(limit) * wasm.PageSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(img.release)
	return img
}

// TestMemoryModel does at random what instances do with a memory and compares it with a plain slice.
func TestMemoryModel(t *testing.T) {
	withScans(t, func(t *testing.T) {
		images := []*image{
			testImage(t, 1, 300_000, 8, 128),
			testImage(t, 2, 1, 1, 128),
			testImage(t, 3, 0, 0, 100),
			testImage(t, 4, 2_000_000, 40, 120),
			testImage(t, 5, 4096, 2, 2),
		}
		reg, err := newRegion(128 * wasm.PageSize)
		if err != nil {
			t.Fatal(err)
		}
		m := &memory{region: reg}
		defer m.Free()
		rnd := rand.New(rand.NewSource(7))
		var want []byte
		fresh := func(img *image) {
			want = make([]byte, img.size)
			copy(want, img.backing.bytes())
		}
		show := func(img *image) {
			if err := m.show(img); err != nil {
				t.Fatal(err)
			}
			fresh(img)
		}
		show(images[0])
		unscanned, resets := 0, 0
		for step := range 500 {
			switch rnd.Intn(12) {
			case 0:
				show(images[rnd.Intn(len(images))])
			case 1, 2, 3, 4:
				before := m.region.faults
				if err := m.reset(); err != nil {
					t.Fatal(err)
				}
				if resets++; before == m.region.faults && before >= 0 {
					unscanned++
				}
				fresh(m.image)
			case 5:
				size := uint64(rnd.Intn(130)) * wasm.PageSize
				if size < m.size {
					continue
				}
				got := m.Reallocate(size)
				if (got == nil) != (size > m.image.max) {
					t.Fatalf("step %d: growing to %d of %d gives %d bytes", step, size, m.image.max, len(got))
				}
				if got != nil {
					want = append(want, make([]byte, size-uint64(len(want)))...)
				}
			case 6: // so many pages that they are dropped
				for at := 0; at < len(want); at += page {
					m.bytes()[at], want[at] = 0xdd, 0xdd
				}
			default:
				for range rnd.Intn(20) {
					if len(want) > 0 {
						at := rnd.Intn(len(want)) &^ rnd.Intn(1<<16)
						m.bytes()[at], want[at] = 0xcc, 0xcc
					}
				}
			}
			if !bytes.Equal(m.bytes(), want) {
				t.Fatalf("step %d: the memory of %d bytes is not as expected", step, len(want))
			}
		}
		t.Logf("%d of %d resets without a scan", unscanned, resets)
	})
}

// TestResetWithoutScan: while the process has no page fault the list of the last scan is used, and is right.
func TestResetWithoutScan(t *testing.T) {
	img := testImage(t, 1, 100_000, 8, 16)
	reg, err := newRegion(16 * wasm.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{region: reg}
	defer m.Free()
	if err := m.show(img); err != nil {
		t.Fatal(err)
	}
	unscanned := 0
	for i := range 2000 {
		at := []int{5, 9000, 90_000, 400_000}[i%4]
		m.bytes()[at] = 1
		before := m.region.faults
		if err := m.reset(); err != nil {
			t.Fatal(err)
		}
		if before >= 0 && before == m.region.faults {
			unscanned++
		}
		want := byte(0)
		if at < 100_000 {
			want = img.backing.bytes()[at]
		}
		if m.bytes()[at] != want {
			t.Fatalf("round %d: byte %d is %d, want %d", i, at, m.bytes()[at], want)
		}
	}
	if unscanned < 100 {
		t.Errorf("only %d of 2000 resets needed no scan", unscanned)
	}
}

// TestImageCannotBeChanged: the file under all instances is sealed, and writes to one stay there.
func TestImageCannotBeChanged(t *testing.T) {
	img := testImage(t, 1, 10_000, 1, 1)
	var m [2]memory
	for i := range m {
		reg, err := newRegion(wasm.PageSize)
		if err != nil {
			t.Fatal(err)
		}
		m[i] = memory{region: reg}
		defer m[i].Free()
		if err := m[i].show(img); err != nil {
			t.Fatal(err)
		}
	}
	m[0].bytes()[100] ^= 0xff
	if m[0].bytes()[100] == m[1].bytes()[100] || m[1].bytes()[100] != img.backing.bytes()[100] {
		t.Error("a write in one memory is seen in another")
	}
	f := os.NewFile(uintptr(img.backing.fd), "image")
	if _, err := f.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the image can be written to")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("the image can be truncated")
	}
	img.backing.fd = -1 // f owns it now
	_ = f.Close()
}

// TestSparseImage: zeros between data cost no memory.
func TestSparseImage(t *testing.T) {
	data := make([]byte, 16<<20)
	data[0], data[len(data)-1] = 1, 2
	b, err := newBacking(data)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	var st unix.Stat_t
	if err := unix.Fstat(b.fd, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes are stored (%v)", st.Blocks*512, err)
	}
	if !bytes.Equal(b.bytes(), data) {
		t.Error("the image is not as given")
	}
}

// TestGuestMemoryIsNotTouchedByLoading: a large limit costs address space only.
func TestGuestMemoryIsNotTouchedByLoading(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Limits: wedge.Limits{Memory: 1 << 30}})
	if err := m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{0}}}); err != nil {
		t.Fatal(err)
	}
	m.code.mu.Lock()
	defer m.code.mu.Unlock()
	r := &m.code.idle[0].mem.region
	if r.high > 1<<20 || len(r.dirty) > 16 {
		t.Errorf("high %d, %d dirty spans", r.high, len(r.dirty))
	}
}
