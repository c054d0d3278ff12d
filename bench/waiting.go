package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// waitingRequests is how many requests wait for the origin at once.
const waitingRequests = 10_000

// waitingRate is how many of them come in a second. A node sheds what comes faster than it can
// make sandboxes; how many can wait is another matter.
const waitingRate = 250

// patience is how long all of that may take.
const patience = 70 * time.Second

// waiting: requests that wait for a backend, and what each costs meanwhile.
func waiting(ctx context.Context, l *lab) (rows []Row, err error) {
	for _, lang := range []string{"js", "go"} {
		name, dir := "waiting-10k/"+lang, "bench/testdata/slow/"+lang
		_, err := l.app(ctx, "examples/hello/js") // has the packages that the guest is built with
		if err == nil {
			_, err = l.app(ctx, dir)
		}
		if missing(err) {
			rows = append(rows, skipped(name, err.Error()))
			continue
		}
		if err != nil {
			return nil, err
		}
		r, err := l.waitingRow(ctx, name, nodeTask{Dir: filepath.Join(l.root, dir), Start: wedge.StartFresh})
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (l *lab) waitingRow(ctx context.Context, name string, task nodeTask) (Row, error) {
	// A request has two connections in the node. Where too few files may be open, some of the
	// clients share theirs.
	connections := waitingRequests
	if files := raiseFiles(maxFiles); files < maxFiles {
		connections = int(files) - waitingRequests - 500
	}
	if connections < 0 {
		return skipped(name, fmt.Sprintf("it takes %d open files; raise ulimit -n", maxFiles)), nil
	}
	o, err := openOrigin()
	if err != nil {
		return Row{}, err
	}
	defer o.close()
	task.Origin = "http://" + o.addr
	p, err := l.startNode(ctx, filepath.Base(task.Dir)+"-waiting", task)
	if err != nil {
		return Row{}, err
	}
	defer p.end()
	if _, err := generate(ctx, loadTask{Addr: p.addr, Connections: 1, Rate: 100, Seconds: 30, Once: true, Want: slowAnswer}); err != nil {
		return Row{}, err
	}
	watch := watchMemory(p.cmd.Process.Pid)
	o.holdFor(waitingRequests)
	began := time.Now()
	got, err := generate(ctx, loadTask{Addr: p.addr, Connections: connections, Streams: waitingRequests - connections,
		Rate: waitingRate, Seconds: patience.Seconds(), Once: true, Want: slowAnswer})
	own, most := watch()
	if err != nil {
		return Row{}, err
	}
	if own == 0 {
		return skipped(name, "memory use is read from Linux's /proc"), nil
	}
	r := Row{Name: name, P50: mib(own), Unit: "MiB", Against: "6 GiB", Target: ">= 1", AgainstP50: 6 << 10}
	r.Ratio = r.AgainstP50 / r.P50
	r.Note = fmt.Sprintf("own memory at its peak (%.0f MiB with shared pages counted for each sandbox); %d of %d answered; %d waited at once after %.1fs; all done after %.1fs",
		mib(most), got.Requests-got.Failed, waitingRequests, o.most, o.full.Sub(began).Seconds(), time.Since(began).Seconds())
	if got.Failed > 0 {
		r.Note += "; " + got.Why
	}
	return r, nil
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

// watchMemory looks at a process's memory until the returned function is called, which returns
// the highest values; 0 where they are not known.
func watchMemory(pid int) (stop func() (own, most uint64)) {
	end, ended := make(chan struct{}), make(chan struct{})
	var peak, high uint64
	go func() {
		defer close(ended)
		for {
			if own, most, err := resident(pid); err == nil {
				peak, high = max(peak, own), max(high, most)
			}
			select {
			case <-end:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return func() (uint64, uint64) {
		close(end)
		<-ended
		return peak, high
	}
}

const slowAnswer = "at last\n"

// origin answers nobody until all have come.
type origin struct {
	addr   string
	server http.Server

	mu      sync.Mutex
	want    int // how many to hold
	here    int
	most    int
	full    time.Time     // when all had come, or patience ended
	release chan struct{} // closed then
}

func openOrigin() (*origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{addr: l.Addr().String(), release: make(chan struct{})}
	close(o.release)
	o.server.Handler = o
	go o.server.Serve(l)
	return o, nil
}

// stay is how long the origin lets them wait once all are there.
const stay = 2 * time.Second

// holdFor makes the next n requests wait for each other.
func (o *origin) holdFor(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.want, o.here, o.release = n, 0, make(chan struct{})
	time.AfterFunc(patience-15*time.Second, o.letGo)
}

func (o *origin) letGo() {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.release:
	default:
		if o.full.IsZero() {
			o.full = time.Now()
		}
		close(o.release)
	}
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.here++
	o.most = max(o.most, o.here)
	if o.here == o.want {
		o.full = time.Now()
		time.AfterFunc(stay, o.letGo)
	}
	release := o.release
	o.mu.Unlock()
	select {
	case <-release:
	case <-r.Context().Done():
	}
	o.mu.Lock()
	o.here--
	o.mu.Unlock()
	_, _ = w.Write([]byte(slowAnswer))
}

func (o *origin) close() { _ = o.server.Close() }
