package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Hits are measured with the server on one core and wrk on another, for requests a second and core.
const (
	serverCore  = "0"
	loadCore    = "1"
	hitClients  = 64
	hitRounds   = 6
	hitSeconds  = 3
	hitVariance = "median of the rounds' own ratios"
)

// sizes are the objects that are asked for.
var sizes = []struct {
	name   string
	bytes  int
	target string
}{{"1k", 1 << 10, ">= 1.5"}, {"64k", 64 << 10, ">= 1"}}

// hits: what is stored, over loopback, beside nginx and varnish.
func hits(ctx context.Context, l *lab) (rows []Row, err error) {
	if runtime.NumCPU() < 2 {
		return []Row{skipped("hits", "it takes two cores")}, nil
	}
	for _, tool := range []string{"wrk", "taskset"} {
		if _, err := exec.LookPath(tool); err != nil {
			return []Row{skipped("hits", tool+" is not installed")}, nil
		}
	}
	origin, stop, err := openContent()
	if err != nil {
		return nil, err
	}
	defer stop()
	all, end, err := l.hitServers(ctx, origin)
	if err != nil {
		return nil, err
	}
	defer end()
	for _, s := range sizes {
		for _, h := range all {
			h.runs = nil
		}
		if err := hitTurns(ctx, all, "/"+strconv.Itoa(s.bytes)); err != nil {
			return nil, err
		}
		rows = append(rows, hitRows("hits-"+s.name, s.target, all)...)
	}
	return rows, nil
}

// openContent serves bodies as long as the path says, to be stored for an hour.
func openContent() (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		h := w.Header()
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Length", strconv.Itoa(n))
		h.Set("Etag", `"`+strconv.Itoa(n)+`"`)
		_, _ = io.WriteString(w, strings.Repeat("x", n))
	})}
	go s.Serve(l)
	return l.Addr().String(), func() { s.Close() }, nil
}

// hitRun is what wrk says of one turn.
type hitRun struct {
	rate     float64 // requests a second
	p50, p99 time.Duration
	cpu      time.Duration // of the server, for each request
}

// hitTurns lets each server have its turns, the first of them to warm up.
func hitTurns(ctx context.Context, all []*hitServer, path string) error {
	for i := range hitRounds + 1 {
		for _, h := range all {
			if h.missed != "" {
				continue
			}
			seconds := hitSeconds
			if i == 0 {
				seconds = 1
			}
			run, err := h.turn(ctx, path, seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
			if i > 0 {
				h.runs = append(h.runs, run)
			}
		}
	}
	return nil
}

func (h *hitServer) turn(ctx context.Context, path string, seconds int) (hitRun, error) {
	before, err := cpuTime(h.cmd.Process.Pid)
	if err != nil {
		return hitRun{}, err
	}
	out, err := exec.CommandContext(ctx, "taskset", "-c", loadCore, "wrk", "-t1", "-c"+strconv.Itoa(hitClients),
		"-d"+strconv.Itoa(seconds)+"s", "--timeout", "10s", "--latency", "http://"+h.addr+path).CombinedOutput()
	if err != nil {
		return hitRun{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := cpuTime(h.cmd.Process.Pid)
	if err != nil {
		return hitRun{}, err
	}
	run, n, err := readWrk(string(out))
	if n > 0 {
		run.cpu = (after - before) / time.Duration(n)
	}
	return run, err
}

// readWrk reads wrk's report, and how many requests it was.
func readWrk(report string) (run hitRun, n int, err error) {
	for line := range strings.Lines(report) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "Non-2xx") || strings.Contains(line, "Socket errors"):
			return run, 0, fmt.Errorf("%s", strings.TrimSpace(line))
		case len(f) == 2 && f[0] == "50%":
			run.p50, err = time.ParseDuration(f[1])
		case len(f) == 2 && f[0] == "99%":
			run.p99, err = time.ParseDuration(f[1])
		case len(f) == 2 && f[0] == "Requests/sec:":
			run.rate, err = strconv.ParseFloat(f[1], 64)
		case len(f) > 2 && f[1] == "requests":
			n, err = strconv.Atoi(f[0])
		}
		if err != nil {
			return run, 0, err
		}
	}
	if run.rate == 0 || run.p99 == 0 {
		return run, 0, fmt.Errorf("wrk's report was not understood: %s", report)
	}
	return run, n, nil
}

// hitRows compares Wedge, the first server, with the others, nginx before all.
func hitRows(name, target string, all []*hitServer) (rows []Row) {
	ours := all[0]
	for _, h := range all[1:] {
		row := name + "/" + h.name
		if h.missed != "" {
			rows = append(rows, skipped(row, h.missed))
			continue
		}
		r := Row{Name: row, Unit: "req/s", Against: h.name, Note: "median and worst round; ratio: " + hitVariance}
		r.P50, r.P99 = ours.middle(hitRun.perSecond), ours.least(hitRun.perSecond)
		r.AgainstP50, r.AgainstP99 = h.middle(hitRun.perSecond), h.least(hitRun.perSecond)
		r.Ratio = ratio(ours, h, hitRun.perSecond)
		late := Row{Name: row + "/latency", Unit: "us", Against: h.name, Note: "of " + strconv.Itoa(hitClients) + " clients; ratio: p99, " + hitVariance}
		late.P50, late.P99 = ours.middle(hitRun.half), ours.middle(hitRun.late)
		late.AgainstP50, late.AgainstP99 = h.middle(hitRun.half), h.middle(hitRun.late)
		late.Ratio = ratio(h, ours, hitRun.late)
		if h.name == "nginx" {
			r.Target, late.Target = target, ">= 1"
		}
		rows = append(rows, r, late)
		if h.name != "varnish" { // its work is done in a process of its own
			cpu := Row{Name: row + "/cpu", Unit: "us", P50: ours.middle(hitRun.work), Against: h.name, AgainstP50: h.middle(hitRun.work), Note: "processor time of the server for each request; ratio: " + hitVariance}
			cpu.Ratio = ratio(h, ours, hitRun.work)
			rows = append(rows, cpu)
		}
	}
	return rows
}

func (r hitRun) perSecond() float64 { return r.rate }
func (r hitRun) half() float64      { return float64(r.p50) / float64(time.Microsecond) }
func (r hitRun) late() float64      { return float64(r.p99) / float64(time.Microsecond) }
func (r hitRun) work() float64      { return float64(r.cpu) / float64(time.Microsecond) }

func (h *hitServer) all(of func(hitRun) float64) (v []float64) {
	for _, r := range h.runs {
		v = append(v, of(r))
	}
	return v
}

func (h *hitServer) middle(of func(hitRun) float64) float64 { return middle(h.all(of)) }

func (h *hitServer) least(of func(hitRun) float64) float64 { return slices.Min(h.all(of)) }

// ratio divides round by round: what slows the machine down for a while hits both.
func ratio(above, below *hitServer, of func(hitRun) float64) float64 {
	var v []float64
	for i, r := range above.runs {
		v = append(v, of(r)/of(below.runs[i]))
	}
	return middle(v)
}
