package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge/collect"
)

const collectUsage = "[--by DIM]... [--since 5m] [--step 10s] [--live] [--json] SERVICE NAME"

func runCollect(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("collect")
	r.flags(fs)
	since := fs.String("since", "5m", "from how long ago on")
	step := fs.String("step", "", "a row for each so long a time; by default one for all")
	live := fs.Bool("live", false, "draw it again each second, on a terminal; with --json a line each time")
	var by keyList
	fs.Var(&by, "by", "a row for each value of `DIM`; may be given again")
	rest, err := parse(fs, args, 2)
	if err == nil && len(rest) < 2 {
		err = usage(fs, errors.New("name a service and what it collects"))
	}
	if err != nil {
		return err
	}
	query := url.Values{"since": {*since}, "by": by}
	if *step != "" {
		query.Set("step", *step)
	}
	if *live && (r.asJSON || isTerminal(std.out)) {
		ago, err := time.ParseDuration(*since)
		if err != nil || ago < time.Second {
			return usage(fs, fmt.Errorf("--since %q is not a time, such as 5m", *since))
		}
		return r.collectLive(ctx, std, rest[0], rest[1], query, ago)
	}
	a, err := r.Collected(ctx, rest[0], rest[1], query)
	if err != nil {
		return err
	}
	return r.show(std.out, a, func(w io.Writer) { collectTable(w, a, collectColumns{time: *step != ""}) })
}

// collectColumns says which there are besides dimensions, counts and metrics.
type collectColumns struct{ time, bars bool }

// collectTable has a line for each row, and in it what each metric says.
func collectTable(w io.Writer, a collect.Answer, columns collectColumns) {
	head, most := []string{}, 0.0
	if columns.time {
		head = append(head, "TIME")
	}
	for _, dim := range a.By {
		head = append(head, strings.ToUpper(dim))
	}
	head = append(head, "COUNT")
	if columns.bars {
		head = append(head, "")
	}
	fmt.Fprintln(w, strings.Join(append(head, "METRICS"), "\t"))
	for _, row := range a.Rows {
		most = max(most, row.Count)
	}
	for _, row := range a.Rows {
		var line []string
		if columns.time {
			line = append(line, row.Start.Local().Format("15:04:05"))
		}
		line = append(append(line, row.Values...), fmt.Sprintf("%.0f", row.Count))
		if columns.bars {
			line = append(line, bar(row.Count, most))
		}
		for _, m := range row.Metrics {
			line = append(line, metricText(m))
		}
		for i := range line {
			line[i] = plain(line[i])
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	if a.Over > 0 {
		fmt.Fprintf(w, "%d events are under %s: there were more values than series.\n", a.Over, collect.Other)
	}
	disagreements(w, a)
}

// disagreements says where the core's aggregators do not have the same.
func disagreements(w io.Writer, a collect.Answer) {
	if a.Disagreed == 0 {
		return
	}
	fmt.Fprintf(w, "The core's servers disagree %d times about the same items:\n", a.Disagreed)
	for _, d := range a.Disagreement {
		what := fmt.Sprintf("%d events here, %d (%+d)", d.Events, d.There, int64(d.There-d.Events))
		if d.Events == d.There {
			what = fmt.Sprintf("%d events at both, with other values", d.Events)
		}
		fmt.Fprintf(w, "  PoP %s, the minute of %s: %s at %s\n", plain(d.PoP), d.Minute.Local().Format(time.DateTime), what, plain(d.With))
	}
}

func metricText(m collect.Value) string {
	switch m.Kind {
	case "quantiles":
		return fmt.Sprintf("%s p50 %.4g p75 %.4g p95 %.4g p99 %.4g", m.Name, m.P50, m.P75, m.P95, m.P99)
	case "distinct":
		return fmt.Sprintf("%s %d different", m.Name, m.Distinct)
	case "top":
		var top []string
		for _, f := range m.Top[:min(3, len(m.Top))] {
			top = append(top, fmt.Sprintf("%s (%.0f)", f.Value, f.Count))
		}
		return m.Name + " " + strings.Join(top, ", ")
	}
	return fmt.Sprintf("%s sum %.6g min %.4g max %.4g", m.Name, m.Sum, m.Min, m.Max)
}

// plain makes what clients have sent safe for a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
