// Bench measures Wedge beside the alternatives, both in one run and in turns, and prints one
// table: in process against the obvious way to use wazero, end to end against workerd.
//
//	go run ./bench                           every row
//	go run ./bench -rows sandbox             the rows that need no other process
//	go run ./bench -rows js-hello-fresh      one
//	go run ./bench -rows scale               how a fleet grows: minutes, and not among all
//	go run ./bench -rows state-scale         how state grows, likewise
//
// Figures of one run on one machine: take the ratios, not the times.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// group is a set of rows that are measured together.
type group struct {
	name    string
	sandbox bool // in process alone
	measure func(context.Context, *lab) ([]Row, error)
}

var groups = []group{
	{"second-deploy", true, secondDeploy}, // first: it wants to see the first compilation
	{"js-hello-fresh", true, jsHello},
	{"go-hello", true, goHello},
	{"hostcalls-100", true, hostcalls},
	{"cpu-bound", true, cpuBound},
	{"rps", false, throughput},
	{"steady-p99", false, steady},
	{"waiting-10k", false, waiting},
	{"hits", false, hits},
	{"purge", true, purges},
	{"deploy", true, deploys},
	{"state", true, states},
	{"home", true, homes},
	{"rates", true, rates},
	{scaleRows, false, scale},
	{"state-" + scaleRows, false, stateScale},
}

const scaleRows = "scale"

func main() {
	rows := flag.String("rows", "all", "all, sandbox, or names from: "+groupNames())
	out := flag.String("out", "", "`FILE` for the same rows as JSON lines")
	alone := flag.Bool("alone", false, "leave out the alternatives in process, to look at profiles of Wedge")
	profile := flag.String("cpuprofile", "", "write a CPU profile of what is measured in process to `FILE`, and those of nodes beside it")
	child := flag.String("child", "", "for the bench itself: the part that this process plays")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := runChild(ctx, *child, flag.Args())
	if *child == "" {
		err = run(ctx, *rows, *out, *profile, *alone)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func groupNames() string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return strings.Join(names, ", ")
}

// choose returns the groups that -rows names.
func choose(rows string) (chosen []group, err error) {
	for _, name := range strings.Split(rows, ",") {
		found := false
		for _, g := range groups {
			if name == "all" && !strings.HasSuffix(g.name, scaleRows) || name == "sandbox" && g.sandbox || name == g.name {
				chosen, found = append(chosen, g), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no rows %q; there are: all, sandbox, %s", name, groupNames())
		}
	}
	return chosen, nil
}

func run(ctx context.Context, rows, out, profile string, alone bool) error {
	chosen, err := choose(rows)
	if err != nil {
		return err
	}
	l, err := newLab(profile, alone)
	if err != nil {
		return err
	}
	defer l.close()
	var all []Row
	for _, g := range chosen {
		began := time.Now()
		done := l.progress("measuring " + g.name)
		got, err := g.measure(ctx, l)
		done()
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: done in %.1fs\n", g.name, time.Since(began).Seconds())
		all = append(all, got...)
	}
	printTable(os.Stdout, all)
	return writeLines(out, all)
}
