package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/state"
)

// afterLines is an output that calls then once it has n lines.
type afterLines struct {
	bytes.Buffer
	n    int
	then func()
}

func (a *afterLines) Write(b []byte) (int, error) {
	if a.n -= bytes.Count(b, []byte("\n")); a.n <= 0 {
		a.then()
	}
	return a.Buffer.Write(b)
}

// TestCollectLive: what is no terminal is shown once, and as JSON there is a line each time, from a core.
func TestCollectLive(t *testing.T) {
	core, err := node.OpenCore(t.Context(), node.CoreConfig{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	server := httptest.NewServer(core)
	defer server.Close()
	rum := wedge.Collect{Name: "rum", Window: time.Second, Sample: 1, Series: 10, By: []string{"path"}}
	w := collect.Take("shop", "fra", &rum, []collect.Event{{"path": "/a\x1b[2J"}, {"path": "/b"}, {"path": "/b"}}, time.Now(), nil)[0]
	kv, err := state.Open(t.TempDir(), state.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	box, err := kv.Outbox("collect")
	if err == nil {
		_, err = box.Add(collect.Wrap(1, w.Encode(1 << 20)[0]))
	}
	if err != nil {
		t.Fatal(err)
	}
	pumping, stop := context.WithCancel(t.Context())
	var pump sync.WaitGroup
	pump.Go(func() { _ = core.Link().Pump(pumping, &bus.Log{Name: "COLLECT"}, "fra.1", box, nil) })
	defer pump.Wait()
	defer stop()
	t.Setenv("WEDGE_TOKEN", core.AdminToken())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	args := []string{"collect", "--api", server.URL, "--by", "path", "--live"}
	var fault bytes.Buffer
	for {
		var out bytes.Buffer
		if code := run(ctx, append(args, "shop", "rum"), nil, &out, &fault); code != 0 {
			t.Fatalf("%d: %s %s", code, fault.String(), out.String())
		}
		if strings.Count(out.String(), "\n") == 3 {
			if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "/a?[2J") {
				t.Errorf("%q", out.String())
			}
			break
		}
	}
	out := &afterLines{n: 2, then: cancel}
	if code := run(ctx, append(args, "--json", "shop", "rum"), nil, out, &fault); code != 0 {
		t.Fatalf("%d: %s %s", code, fault.String(), out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines {
		var a collect.Answer
		if err := json.Unmarshal([]byte(line), &a); err != nil || len(a.Rows) != 2 || a.Rows[0].Count != 2 {
			t.Errorf("%s: %v", line, err)
		}
	}
	if len(lines) != 2 {
		t.Errorf("%d lines", len(lines))
	}
}

// TestLivePicture: a course, a bar for each row, and no more rows than there is room for.
func TestLivePicture(t *testing.T) {
	a := collect.Answer{Service: "shop", Name: "rum", By: []string{"path"}, Disagreed: 1,
		Disagreement: []collect.Disagreement{{PoP: "fra", With: "core2", Events: 9, There: 7}}}
	for range 25 {
		a.Rows = append(a.Rows, collect.Row{Values: []string{"/"}, Count: 50})
	}
	a.Rows[0].Count = 100
	now := time.Unix(1_800_000_000, 0)
	over := collect.Answer{Rows: []collect.Row{{Start: now.Add(-40 * time.Second), Count: 4}, {Start: now, Count: 8}}}
	got := string(livePicture(a, over, time.Minute, 20*time.Second))
	for _, want := range []string{"\x1b[H\x1b[J", "the last 1m0s: 12 events\n" + strings.Repeat("▁", 37) + "▄▁█\n", "100    ████████████\n", "50     ██████      \n", "and 5 more\n", "PoP fra", "9 events here, 7 (-2) at core2"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 3+1+20+2+1 {
		t.Errorf("%d lines", n)
	}
}
