package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/wedge-cloud/wedge/collect"
)

const collectUsage = "[--by DIM]... [--since 5m] [--step 10s] [--json] SERVICE NAME"

func runCollect(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("collect")
	r.flags(fs)
	since := fs.String("since", "5m", "from how long ago on")
	step := fs.String("step", "", "a row for each so long a time; by default one for all")
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
	a, err := r.Collected(ctx, rest[0], rest[1], query)
	if err != nil {
		return err
	}
	return r.show(std.out, a, func(w io.Writer) { collectTable(w, a, *step != "") })
}

// collectTable has a line for each row, and in it what each metric says.
func collectTable(w io.Writer, a collect.Answer, stepped bool) {
	head := []string{}
	if stepped {
		head = append(head, "TIME")
	}
	for _, dim := range a.By {
		head = append(head, strings.ToUpper(dim))
	}
	fmt.Fprintln(w, strings.Join(append(head, "COUNT", "METRICS"), "\t"))
	for _, row := range a.Rows {
		var line []string
		if stepped {
			line = append(line, row.Start.Local().Format("15:04:05"))
		}
		line = append(append(line, row.Values...), fmt.Sprintf("%.0f", row.Count))
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
