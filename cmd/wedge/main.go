// Command wedge is the whole of Wedge in one binary: it makes, builds and runs apps. Its
// rules and commands are described in docs/cli.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
)

func main() {
	// What has no logger of its own, such as a core, says what matters here. It would go by the standard logger.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	// net/http tells the standard logger about every odd byte a client or an origin sends:
	// a way for them to flood it. What matters reaches the caller as an error.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// A command is one subcommand. Its flags are defined by the function it starts with, so
// that help shows the very flags that are parsed.
type command struct {
	name  string
	args  string // as usage shows them
	short string // one line for the list of commands
	run   func(ctx context.Context, std stdio, args []string) error
}

// stdio is where a command reads, answers and talks.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// commands in the order in which help lists them.
func commands() []command {
	return []command{
		{"new", newUsage, "write a project that builds and answers at once", runNew},
		{"build", buildUsage, "build an app's guest", runBuild},
		{"run", runUsage, "serve an app on this machine", runRun},
		{"world", worldUsage, "run many PoPs in one process, and cut and heal them", runWorld},
		{"node", nodeUsage, "run a node of a fleet: a core, a PoP, or both", runNode},
		{"deploy", deployUsage, "make a version of an app, and release it to a fleet", runDeploy},
		{"services", servicesUsage, "list a fleet's services, and remove one", runServices},
		{"versions", versionsUsage, "list a service's versions, and have one forgotten", runVersions},
		{"releases", releasesUsage, "list a service's releases, watch one, or promote one", runReleases},
		{"rollback", rollbackUsage, "make all PoPs run another version at once", runRollback},
		{"pops", popsUsage, "list the PoPs that are there", runPops},
		{"state", stateUsage, "look at and change what a service keeps at PoPs", runState},
		{"secrets", secretsUsage, "write secrets to stores of a service that runs", runSecrets},
		{"where", whereUsage, "show where the copies of a key lie", runWhere},
		{"explain", explainUsage, "show which PoP is the home of keys, and why", runExplain},
		{"move", moveUsage, "have another PoP be the home of keys", runMove},
		{"apologies", apologiesUsage, "list what a service has promised and cannot keep", runApologies},
		{"collect", collectUsage, "show what clients have reported", runCollect},
		{"tokens", tokensUsage, "list, make and revoke tokens of the control API", runTokens},
		{"tenants", tenantsUsage, "list and make tenants, and set their quotas", runTenants},
		{"audit", auditUsage, "show who decided what", runAudit},
		{"login", loginUsage, "keep a token of the control API, from standard input", runLogin},
		{"purge", purgeUsage, "make cached responses unusable", runPurge},
		{"inspect", inspectUsage, "show what a guest is and asks for", runInspect},
		{"version", versionUsage, "show version, commit, Go version and platform", runVersion},
		{"help", helpUsage, "show the commands, or one command's flags", runHelp},
	}
}

// run carries out one command line, without the program's name, and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	std := stdio{stdin, stdout, stderr}
	if len(args) == 0 {
		printCommands(stderr)
		return wedge.Invalid.ExitCode()
	}
	name := args[0]
	switch name {
	case "-h", "-help", "--help":
		name = "help"
	case "-version", "--version":
		name = "version"
	}
	cmd, err := find(name)
	if err == nil {
		err = cmd.run(ctx, std, args[1:])
	}
	var help *helpWanted
	if errors.As(err, &help) {
		help.print(stdout)
		return 0
	}
	if err == nil {
		return 0
	}
	var code compute.ExitCode
	if errors.As(err, &code) { // the guest's own, with --once
		return int(code)
	}
	printError(stderr, err)
	return wedge.KindOf(err).ExitCode()
}

func find(name string) (command, error) {
	var close string
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
		if strings.HasPrefix(c.name, name) || strings.HasPrefix(name, c.name) {
			close = c.name
		}
	}
	hint := "See them all with: wedge help"
	if close != "" {
		hint = "Did you mean: wedge " + close
	}
	return command{}, &wedge.Error{Kind: wedge.Invalid, Err: fmt.Errorf("no command %q", name), Hint: hint}
}

// printError shows err, or each of several joined ones, with its hint.
func printError(w io.Writer, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			printError(w, e)
		}
		return
	}
	fmt.Fprintf(w, "wedge: %v\n", err)
	hint := wedge.HintOf(err)
	if hint == "" && wedge.KindOf(err) == wedge.Internal {
		hint = "This looks like a fault of Wedge. Please report it with the line above and: wedge version"
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// helpWanted is how a command's parsing says that -h was among its flags.
type helpWanted struct{ flags *flag.FlagSet }

func (*helpWanted) Error() string { return "help wanted" }

func (h *helpWanted) print(w io.Writer) {
	cmd, err := find(h.flags.Name())
	if err != nil {
		return
	}
	fmt.Fprintf(w, "usage: wedge %s %s\n\n%s\n", cmd.name, cmd.args, cmd.short)
	first := true
	h.flags.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\n")
			first = false
		}
		value, usage := flag.UnquoteUsage(f)
		dash := "--"
		if len(f.Name) == 1 {
			dash = "-"
		}
		fmt.Fprintf(w, "  %-18s %s\n", strings.TrimSpace(dash+f.Name+" "+value), usage)
	})
}
