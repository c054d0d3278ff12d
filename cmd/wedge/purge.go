package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/node"
)

const purgeUsage = "[--soft] [--watch] [--json] [--token KEY] [--addr ADDR] (URL... | --key KEY... | --all)"

// purged is the answer of wedge purge for one purge.
type purged struct {
	What   string `json:"what"`
	ID     string `json:"id"`
	TookUS int64  `json:"took_us"`
}

// keyList is a flag that may be given several times.
type keyList []string

func (k *keyList) String() string { return strings.Join(*k, " ") }

func (k *keyList) Set(s string) error {
	*k = append(*k, strings.Fields(s)...)
	return nil
}

func runPurge(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("purge")
	soft := fs.Bool("soft", false, "make stale instead of unusable")
	watch := fs.Bool("watch", false, "wait for all PoPs of the fleet, and show when each had purged")
	asJSON := fs.Bool("json", false, "answer in JSON")
	all := fs.Bool("all", false, "everything of the service")
	token := fs.String("token", os.Getenv("WEDGE_TOKEN"), "one of the service's api_keys; by default $WEDGE_TOKEN")
	addr := fs.String("addr", "127.0.0.1:7676", "`ADDR` of the node, host:port")
	var keys keyList
	fs.Var(&keys, "key", "surrogate `KEY`; may be given again")
	urls, err := parse(fs, args, wedge.MaxPurgeKeys)
	if err != nil {
		return err
	}
	if len(urls) == 0 && len(keys) == 0 && !*all {
		return &wedge.Error{Op: "purge", Kind: wedge.Invalid, Err: errors.New("nothing to purge"), Hint: "Name URLs, or --key KEY, or --all."}
	}
	p := purgeClient{addr: *addr, token: *token, soft: *soft, watch: *watch, std: std, asJSON: *asJSON}
	var done []purged
	for _, u := range urls {
		if done, err = p.add(ctx, done, u, nil, false); err != nil {
			return err
		}
	}
	if len(keys) > 0 || *all {
		if done, err = p.add(ctx, done, "http://"+*addr+"/", keys, *all); err != nil {
			return err
		}
	}
	if *watch {
		return nil // it was shown as it came
	}
	if *asJSON {
		return printJSON(std.out, done)
	}
	for _, d := range done {
		fmt.Fprintf(std.out, "purged %s in %v (%s)\n", d.What, time.Duration(d.TookUS)*time.Microsecond, d.ID)
	}
	return nil
}

// purgeClient sends PURGE requests to a node.
type purgeClient struct {
	addr, token string
	soft, watch bool
	asJSON      bool
	std         stdio // for steps that are watched
}

func (p *purgeClient) add(ctx context.Context, done []purged, target string, keys []string, all bool) ([]purged, error) {
	what := target
	switch {
	case all:
		what = "all"
	case len(keys) > 0:
		what = "keys " + strings.Join(keys, " ")
	}
	began := time.Now()
	id, err := p.send(ctx, target, keys, all)
	if err != nil {
		return done, err
	}
	return append(done, purged{what, id, time.Since(began).Microseconds()}), nil
}

// send asks the node, whatever host the URL names: that goes into the Host field.
func (p *purgeClient) send(ctx context.Context, target string, keys []string, all bool) (id string, err error) {
	fail := func(kind wedge.Kind, err error, hint string) (string, error) {
		return "", &wedge.Error{Op: "purge", What: target, Kind: kind, Err: err, Hint: hint}
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return fail(wedge.Invalid, errors.New("not an absolute URL"), "Write it as clients do, such as http://www.example.com/page.")
	}
	host := u.Host
	u.Scheme, u.Host = "http", p.addr
	req, err := http.NewRequestWithContext(ctx, "PURGE", u.String(), nil)
	if err != nil {
		return fail(wedge.Invalid, err, "")
	}
	req.Host = host
	req.Header.Set("Authorization", "Bearer "+p.token)
	if len(keys) > 0 {
		req.Header.Set("Surrogate-Key", strings.Join(keys, " "))
	}
	var words []string
	if all {
		words = append(words, "all")
	}
	if p.soft {
		words = append(words, "soft")
	}
	if p.watch {
		words = append(words, "watch")
	}
	if len(words) > 0 {
		req.Header.Set("Wedge-Purge", strings.Join(words, " "))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(wedge.Unavailable, err, "Is a node serving at "+p.addr+"? Give its address with --addr.")
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "application/x-ndjson" && resp.StatusCode == http.StatusOK {
		return p.follow(target, resp.Body)
	}
	var answer struct{ ID, Error, Hint string }
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(body, &answer) != nil || resp.StatusCode == http.StatusOK && answer.ID == "" {
		return fail(wedge.Denied, fmt.Errorf("the node answered %s, and not as a purge is answered", resp.Status), "The token must be one of the service's api_keys in wedge.toml.")
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return answer.ID, nil
	case http.StatusForbidden:
		return fail(wedge.Denied, errors.New("no valid token"), "Give one of the service's api_keys with --token or in WEDGE_TOKEN.")
	}
	return fail(wedge.Invalid, errors.New(answer.Error), answer.Hint)
}

// follow shows the PoPs as they say that they have purged.
func (p *purgeClient) follow(what string, lines io.Reader) (id string, err error) {
	var ms []float64
	d := json.NewDecoder(lines)
	if !p.asJSON {
		fmt.Fprintf(p.std.out, "purging %s\n", what)
	}
	for {
		var s node.PurgeStep
		if err := d.Decode(&s); err != nil {
			return "", &wedge.Error{Op: "purge", What: what, Kind: wedge.Unavailable, Err: fmt.Errorf("the node broke off: %w", err),
				Hint: "The purge was accepted and goes on; ask another node to see it through."}
		}
		if p.asJSON {
			if err := json.NewEncoder(p.std.out).Encode(s); err != nil {
				return "", err
			}
		} else if !s.Done {
			fmt.Fprintf(p.std.out, "  %-8s %-16s %8.1f ms\n", s.PoP, s.City, s.MS)
		}
		if !s.Done {
			ms = append(ms, s.MS)
			continue
		}
		if !p.asJSON {
			p.sum(ms, s)
		}
		return s.ID, nil
	}
}

// sum says how it went, in one line or two.
func (p *purgeClient) sum(ms []float64, last node.PurgeStep) {
	slices.Sort(ms)
	if len(ms) == 0 {
		return
	}
	at := func(share float64) float64 { return ms[int(share*float64(len(ms)-1)+0.5)] }
	fmt.Fprintf(p.std.out, "%d PoPs, p50 %.1f ms, p99 %.1f ms (%s)\n", len(ms), at(0.5), at(0.99), last.ID)
	if last.Offline {
		fmt.Fprintln(p.std.out, "this PoP is cut off: the others purge when it can be reached again")
	} else if len(last.Missing) > 0 {
		fmt.Fprintf(p.std.out, "not yet: %s; each purges as soon as it can be reached\n", strings.Join(last.Missing, ", "))
	}
}
