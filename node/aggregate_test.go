package node

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
)

// aggregated is an aggregator that has taken one event of each id, from its file.
func aggregated(t *testing.T, name string, log *slog.Logger, ids ...string) *aggregator {
	t.Helper()
	dir := t.TempDir()
	a, err := openAggregator(name, dir, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		w := collect.Take("shop", "fra", countEach, []collect.Event{{"id": id}}, time.Unix(1_800_000_000, 0), nil)[0]
		if err := a.take(wedge.Entry{Seq: uint64(i + 1), Writer: "fra.1", First: uint64(i + 1), Items: [][]byte{collect.Wrap(1, w.Encode(1 << 20)[0])}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.save(); err != nil {
		t.Fatal(err)
	}
	if a, err = openAggregator(name, dir, nil, log); err != nil || a.results.Seq != uint64(len(ids)) {
		t.Fatalf("not what was saved: %v", err)
	}
	return a
}

// TestAggregatorsCompare: the same items with other contents are an alarm that names the PoP; others, and the same, are none.
func TestAggregatorsCompare(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	one := aggregated(t, "one", log, "a", "b")
	for _, test := range []struct {
		ids   []string
		alarm bool
	}{{[]string{"a", "b"}, false}, {[]string{"a", "c"}, true}, {[]string{"a"}, false}} {
		var list []wireCheck
		for k, c := range aggregated(t, "two", log, test.ids...).results.Checks(time.Time{}) {
			list = append(list, wireCheck{k, c})
		}
		b, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
		one.compare(checkSubject+"two", b)
		if alarm := strings.Contains(out.String(), "disagree") && strings.Contains(out.String(), "pop=fra"); alarm != test.alarm {
			t.Errorf("%v: %s", test.ids, out.String())
		}
		if out.Reset(); test.alarm {
			one.compare(checkSubject+"two", b)
			if out.Len() > 0 {
				t.Errorf("the same alarm again: %s", out.String())
			}
		}
	}
	q := collect.Query{Service: "shop", Name: "each", From: time.Unix(1_800_000_000, 0), To: time.Unix(1_800_000_100, 0)}
	want := collect.Disagreement{PoP: "fra", Minute: time.Unix(1_800_000_000, 0).UTC(), With: "two", Events: 2, There: 2}
	if a := one.ask(q); a.Disagreed != 1 || a.Disagreement[0] != want {
		t.Errorf("%+v", a)
	}
	q.From, q.To = q.To, q.To.Add(time.Hour)
	if a := one.ask(q); a.Disagreed != 0 {
		t.Errorf("of another hour: %+v", a)
	}
}

// TestSaveAfter: small results are written often, and large ones at least once a minute.
func TestSaveAfter(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{time.Millisecond: aggregateEvery, 100 * time.Millisecond: 10 * time.Second, time.Hour: time.Minute} {
		if got := saveAfter(took); got != want {
			t.Errorf("%v: %v", took, got)
		}
	}
}
