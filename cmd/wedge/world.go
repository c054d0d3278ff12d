package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/world"
)

const worldUsage = "[FLAGS] [DIR...] | status | cut POP... | heal [POP...] | kill POP... | stop POP... | start [POP...] | delay MS POP... | lose SHARE POP... | bandwidth BYTES POP... | blackhole [--way WAY] POP... | skew [--behind] TIME POP..."

const (
	worldControl = "127.0.0.1:7670"
	worldPort    = 7701
)

// worldOptions is a command line of wedge world, checked.
type worldOptions struct {
	control string // host:port to give orders at
	port    int    // of the first PoP; 0: free ones
	file    string // with the map
	dir     string // of the data; "": one that is removed at the end
	flat    bool
	asJSON  bool
	way     string // blackhole
	behind  bool   // skew
}

func runWorld(ctx context.Context, std stdio, args []string) error {
	var o worldOptions
	fs := newFlags("world")
	fs.StringVar(&o.control, "control", worldControl, "`HOST:PORT` where the world takes orders")
	fs.IntVar(&o.port, "port", worldPort, "`PORT` of the first PoP, the next ones follow; 0 takes free ones")
	fs.StringVar(&o.file, "map", "", "JSON `FILE` with the PoPs: [{\"name\": \"fra\", \"lat\": 50.1, \"lon\": 8.7}, ...]")
	fs.StringVar(&o.dir, "data", "", "`DIR` where the PoPs and the core keep their data (default: nothing is kept)")
	fs.BoolVar(&o.flat, "flat", false, "no round-trip times")
	fs.BoolVar(&o.asJSON, "json", false, "status as JSON")
	fs.StringVar(&o.way, "way", "", "blackhole `WAY`: out, from the PoP, or in, to it (default: both)")
	fs.BoolVar(&o.behind, "behind", false, "skew: the clock is behind")
	rest, err := parse(fs, args, 1000)
	if err != nil {
		return err
	}
	if len(rest) > 0 && orders[rest[0]] {
		return o.order(ctx, std, rest[0], rest[1:])
	}
	if len(rest) == 0 {
		rest = []string{"."}
	}
	return o.run(ctx, std, rest)
}

var orders = map[string]bool{"status": true, "cut": true, "heal": true, "kill": true, "stop": true, "start": true, "delay": true, "lose": true,
	"bandwidth": true, "blackhole": true, "skew": true}

// order tells a running world to do something.
func (o *worldOptions) order(ctx context.Context, std stdio, do string, args []string) error {
	bad := func(why string) error {
		return &wedge.Error{Op: "world " + do, Kind: wedge.Invalid, Err: errors.New(why), Hint: "See: wedge help world"}
	}
	body := world.Order{Do: do, Way: o.way}
	if measured[do] {
		if len(args) == 0 {
			return bad("a number is missing")
		}
		if err := o.measure(&body, args[0]); err != nil {
			return bad(err.Error())
		}
		args = args[1:]
	}
	if body.PoPs = args; len(args) == 0 && do != "status" && do != "heal" && do != "start" {
		return bad("name the PoPs")
	}
	all, err := o.send(ctx, body)
	if err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(std.out, all)
	}
	printWorld(std.out, all)
	return nil
}

// measured are the orders that say how much.
var measured = map[string]bool{"delay": true, "lose": true, "bandwidth": true, "skew": true}

// measure reads how much.
func (o *worldOptions) measure(body *world.Order, text string) error {
	if body.Do == "skew" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a time, such as 30s", text)
		}
		if body.SkewMS = float64(d) / float64(time.Millisecond); o.behind {
			body.SkewMS = -body.SkewMS
		}
		return nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("%q is not a number", text)
	}
	switch body.Do {
	case "delay":
		body.DelayMS = n
	case "lose":
		body.Share = n
	case "bandwidth":
		body.Rate = n
	}
	return nil
}

func (o *worldOptions) send(ctx context.Context, order world.Order) (all []world.Status, err error) {
	method, body := http.MethodPost, []byte(nil)
	if order.Do == "status" {
		method = http.MethodGet
	} else if body, err = json.Marshal(order); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+o.control+"/world", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, &wedge.Error{Op: "reach the world", What: o.control, Kind: wedge.Unavailable, Err: err, Hint: "Start one with: wedge world"}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal("world "+order.Do, resp.StatusCode, b)
	}
	return all, json.Unmarshal(b, &all)
}

func printWorld(w io.Writer, all []world.Status) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "POP\tCITY\tSTATE\tCORE RTT\tURL")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f ms\t%s\n", s.PoP.Name, s.PoP.City, s.State, s.RTTMS, s.URL)
	}
	_ = t.Flush()
}

