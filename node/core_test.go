package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/rollout"
)

// TestStray: a PoP that runs a service long after it was removed is named in the core's log, by its own word only; what PoPs say of services that
// there are not is not kept.
func TestStray(t *testing.T) {
	now, digest := time.Now(), control.DigestOf([]byte("x"))
	c := &Core{control: control.New(nil, nil), reports: map[string]map[string]rollout.Report{}}
	var log bytes.Buffer
	c.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	made := `{"kind":"version","service":"%s","version":1,"artifact":{"parts":[{"name":"version","size":1,"chunks":[{"digest":"` + string(digest) + `","size":1}]}]}}`
	for i, item := range []string{fmt.Sprintf(made, "old"), fmt.Sprintf(made, "just"), fmt.Sprintf(made, "shop"),
		fmt.Sprintf(`{"kind":"remove","service":"old","at":%q}`, now.Add(-time.Minute).Format(time.RFC3339)), fmt.Sprintf(`{"kind":"remove","service":"just","at":%q}`, now.Format(time.RFC3339Nano))} {
		if err := c.control.Take(wedge.Entry{Seq: uint64(i + 1), Items: [][]byte{[]byte(item)}}); err != nil {
			t.Fatal(err)
		}
	}
	say := func(from string, list ...rollout.Report) {
		b, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		c.runs("runs."+from, b)
	}
	say("fra", rollout.Report{PoP: "fra", Service: "just", Version: 1}, rollout.Report{PoP: "fra", Service: "shop", Version: 1}, rollout.Report{PoP: "fra", Service: "old"}, rollout.Report{PoP: "fra", Service: "none", Version: 1})
	say("ams", rollout.Report{PoP: "fra", Service: "old", Version: 1}, rollout.Report{PoP: "fra", Service: "shop", Version: 1})
	if log.Len() > 0 || len(c.reports) != 1 || len(c.reports["shop"]) != 1 {
		t.Errorf("%v: %s", c.reports, &log)
	}
	say("lhr", rollout.Report{PoP: "lhr", Service: "old", Version: 1})
	if text := log.String(); !strings.Contains(text, "pop=lhr service=old") || len(c.reports) != 1 {
		t.Errorf("%v: %s", c.reports, text)
	}
}
