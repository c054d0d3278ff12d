package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/node"
)

const (
	deployUsage   = "[FLAGS] [DIR]"
	servicesUsage = "[--json] | [--force] remove NAME"
	versionsUsage = "[--json] SERVICE | remove SERVICE N"
	releasesUsage = "[--json] [watch | promote] SERVICE"
	rollbackUsage = "[--json] SERVICE [VERSION]"
	popsUsage     = "[--json] | [--jurisdictions LIST] add NAME | remove NAME"
	auditUsage    = "[--json] [--last N]"
	tokensUsage   = "[--json] | [--tenant NAME] add NAME SCOPE... | revoke NAME"
	loginUsage    = "[--api URL]"
)

const (
	defaultAPI  = "http://127.0.0.1:7670"
	dialTimeout = 5 * time.Second // after which another of the core's servers is tried
)

// remote is what every command that speaks with a fleet's core takes.
type remote struct {
	api.Client
	print  string // of the core's certificate; "": it speaks no TLS
	asJSON bool
}

func (r *remote) flags(fs *flag.FlagSet) {
	login := readLogin()
	url := login.URL
	if v := os.Getenv("WEDGE_API"); v != "" {
		url = v
	}
	if url == "" {
		url = defaultAPI
	}
	if r.Token = os.Getenv("WEDGE_TOKEN"); r.Token == "" {
		r.Token = login.Token
	}
	if r.print = os.Getenv("WEDGE_CORE_PRINT"); r.print == "" {
		r.print = login.Print
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if r.print != "" {
		t = &http.Transport{TLSClientConfig: node.Pinned(r.print)}
	}
	t.DialContext, t.TLSHandshakeTimeout = (&net.Dialer{Timeout: dialTimeout}).DialContext, dialTimeout
	r.HTTP = &http.Client{Transport: t}
	fs.StringVar(&r.URL, "api", url, "`URL` of the control API, or those of several of the core's servers with commas between; by default $WEDGE_API, or where wedge login was")
	fs.BoolVar(&r.asJSON, "json", false, "answer in JSON")
}

// show prints an answer as JSON, or as a table.
func (r *remote) show(w io.Writer, v any, table func(io.Writer)) error {
	if r.asJSON {
		return printJSON(w, v)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table(t)
	return t.Flush()
}

// loginFile keeps where a person has logged in.
func loginFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &wedge.Error{Op: "find the configuration directory", Kind: wedge.Unavailable, Err: err, Hint: "Set HOME, or give WEDGE_TOKEN instead."}
	}
	return filepath.Join(dir, "wedge", "login.json"), nil
}

type login struct {
	URL   string `json:"url"`
	Token string `json:"token"`
	Print string `json:"print,omitempty"`
}

func readLogin() (l login) {
	if file, err := loginFile(); err == nil {
		if b, err := os.ReadFile(file); err == nil {
			_ = json.Unmarshal(b, &l) // what makes no sense is as good as nothing
		}
	}
	return l
}

// runLogin reads a token from standard input and keeps it, if the core takes it.
func runLogin(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("login")
	r.flags(fs)
	if _, err := parse(fs, args, 0); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(std.in, 4096))
	if r.Token = strings.TrimSpace(string(b)); err != nil || r.Token == "" {
		return &wedge.Error{Op: "login", Kind: wedge.Invalid, Err: errors.New("no token came"), Hint: "Give it on standard input: wedge login < FILE"}
	}
	if _, err := r.Services(ctx); err != nil {
		return err
	}
	file, err := loginFile()
	if err != nil {
		return err
	}
	b, err = json.Marshal(login{r.URL, r.Token, r.print})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		return &wedge.Error{Op: "login", What: file, Kind: wedge.Unavailable, Err: err}
	}
	fmt.Fprintf(std.err, "logged in at %s\n", r.URL)
	return nil
}

// newKey names a request, so that it can be repeated without being done twice.
func newKey() string { return rand.Text() }

