package node

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/state"
)

var countEach = &wedge.Collect{Name: "each", Window: time.Second, Sample: 1, Series: wedge.MaxCollectSeries, ID: "id", By: []string{"id"}}

const collectDir = "WEDGE_TEST_COLLECT" // where a child collects until it is killed

func openCollect(t *testing.T, dir string) (*state.KV, *collecting) {
	t.Helper()
	kv, err := state.Open(dir, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCollecting("fra", "fra.1", kv, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return kv, c
}

// TestCollectChild is the child of TestCollectKilled: it says which events it has answered, and goes on.
func TestCollectChild(t *testing.T) {
	dir := os.Getenv(collectDir)
	if dir == "" {
		t.Skip("not a child")
	}
	_, c := openCollect(t, dir)
	began := time.Now()
	c.now = func() time.Time { return began.Add(20 * time.Since(began)) } // many windows end
	go func() { _ = c.run(t.Context()) }()
	var mu sync.Mutex
	var w sync.WaitGroup
	for worker := range 8 {
		w.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
				if err := c.collected(t.Context(), "shop", countEach, []collect.Event{{"id": id}}); err != nil {
					return
				}
				mu.Lock()
				fmt.Println("kept " + id)
				mu.Unlock()
			}
		})
	}
	w.Wait()
}

// collectUntilKilled runs a child, kills it once it has answered so many, and returns what it has.
func collectUntilKilled(t *testing.T, dir string, n int) (kept []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCollectChild$", "-test.timeout=20s")
	cmd.Env = append(os.Environ(), collectDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "kept "); ok {
			kept = append(kept, id)
		}
		if len(kept) == n {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if len(kept) < n {
		t.Fatalf("the child answered %d events", len(kept))
	}
	return kept
}

// TestCollectKilled: what was answered is in the result once, however often the process is killed, and items come twice.
func TestCollectKilled(t *testing.T) {
	dir := t.TempDir()
	var kept []string
	for _, n := range []int{200, 2500, 1500} {
		kept = append(kept, collectUntilKilled(t, dir, n)...)
	}
	kv, c := openCollect(t, dir)
	defer kv.Close()
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	items, err := c.box.Next(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	results := collect.NewResults()
	for range 2 {
		results.Take(1, "fra.1", 1, items)
	}
	counts := map[string]float64{}
	for _, row := range results.Ask(collect.Query{Service: "shop", Name: "each", To: time.Now().Add(time.Hour), By: []string{"id"}}).Rows {
		if counts[row.Values[0]] = row.Count; row.Count != 1 {
			t.Errorf("%s: %v times", row.Values[0], row.Count)
		}
	}
	for _, id := range kept {
		if counts[id] != 1 {
			t.Fatalf("%s: %v times, of %d answered in %d items", id, counts[id], len(kept), len(items))
		}
	}
	if len(items) < 3 {
		t.Errorf("only %d windows have ended", len(items))
	}
	t.Log(strconv.Itoa(len(kept))+" answered,", len(counts), "counted,", len(items), "items")
}

// TestCollectAgain: an event that is sent again counts once, though its window has ended.
func TestCollectAgain(t *testing.T) {
	kv, err := state.Open(t.TempDir(), state.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	c, err := openCollecting("fra", "fra.1", kv, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	send := func(id string) error {
		b := &beacon{windows: collect.Take("shop", "fra", countEach, []collect.Event{{"id": id}}, time.Now(), nil), done: make(chan error, 1)}
		c.commit(b)
		return <-b.done
	}
	for _, id := range []string{"a", "b", "a"} {
		if err := send(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	if err := send("b"); err != nil {
		t.Fatal(err)
	}
	if len(c.open) != 0 || c.taken.Load() != 2 || c.again.Load() != 2 {
		t.Errorf("%d open, %d taken, %d again", len(c.open), c.taken.Load(), c.again.Load())
	}
}

// TestCollectReads: the core is asked the same once within a second, and no more than so often by a service; what it said is good while it cannot be asked.
func TestCollectReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, down := 0, false
		c := &collectReads{to: &collecting{}, now: time.Now, asking: make(chan struct{}, extractAsked), kept: map[string]*keptExtract{}, ask: func(context.Context, []byte) ([]byte, error) {
			if asked++; down {
				return nil, &wedge.Error{Kind: wedge.Unavailable}
			}
			x := collect.Extract{Done: uint64(asked)}
			return x.Encode(), nil
		}}
		read := func(text string) (uint64, time.Duration, error) {
			x, at, err := c.fromCore(t.Context(), &collect.Query{Service: "shop", Name: "rum"}, text)
			return x.Done, time.Since(at), err
		}
		for range 3 {
			if done, age, err := read("a"); done != 1 || age != 0 || err != nil || asked != 1 {
				t.Fatal(done, age, err, asked)
			}
		}
		time.Sleep(extractFresh)
		if done, _, err := read("a"); done != 2 || err != nil {
			t.Error(done, err)
		}
		down = true
		time.Sleep(3 * time.Second)
		if done, age, err := read("a"); done != 2 || age != 3*time.Second || err != nil {
			t.Error(done, age, err)
		}
		time.Sleep(time.Second)
		for i := range 2 * maxExtracts {
			_, _, err := read(strconv.Itoa(i))
			if (err != nil) != (i >= extractEach) || err != nil && wedge.KindOf(err) != wedge.Exhausted {
				t.Fatal(i, err)
			}
		}
		if len(c.kept) > maxExtracts {
			t.Errorf("%d are kept", len(c.kept))
		}
	})
}
