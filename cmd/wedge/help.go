package main

import (
	"context"
	"fmt"
	"io"
)

const helpUsage = "[COMMAND]"

// runHelp shows one command's flags by asking it as a person would, with -h.
func runHelp(ctx context.Context, std stdio, args []string) error {
	rest, err := parse(newFlags("help"), args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		printCommands(std.out)
		return nil
	}
	cmd, err := find(rest[0])
	if err != nil {
		return err
	}
	return cmd.run(ctx, std, []string{"-h"})
}

func printCommands(w io.Writer) {
	fmt.Fprint(w, "Wedge: an edge cloud in one binary.\n\nusage: wedge COMMAND [ARGUMENTS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\nFor the flags of one: wedge help COMMAND\n")
}
