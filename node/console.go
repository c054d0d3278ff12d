package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/trace"
)

// console is where a node talks to the person who started it: whole lines, one writer at a
// time. What guests print goes to stdout and stderr as it is, what Wedge says to stderr.
type console struct {
	cfg Config
	mu  sync.Mutex
	// onGuestError, if set, takes guests' errors instead of showing them.
	onGuestError func(error)
	// raw passes guests' output on as it is; otherwise every piece ends a line.
	raw bool
}

func newConsole(cfg Config) *console { return &console{cfg: cfg} }

func (c *console) write(w io.Writer, s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(w, s)
}

func (c *console) say(s string) { c.write(c.cfg.Stderr, s+"\n") }

// output passes on what a guest printed. A piece without its newline is a guest's last one: it
// gets one, so that what others print does not stick to it.
func (c *console) output(stream int, b []byte) {
	w := c.cfg.Stdout
	if stream == 2 {
		w = c.cfg.Stderr
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = w.Write(b)
	if !c.raw && !bytes.HasSuffix(b, []byte("\n")) {
		_, _ = w.Write([]byte("\n"))
	}
}

// log shows a line that a guest sent to a log endpoint.
func (c *console) log(endpoint string, line []byte) {
	c.write(c.cfg.Stdout, fmt.Sprintf("%s :: %s\n", endpoint, bytes.TrimSuffix(line, []byte("\n"))))
}

// purged shows a purge.
func (c *console) purged(p wedge.Purge) { c.say(purgeLine(p)) }

func purgeLine(p wedge.Purge) string {
	what := p.URL
	switch {
	case p.All:
		what = "all of " + p.Service
	case what == "":
		what = "keys " + strings.Join(p.Keys, " ")
	}
	kind := "purged"
	if p.Soft {
		kind = "purged softly"
	}
	return kind + " " + what + " (" + p.ID + ")"
}

// purgedToo shows a purge that another PoP accepted.
func (c *console) purgedToo(p wedge.Purge) {
	if !c.cfg.Quiet {
		c.say(purgeLine(p))
	}
}

// access shows a request.
func (c *console) access(a front.Access) {
	if c.cfg.Quiet {
		return
	}
	if c.cfg.JSON {
		line, _ := json.Marshal(a)
		c.say(string(line))
		return
	}
	status := fmt.Sprint(a.Status)
	if a.Status == 0 {
		status = "cut"
	}
	if a.Refused != "" {
		status += " rate=" + a.Refused
	}
	c.say(fmt.Sprintf("%s %-4s %q %s %s %s", a.Start.Format("15:04:05.000"), a.Method, a.Path, status, a.Duration.Round(10*time.Microsecond), a.RequestID))
}

// guestError tells the author why a guest failed, which the client is not told.
func (c *console) guestError(requestID string, err error) {
	if c.onGuestError != nil {
		c.onGuestError(err)
		return
	}
	c.failure("request "+requestID+" failed", err)
}

func (c *console) failure(what string, err error) {
	s := fmt.Sprintf("%s: %v", what, err)
	hint := wedge.HintOf(err)
	if exit := compute.ExitCode(0); hint == "" && errors.As(err, &exit) {
		hint = "It ended itself; its own stderr, shown above, may say why."
	}
	if hint != "" {
		s += "\n  hint: " + hint
	}
	c.say(s)
}

func (c *console) trace(t *trace.Trace) {
	var b strings.Builder
	if c.cfg.JSON {
		_ = json.NewEncoder(&b).Encode(t)
	} else {
		_ = t.Print(&b)
	}
	c.write(c.cfg.Stderr, b.String())
}

// progress says what takes long, every second until the returned function is called.
func (c *console) progress(what string) (done func()) {
	stop := make(chan struct{})
	var w sync.WaitGroup
	began := time.Now()
	w.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				c.say(fmt.Sprintf("%s ... %ds", what, int(time.Since(began).Seconds())))
			}
		}
	})
	return func() {
		close(stop)
		w.Wait()
	}
}

// announce says what serves where.
func (n *Node) announce() {
	n.mu.Lock()
	var all []*deployment
	for _, name := range slices.Sorted(maps.Keys(n.deployed)) {
		all = append(all, n.deployed[name])
	}
	n.mu.Unlock()
	for _, d := range all {
		for _, w := range d.app.Warnings {
			n.console.say("warning: " + w)
		}
		n.announceVersion(d)
	}
	plain, secure := n.Addrs()
	for _, a := range plain {
		n.console.say("serving http://" + shown(a))
	}
	for _, a := range secure {
		n.console.say("serving https://" + shown(a))
	}
	if n.ops != nil {
		n.console.say("metrics at http://" + shown(n.ops.listener.Addr()) + "/metrics")
	}
}

// announceVersion says what serves.
func (n *Node) announceVersion(d *deployment) {
	if d.module == nil {
		b, _ := d.version.Backend(d.version.Rules[0].Backends[0].Backend)
		at := b.Dir
		if at == "" {
			at = b.URL.String()
		}
		n.console.say(fmt.Sprintf("%s: no guest; backend %q at %s, through the cache", d.version.Service, b.Name, at))
		return
	}
	i := d.module.Info
	how := fmt.Sprintf("ready after %s", i.Took.Round(time.Millisecond))
	if i.Shared {
		how += ", nothing compiled"
	}
	n.console.say(fmt.Sprintf("%s: %.1f MB of code, %.1f MB of data, start = %q, %s", d.version.Service, mb(i.CodeBytes), mb(i.DataBytes), d.version.Start, how))
	if i.Unpooled != "" {
		n.console.say("note: every request builds an instance anew, because " + i.Unpooled)
	}
}

func mb(n int) float64 { return float64(n) / 1e6 }

// shown is an address that can be opened: a wildcard stands for this machine.
func shown(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return a.String()
}
