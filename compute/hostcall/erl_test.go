package hostcall

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

const erl = "fastly_erl"

// limiter calls check_rate for one key and gives what it says.
func (b *stBed) limiter(delta, window, limit, ttl int) bool {
	b.t.Helper()
	return b.handle(erl, "check_rate", "rc", "10.0.0.1", delta, window, limit, "pb", ttl) == 1
}

func TestCheckRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stNew(t, &wedge.Version{Service: "s"})
		for i := range 30 {
			if b.limiter(1, 10, 3, 90) {
				t.Fatalf("blocked at %d of 30 in 10 s", i+1)
			}
		}
		if !b.limiter(1, 10, 3, 119) {
			t.Fatal("31 in 10 s are more than 3 a second")
		}
		if b.handle(erl, "penaltybox_has", "pb", "10.0.0.1") != 1 || b.handle(erl, "penaltybox_has", "pb", "10.0.0.2") != 0 {
			t.Error("the box does not have the one it should")
		}
		time.Sleep(59 * time.Second) // the window is long over, the minute is not
		if !b.limiter(1, 10, 3, 60) {
			t.Error("out of the box after 59 s")
		}
		time.Sleep(time.Second)
		if b.limiter(1, 10, 3, 60) {
			t.Error("119 s are cut to a minute")
		}
		time.Sleep(2 * time.Second)
		if b.limiter(0, 1, 1, 60) || !b.limiter(5, 1, 1, 60) {
			t.Error("a delta counts as often as it says")
		}
	})
}

// elsewhere has other PoPs asked for each check.
type elsewhere struct {
	compute.Rates
	over bool
}

func (e elsewhere) Over(string, string, uint32, time.Duration, uint64) (bool, func(context.Context) bool) {
	return !e.over, func(context.Context) bool { return e.over }
}

// TestCheckRateElsewhere: what another PoP answers holds, also for the box.
func TestCheckRateElsewhere(t *testing.T) {
	for _, over := range []bool{false, true} {
		b := stNew(t, &wedge.Version{Service: "s"})
		b.sb.Host.Rates = elsewhere{b.sb.Host.Rates, over}
		if b.limiter(1, 10, 3, 90) != over || b.handle(erl, "penaltybox_has", "pb", "10.0.0.1") != map[bool]uint32{true: 1}[over] {
			t.Errorf("over %v: not blocked so", over)
		}
	}
}

func TestCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stNew(t, &wedge.Version{Service: "s"})
		rate := func(window int) uint32 { return b.handle(erl, "ratecounter_lookup_rate", "rc", "k", window) }
		count := func(secs int) uint32 { return b.handle(erl, "ratecounter_lookup_count", "rc", "k", secs) }
		if rate(1) != 0 || count(60) != 0 {
			t.Error("a counter does not begin at 0")
		}
		for range 20 {
			b.want(abi.OK, erl, "ratecounter_increment", "rc", "k", 2)
			time.Sleep(500 * time.Millisecond)
		}
		if rate(1) != 4 || rate(10) != 4 || rate(60) != 1 {
			t.Errorf("rates %d, %d, %d", rate(1), rate(10), rate(60))
		}
		if count(10) != 40 || count(60) != 40 {
			t.Errorf("counts %d, %d", count(10), count(60))
		}
		time.Sleep(15 * time.Second)
		if rate(10) != 0 || count(10) != 0 || count(20) != 20 || count(30) != 40 {
			t.Errorf("15 s later: %d, %d, %d, %d", rate(10), count(10), count(20), count(30))
		}
	})
}

func TestRateArguments(t *testing.T) {
	b := stNew(t, &wedge.Version{Service: "s"})
	o := b.out4()
	for _, window := range []int{0, 2, 5, 11, 59, 3600} {
		b.want(abi.Inval, erl, "check_rate", "rc", "k", 1, window, 1, "pb", 60, o)
		b.want(abi.Inval, erl, "ratecounter_lookup_rate", "rc", "k", window, o)
	}
	for _, secs := range []int{0, 1, 5, 15, 61, 70} {
		b.want(abi.Inval, erl, "ratecounter_lookup_count", "rc", "k", secs, o)
	}
	for _, ttl := range []uint32{0, 1, 59, 3601, 0xffffffff} {
		b.want(abi.Inval, erl, "penaltybox_add", "pb", "k", ttl)
		b.want(abi.Inval, erl, "check_rate", "rc", "k", 1, 1, 1, "pb", ttl, o)
	}
	b.want(abi.Inval, erl, "check_rate", "rc", "k", 1, 1, 1, "pb", 60, stOutside)
	if b.handle(erl, "ratecounter_lookup_count", "rc", "k", 60) != 0 {
		t.Error("a call that failed has counted")
	}
	long := strings.Repeat("k", maxRateName)
	b.want(abi.OK, erl, "ratecounter_increment", "", "\xff\x00", 1)
	b.want(abi.OK, erl, "ratecounter_increment", long, long, 1)
	b.want(abi.Inval, erl, "ratecounter_increment", long+"k", "k", 1)
	b.want(abi.Inval, erl, "penaltybox_has", "pb", long+"k", o)
	b.sb.Host.Rates = nil
	b.want(abi.Unsupported, erl, "ratecounter_increment", "rc", "k", 1)
}
