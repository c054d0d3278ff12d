package conformance

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// tally counts the outcomes of one level in one section.
type tally struct{ pass, fail, skip int }

func (t *tally) add(o Outcome) {
	switch o {
	case Pass:
		t.pass++
	case Fail:
		t.fail++
	case Skip:
		t.skip++
	}
}

func (t tally) String() string {
	if t.pass+t.fail+t.skip == 0 {
		return "-"
	}
	s := fmt.Sprintf("%d of %d", t.pass, t.pass+t.fail+t.skip)
	if t.skip > 0 {
		s += fmt.Sprintf(" (%d skipped)", t.skip)
	}
	return s
}

// Table writes a row for each section: how many cases passed, by level. Checks that "passed" are
// those whose answer is yes.
func Table(w io.Writer, results []Result) error {
	rows := map[string]*[3]tally{}
	var names []string
	var sum [3]tally
	for _, r := range sorted(results) {
		name := r.Section + "  " + r.Title
		if rows[name] == nil {
			rows[name] = &[3]tally{}
			names = append(names, name)
		}
		rows[name][r.Level].add(r.Outcome)
		sum[r.Level].add(r.Outcome)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "section\trequired\toptimal\tcheck: yes")
	for _, name := range names {
		fmt.Fprintf(tw, "%s\t%v\t%v\t%v\n", name, rows[name][Required], rows[name][Optimal], rows[name][Check])
	}
	fmt.Fprintf(tw, "all\t%v\t%v\t%v\n", sum[Required], sum[Optimal], sum[Check])
	return tw.Flush()
}

// sorted returns results as they stand in the files.
func sorted(results []Result) []Result {
	return slices.SortedStableFunc(slices.Values(results), func(a, b Result) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}

// Explain writes why each case that did not pass did not, with whole transcripts if asked for.
func Explain(w io.Writer, results []Result, transcripts bool) {
	for _, r := range sorted(results) {
		if r.Outcome != Fail && !transcripts {
			continue
		}
		fmt.Fprintf(w, "%s  %s (%v, %s)\n    %s\n", strings.ToUpper(string(r.Outcome)), r.Name, r.Level, r.Section, r.About)
		if r.Reason != "" {
			fmt.Fprintf(w, "    %s\n", r.Reason)
		}
		if transcripts {
			fmt.Fprintln(w, r.Transcript)
		}
	}
}
