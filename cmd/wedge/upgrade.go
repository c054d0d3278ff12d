package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/handover"
)

// inTerms runs what serves, and on SIGUSR2 a successor of this process in its place. Not on SIGHUP: a terminal that is closed
// sends that.
func inTerms(ctx context.Context, std stdio, run func(context.Context, *handover.Term) error) error {
	p, err := handover.New(func(s string) { fmt.Fprintln(std.err, "wedge: "+s) })
	if err != nil {
		return &wedge.Error{Op: "succeed a process", Kind: wedge.Invalid, Err: err}
	}
	upgrade := make(chan os.Signal, 1)
	notifyUpgrade(upgrade)
	defer signal.Stop(upgrade)
	return p.Serve(ctx, upgrade, run)
}
