package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// Row is one line of the table: what Wedge took, what the alternative took.
type Row struct {
	Name       string  `json:"name"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	Unit       string  `json:"unit"`
	Against    string  `json:"against"` // the alternative
	AgainstP50 float64 `json:"against_p50"`
	AgainstP99 float64 `json:"against_p99"`
	Ratio      float64 `json:"ratio"`            // how many times better Wedge's p50 is, unless Note says another
	Target     string  `json:"target,omitempty"` // what the ratio, or p50, should reach
	Note       string  `json:"note,omitempty"`
}

// skipped is a row that could not be measured here.
func skipped(name, why string) Row { return Row{Name: name, Note: "skipped: " + why} }

func (r Row) skipped() bool { return strings.HasPrefix(r.Note, "skipped: ") }

// printTable writes the rows as one aligned table.
func printTable(w io.Writer, rows []Row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tp50\tp99\tunit\tagainst\tits p50\tits p99\tratio\ttarget\t")
	for _, r := range rows {
		if r.skipped() {
			fmt.Fprintf(t, "%s\t%s\n", r.Name, r.Note)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, short(r.P50), short(r.P99), r.Unit,
			r.Against, short(r.AgainstP50), short(r.AgainstP99), short(r.Ratio), r.Target, r.Note)
	}
	_ = t.Flush()
}

// short writes a figure with three digits that matter; nothing for 0, which no row measures.
func short(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// writeLines writes the rows as JSON lines; an empty file name writes nothing.
func writeLines(file string, rows []Row) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