func runDeploy(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("deploy")
	r.flags(fs)
	hold := fs.Duration("hold", 10*time.Second, "`TIME` for which each stage is watched before the next; 0: one PoP, then all")
	comment := fs.String("comment", "", "`TEXT` to be kept with the version")
	stay := fs.Bool("no-release", false, "make the version, and let nobody run it yet")
	detach := fs.Bool("detach", false, "do not wait for the rollout")
	var plan control.Plan
	fs.Func("where", "`CONDITION` on PoPs that get it until it is promoted: pop=, tier=, jurisdiction=, provider=, near=POP:KM; may be repeated", func(s string) error {
		plan.Where = append(plan.Where, s)
		_, err := control.ParseWhere(plan.Where)
		return err
	})
	fs.Func("shadow", "`PERCENTAGE` of requests that it gets copies of first, with what the live version got from outside; nobody sees its answers", func(s string) (err error) {
		plan.Shadow, err = strconv.ParseFloat(s, 64)
		return err
	})
	fs.Func("shares", "`PERCENTAGES` of clients that get it, stage by stage, such as 1,10,50", func(s string) (err error) {
		plan.Shares, err = readShares(s)
		return err
	})
	fs.Func("match", "`REQUESTS` that get it at once: header:NAME[=VALUE] or cookie:NAME[=VALUE]", func(s string) error {
		plan.Match = s
		_, err := control.ParseMatch(s)
		return err
	})
	fs.Func("ungated", "`GATES` that do not count: "+strings.Join(control.Gates, ","), func(s string) error {
		plan.Ungated = strings.Split(s, ",")
		return nil
	})
	rest, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	plan.HoldMS = hold.Milliseconds()
	o := runOptions{Path: first(rest, ".")}
	app, err := o.prepare(ctx, std.err)
	if err != nil {
		return err
	}
	for _, warning := range app.Warnings {
		fmt.Fprintln(std.err, "warning:", warning)
	}
	dir, err := os.MkdirTemp("", "wedge-deploy-")
	if err != nil {
		return &wedge.Error{Op: "deploy", Kind: wedge.Unavailable, Err: err}
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	key, err := r.SealingKey(ctx)
	if err != nil {
		return err
	}
	chunks := control.OpenChunks(dir)
	a, err := control.Pack(&app.Version, &key, chunks.Keep)
	if err != nil {
		return err
	}
	n, size, err := r.Upload(ctx, a, chunks)
	if err != nil {
		return err
	}
	v, err := r.NewVersion(ctx, app.Version.Service, newKey(), api.NewVersion{Artifact: a, Comment: *comment})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.err, "%s: version %d, %.1f MB, of which %d chunks, %.1f MB, were new: %v\n", app.Version.Service, v.Number, float64(v.Bytes)/1e6, n, float64(size)/1e6, time.Since(began).Round(time.Millisecond))
	if *stay {
		return r.answer(std, v)
	}
	release, err := r.Release(ctx, app.Version.Service, newKey(), api.Pick{Version: v.Number, Plan: plan})
	if err != nil {
		return err
	}
	if !*detach {
		if release, err = r.watch(ctx, std.err, app.Version.Service, release.ID); err != nil {
			return err
		}
	}
	if err := r.answer(std, release); err != nil {
		return err
	}
	if release.State == control.Aborted {
		return &wedge.Error{Op: "deploy", What: app.Version.Service, Kind: wedge.Conflict, Err: errors.New(release.Why), Hint: fmt.Sprintf("All PoPs run version %d again.", release.Previous)}
	}
	return nil
}

// readShares reads percentages with commas between.
func readShares(text string) (list []float64, err error) {
	for _, s := range strings.Split(text, ",") {
		p, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(s), "%"), 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no percentage", s)
		}
		list = append(list, p)
	}
	return list, nil
}

func (r *remote) answer(std stdio, v any) error {
	if !r.asJSON {
		return nil
	}
	return printJSON(std.out, v)
}

// watch shows a rollout until it has ended.
func (r *remote) watch(ctx context.Context, w io.Writer, service string, id int) (control.Release, error) {
	shown := ""
	for {
		all, err := r.Releases(ctx, service)
		if err != nil {
			return control.Release{}, err
		}
		if id < 1 || id > len(all) {
			return control.Release{}, &wedge.Error{Op: "watch release", What: service, Kind: wedge.NotExist, Err: errors.New("there is no such release")}
		}
		rel := all[id-1]
		pops, err := r.PoPs(ctx)
		if err != nil {
			return rel, err
		}
		if line := picture(&rel, pops); line != shown {
			shown = line
			fmt.Fprintln(w, line)
		}
		if rel.State != control.Running {
			return rel, nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return rel, &wedge.Error{Op: "watch release", What: service, Kind: wedge.Timeout, Err: context.Cause(ctx), Hint: "The rollout goes on; see it with: wedge releases watch " + service}
		}
	}
}

