package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/wedge-cloud/wedge"
)

func newFlags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run shows the error
	return fs
}

// parse reads flags before, between and after the other arguments, of which there may be
// at most max.
func parse(fs *flag.FlagSet, args []string, max int) ([]string, error) {
	rest, tail, err := parseUntil(fs, args, func(string) bool { return false })
	rest = append(rest, tail...)
	if err == nil && len(rest) > max {
		err = usage(fs, fmt.Errorf("unexpected argument %q", rest[max]))
	}
	return rest, err
}

// parseUntil is parse that leaves alone what follows "--" or an argument for which last
// is true: that is returned as tail.
func parseUntil(fs *flag.FlagSet, args []string, last func(string) bool) (rest, tail []string, err error) {
	for {
		all := args
		err := fs.Parse(all)
		if errors.Is(err, flag.ErrHelp) {
			return nil, nil, &helpWanted{fs}
		}
		if err != nil {
			return nil, nil, usage(fs, err)
		}
		args = fs.Args()
		if n := len(all) - len(args); n > 0 && all[n-1] == "--" {
			return rest, args, nil
		}
		if len(args) == 0 {
			return rest, nil, nil
		}
		rest, args = append(rest, args[0]), args[1:]
		if last(rest[len(rest)-1]) {
			return rest, args, nil
		}
	}
}

func usage(fs *flag.FlagSet, err error) error {
	return &wedge.Error{Op: fs.Name(), Kind: wedge.Invalid, Err: err, Hint: "See: wedge help " + fs.Name()}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
