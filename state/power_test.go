package state

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wedge-cloud/wedge"
)

// powerWriter writes to keys of its own until it is stopped or refused.
type powerWriter struct {
	name string
	s    *Stores
	next int

	mu     sync.Mutex
	held   map[[2]string]string // by store and key, what was acknowledged; "": it is gone
	doing  [2]string            // the key of the write under way
	will   string               // what it will hold
	before *powerWriter         // as it was when the power went
}

func (w *powerWriter) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		w.next++
		at, value := [2]string{[]string{"local", "merged"}[rand.IntN(2)], w.name + "/" + strconv.Itoa(rand.IntN(12))}, ""
		if rand.IntN(8) > 0 { // some are large, and lie apart
			value = fmt.Sprintf("%s-%d.", w.name, w.next) + strings.Repeat(" ", rand.IntN(3)*1500)
		}
		w.mu.Lock()
		w.doing, w.will = at, value
		w.mu.Unlock()
		var err error
		if value == "" {
			err = w.s.Delete(bg, at[0], at[1])
		} else {
			_, err = w.s.Put(bg, at[0], wedge.KVPut{Key: at[1], Value: []byte(value)})
		}
		if err != nil && wedge.KindOf(err) != wedge.NotExist { // the machine is off
			return
		}
		w.mu.Lock()
		w.held[at], w.doing = value, [2]string{}
		w.mu.Unlock()
	}
}

// TestPowerLoss: when a machine's power goes, with whatever the disk was not made to keep, all that was acknowledged is there, and what is shared is
// in the outbox for the others.
func TestPowerLoss(t *testing.T) {
	for _, kept := range []int{0, 30, 80} { // per cent of what was not synced
		disk := vfs.NewCrashableMem()
		writers := []*powerWriter{}
		for i := range 4 {
			writers = append(writers, &powerWriter{name: fmt.Sprint("w", i), held: map[[2]string]string{}})
		}
		for round := range 5 {
			what := fmt.Sprintf("round %d, %d per cent", round, kept)
			kv, err := Open("state", Options{PoP: "lhr", fs: disk, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			share, err := kv.Share("")
			if err != nil {
				t.Fatal(err)
			}
			share.Known()
			share.renew()
			s := kv.For("shop", map[string][]wedge.KVSeed{"local": nil, "merged": nil}, map[string]wedge.Store{"local": {Scope: wedge.ScopeLocal}})
			sent := itemsOf(t, share)
			var work sync.WaitGroup
			stop := make(chan struct{})
			for _, w := range writers {
				w.check(t, what, s, sent)
				w.s = s
				work.Go(func() { w.run(stop) })
			}
			time.Sleep(rand.N(60*time.Millisecond) + 20*time.Millisecond)
			disk = powerOff(disk, kept, writers)
			close(stop)
			work.Wait()
			if err := kv.Close(); err != nil {
				t.Fatal(err)
			}
			for _, w := range writers {
				w.mu.Lock() // what came behind the loss was not
				w.held, w.doing, w.will = w.before.held, w.before.doing, w.before.will
				w.mu.Unlock()
			}
		}
	}
}

// powerOff returns what is on a disk after a loss of power now.
func powerOff(disk *vfs.MemFS, kept int, writers []*powerWriter) *vfs.MemFS {
	for _, w := range writers { // nobody notes anything meanwhile, so each has written no more than what is under way
		w.mu.Lock()
		defer w.mu.Unlock()
		w.before = &powerWriter{held: maps.Clone(w.held), doing: w.doing, will: w.will}
	}
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rand.New(rand.NewPCG(rand.Uint64(), 0))})
}

// check finds out whether all is there that was acknowledged, and takes what was under way as it is.
func (w *powerWriter) check(t *testing.T, what string, s *Stores, sent string) {
	t.Helper()
	for at, want := range w.held {
		v, err := s.Get(bg, at[0], at[1])
		if err != nil && wedge.KindOf(err) != wedge.NotExist {
			t.Errorf("%s: %v: %v", what, at, err)
		}
		got := string(v.Value)
		if got != want && (at != w.doing || got != w.will) {
			t.Errorf("%s: %v holds %.20q, and %.20q was acknowledged", what, at, got, want)
		}
		if at[0] == "merged" && got != "" && len(got) < 1000 && !strings.Contains(sent, base64.StdEncoding.EncodeToString([]byte(got))) {
			t.Errorf("%s: %v holds %s, and the others will not hear of it", what, at, got)
		}
		w.held[at] = got
	}
}

// itemsOf returns all that is in the outbox.
func itemsOf(t *testing.T, share *Share) string {
	t.Helper()
	var all strings.Builder
	for after := share.box.First() - 1; ; {
		items, err := share.box.Next(after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) == 0 {
			return all.String()
		}
		for _, item := range items {
			all.Write(item)
		}
		after += uint64(len(items))
	}
}