// picture is a rollout in one line: a mark for each PoP, full where the version runs.
func picture(r *control.Release, pops []wedge.PoP) string {
	reached := map[string]bool{}
	for _, p := range r.PoPs {
		reached[p] = true
	}
	var b strings.Builder
	for _, p := range pops {
		mark := "○"
		if reached[p.Name] && r.State != control.Aborted || r.State == control.Done {
			mark = "●"
		}
		b.WriteString(mark)
	}
	share := ""
	if r.Share < 100 && r.State != control.Aborted {
		share = fmt.Sprintf("  %v %%", r.Share)
	}
	return fmt.Sprintf("version %-4d %s%s  %s  %s", r.Version, b.String(), share, r.State, r.Why)
}

func runServices(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("services")
	r.flags(fs)
	force := fs.Bool("force", false, "remove one that is live, or on its way, too: it is taken off all PoPs")
	rest, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	if first(rest, "") == "remove" && len(rest) == 2 {
		return r.RemoveService(ctx, rest[1], newKey(), *force)
	}
	if len(rest) > 0 || *force {
		return usage(fs, errors.New("write remove NAME"))
	}
	all, err := r.Services(ctx)
	if err != nil {
		return err
	}
	return r.show(std.out, all, func(w io.Writer) {
		fmt.Fprintln(w, "SERVICE\tLIVE\tTENANT")
		for _, s := range all {
			fmt.Fprintf(w, "%s\t%d\t%s\n", s.Name, s.Live, s.Tenant)
		}
	})
}

func runVersions(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("versions")
	r.flags(fs)
	rest, err := parse(fs, args, 3)
	if err != nil {
		return err
	}
	if len(rest) == 3 && rest[0] == "remove" {
		n, err := strconv.Atoi(rest[2])
		if err != nil || n < 1 {
			return usage(fs, fmt.Errorf("%q is not a version", rest[2]))
		}
		return r.RemoveVersion(ctx, rest[1], newKey(), n)
	}
	if len(rest) != 1 {
		return usage(fs, errors.New("name a service, or write remove SERVICE N"))
	}
	name := rest[0]
	all, err := r.Versions(ctx, name)
	if err != nil {
		return err
	}
	return r.show(std.out, all, func(w io.Writer) {
		fmt.Fprintln(w, "VERSION\tMADE\tBY\tSIZE\tDIGEST\tCOMMENT")
		for _, v := range all {
			if v.Forgotten {
				continue
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%.1f MB\t%.12s\t%s\n", v.Number, v.At.Local().Format(time.DateTime), v.By, float64(v.Bytes)/1e6, v.Digest, v.Comment)
		}
	})
}

func oneName(fs *flag.FlagSet, args []string) (string, error) {
	rest, err := parse(fs, args, 1)
	if err == nil && len(rest) == 0 {
		err = usage(fs, errors.New("name a service"))
	}
	return first(rest, ""), err
}

func runReleases(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("releases")
	r.flags(fs)
	verb := first(args, "")
	if verb == "watch" || verb == "promote" {
		args = args[1:]
	}
	name, err := oneName(fs, args)
	if err != nil {
		return err
	}
	if verb == "promote" {
		rel, err := r.Promote(ctx, name, newKey())
		if err == nil {
			rel, err = r.watch(ctx, std.err, name, rel.ID)
		}
		if err != nil {
			return err
		}
		return r.answer(std, rel)
	}
	all, err := r.Releases(ctx, name)
	if err != nil {
		return err
	}
	if verb == "watch" {
		rel, err := r.watch(ctx, std.err, name, len(all))
		if err != nil {
			return err
		}
		return r.answer(std, rel)
	}
	return r.show(std.out, all, func(w io.Writer) {
		fmt.Fprintln(w, "RELEASE\tVERSION\tSTATE\tPOPS\tAT\tBY\tWHY")
		for _, x := range all {
			fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%s\t%s\t%s\n", x.ID, x.Version, x.State, len(x.PoPs), x.At.Local().Format(time.DateTime), x.By, x.Why)
		}
	})
}

func runRollback(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("rollback")
	r.flags(fs)
	rest, err := parse(fs, args, 2)
	if err == nil && len(rest) == 0 {
		err = usage(fs, errors.New("name a service"))
	}
	if err != nil {
		return err
	}
	version := 0
	if len(rest) == 2 {
		if version, err = strconv.Atoi(rest[1]); err != nil || version < 1 {
			return usage(fs, fmt.Errorf("%q is not a version", rest[1]))
		}
	}
	rel, err := r.Rollback(ctx, rest[0], newKey(), version)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.err, "%s: %s\n", rest[0], rel.Why)
	return r.answer(std, rel)
}