// run serves apps in a world until ctx ends.
func (o *worldOptions) run(ctx context.Context, std stdio, dirs []string) error {
	pops, err := o.pops()
	if err != nil {
		return err
	}
	apps, err := loadApps(ctx, std.err, dirs)
	if err != nil {
		return err
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "wedge-world-")
		if err != nil {
			return &wedge.Error{Op: "make data directory", Kind: wedge.Unavailable, Err: err}
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	control, err := net.Listen("tcp", o.control)
	if err != nil {
		return &wedge.Error{Op: "listen", What: o.control, Kind: wedge.Unavailable, Err: err, Hint: "Does another world run? Choose another --control."}
	}
	lines := &lineMerger{w: std.err}
	began := time.Now()
	w, err := world.Open(ctx, world.Config{PoPs: pops, Dir: o.dir, Flat: o.flat, Ordered: func(do world.Order) {
		lines.say("world| " + strings.Join(append([]string{do.Do}, do.PoPs...), " ") + "\n")
	}, Node: func(p wedge.PoP) node.Config {
		i := slices.IndexFunc(pops, func(q wedge.PoP) bool { return q.Name == p.Name })
		port := 0
		if o.port > 0 {
			port = o.port + i
		}
		says := lines.prefixed(p.Name)
		return node.Config{
			Load: func(context.Context) ([]*manifest.App, error) { return copies(apps), nil },
			HTTP: []string{"127.0.0.1:" + strconv.Itoa(port)}, Stdout: says, Stderr: says, DrainTimeout: 5 * time.Second, LocalNames: true,
		}
	}})
	if err != nil {
		control.Close()
		return err
	}
	defer w.Close()
	mux := http.NewServeMux()
	mux.Handle("/world", w)
	mux.Handle("/v1/", w.Core())
	server := http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(control) }()
	defer server.Close()
	if err := w.Start(ctx); err != nil {
		return err
	}
	lines.say(fmt.Sprintf("\na world of %d PoPs after %v\n", len(pops), time.Since(began).Round(time.Millisecond)))
	var b strings.Builder
	printWorld(&b, w.Status())
	lines.say(b.String())
	lines.say(o.tryLines(apps, w))
	<-ctx.Done()
	return nil
}

// tryLines says what to try.
func (o *worldOptions) tryLines(apps []*manifest.App, w *world.World) string {
	all := w.Status()
	var b strings.Builder
	b.WriteString("\nopen\n")
	for _, a := range apps {
		for _, s := range all {
			_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
			fmt.Fprintf(&b, "  http://%s.localhost:%s/   %s at %s\n", a.Version.Service, port, a.Version.Service, s.PoP.City)
		}
	}
	last := all[len(all)-1].PoP.Name
	fmt.Fprintf(&b, "\nand in another terminal try\n  wedge world cut %s\n  wedge world heal\n  wedge world status\n", last)
	fmt.Fprintf(&b, "  WEDGE_API=http://%s WEDGE_TOKEN=%s wedge deploy DIR\n\n", o.control, w.Core().AdminToken())
	return b.String()
}

// pops reads the map.
func (o *worldOptions) pops() (pops []wedge.PoP, err error) {
	if o.file == "" {
		return world.Cities, nil
	}
	b, err := os.ReadFile(o.file)
	if err != nil {
		return nil, &wedge.Error{Op: "read map", What: o.file, Kind: wedge.NotExist, Err: err}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&pops); err != nil {
		return nil, &wedge.Error{Op: "read map", What: o.file, Kind: wedge.Invalid, Err: err, Hint: `Write a list such as [{"name": "fra", "city": "Frankfurt", "lat": 50.1, "lon": 8.7}].`}
	}
	if len(pops) == 0 || len(pops) > maxWorld {
		return nil, &wedge.Error{Op: "read map", What: o.file, Kind: wedge.Invalid, Err: fmt.Errorf("it has %d PoPs", len(pops)), Hint: "Give 1 to 500."}
	}
	return pops, nil
}

const maxWorld = 500

// loadApps loads and builds the apps in these directories. Each has, besides its own hosts, NAME.localhost; one that is
// alone has every host.
func loadApps(ctx context.Context, talk io.Writer, dirs []string) (apps []*manifest.App, err error) {
	for _, dir := range dirs {
		o := runOptions{Path: dir}
		app, err := o.prepare(ctx, talk)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(dir), err)
		}
		if len(dirs) > 1 || len(app.Version.Hosts) > 0 {
			app.Version.Hosts = append(slices.Clip(app.Version.Hosts), app.Version.Service+".localhost")
		}
		apps = append(apps, app)
	}
	return apps, nil
}

// copies are apps for one node of several: a node numbers its versions.
func copies(apps []*manifest.App) (list []*manifest.App) {
	for _, a := range apps {
		own := *a
		list = append(list, &own)
	}
	return list
}

// lineMerger lets several write to one terminal, whole lines with their names before.
type lineMerger struct {
	mu sync.Mutex
	w  io.Writer
}

func (m *lineMerger) say(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _ = io.WriteString(m.w, s)
}

func (m *lineMerger) prefixed(name string) io.Writer { return &prefixer{m: m, name: name} }

type prefixer struct {
	m    *lineMerger
	name string
}

// Write implements io.Writer. A node writes whole lines.
func (p *prefixer) Write(b []byte) (int, error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for line := range bytes.Lines(b) {
		if _, err := fmt.Fprintf(p.m.w, "%-5s| %s", p.name, line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// refusal is the error that an answer of an API says.
func refusal(op string, status int, body []byte) error {
	var a struct{ Kind, Error, Hint string }
	if json.Unmarshal(body, &a) != nil || a.Error == "" {
		return &wedge.Error{Op: op, Kind: wedge.Internal, Err: fmt.Errorf("the answer was %d, and is not understood", status)}
	}
	return &wedge.Error{Kind: wedge.KindNamed(a.Kind), Err: errors.New(a.Error), Hint: a.Hint}
}