func runPops(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("pops")
	r.flags(fs)
	jurisdictions := fs.String("jurisdictions", "", "`LIST` of jurisdictions, with commas between, that a PoP that is added may carry")
	rest, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	switch verb := first(rest, ""); {
	case verb == "add" && len(rest) == 2:
		return r.invite(ctx, std, rest[1], strings.FieldsFunc(*jurisdictions, func(c rune) bool { return c == ',' }))
	case verb == "remove" && len(rest) == 2:
		return r.RemovePoP(ctx, rest[1])
	case verb != "":
		return usage(fs, errors.New("write add NAME, or remove NAME"))
	}
	all, err := r.PoPs(ctx)
	if err != nil {
		return err
	}
	return r.show(std.out, all, func(w io.Writer) {
		fmt.Fprintln(w, "POP\tREADY\tCITY\tTIER\tPROVIDER\tJURISDICTIONS\tADDRESSES")
		for _, p := range all {
			ready := "no"
			if p.Ready {
				ready = "yes"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, ready, p.City, p.Tier, p.Provider, strings.Join(p.Jurisdictions, " "), strings.Join(p.Addresses, " "))
		}
	})
}

func runAudit(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("audit")
	r.flags(fs)
	last := fs.Int("last", 100, "`N` decisions at most")
	if _, err := parse(fs, args, 0); err != nil {
		return err
	}
	all, err := r.Audit(ctx, *last)
	if err != nil {
		return err
	}
	return r.show(std.out, all, func(w io.Writer) {
		fmt.Fprintln(w, "AT\tBY\tWHAT\tOF\tWHY")
		for _, e := range all {
			of := e.Service
			if e.Version > 0 {
				of += " version " + strconv.Itoa(e.Version)
			}
			if e.PoP != "" {
				of = "PoP " + e.PoP
			}
			if e.Kind == control.EventTenant || e.Kind == control.EventQuota {
				of = "tenant " + e.Tenant
			}
			if e.Token != "" {
				of = "token " + e.Token
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.At.Local().Format(time.DateTime), e.By, e.Kind, of, e.Why)
		}
	})
}

func runTokens(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("tokens")
	r.flags(fs)
	tenant := fs.String("tenant", "", "`NAME` of the tenant that a token is made for")
	rest, err := parse(fs, args, 20)
	if err != nil {
		return err
	}
	switch verb := first(rest, ""); {
	case verb == "add" && len(rest) > 2:
		s, err := r.NewToken(ctx, api.NewToken{Name: rest[1], Scopes: rest[2:], Tenant: *tenant})
		if err != nil {
			return err
		}
		if r.asJSON {
			return printJSON(std.out, s)
		}
		fmt.Fprintln(std.err, "this is told once:")
		fmt.Fprintln(std.out, s.Secret)
		return nil
	case verb == "revoke" && len(rest) == 2:
		return r.Revoke(ctx, rest[1])
	case verb != "":
		return usage(fs, errors.New("write add NAME SCOPE..., or revoke NAME"))
	}
	all, err := r.Tokens(ctx)
	if err != nil {
		return err
	}
	return r.show(std.out, all, func(w io.Writer) {
		fmt.Fprintln(w, "TOKEN\tTENANT\tSCOPES\tMADE\tBY")
		for _, t := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Name, t.Tenant, strings.Join(t.Scopes, " "), t.At.Local().Format(time.DateTime), t.By)
		}
	})
}

// invite has the core make a secret for a PoP, and prints what is to be pasted there.
func (r *remote) invite(ctx context.Context, std stdio, name string, jurisdictions []string) error {
	s, err := r.AddPoP(ctx, name, jurisdictions...)
	if err != nil {
		return err
	}
	i := node.Invitation{Name: name, URL: r.URL, Print: r.print, Secret: s.Secret}
	if r.asJSON {
		return printJSON(std.out, i)
	}
	fmt.Fprintln(std.err, "good for one join; put it into the node file there, as [join] invitation:")
	fmt.Fprintln(std.out, i)
	return nil
}
