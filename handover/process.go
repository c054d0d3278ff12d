package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Process is this process in the line of those that follow each other.
type Process struct {
	say         func(string)
	predecessor *peer // nil: none, or it has handed everything over
	prepared    bool  // it was told so

	mu      sync.Mutex
	sockets map[socket][]*os.File // those to be handed on, in the order in which they were asked for
	closed  bool

	activated []net.Listener // that systemd has bound, and nobody has asked for
}

// New returns this process, with what its predecessor has left it. say tells the operator.
func New(say func(string)) (*Process, error) {
	p := &Process{say: say, sockets: map[socket][]*os.File{}}
	return p, p.inherit()
}

// A Term is a time in which the process serves. There is a second one if a successor fails after it was given all.
type Term struct {
	p      *Process
	end    context.CancelCauseFunc
	failed chan error // the successor has failed, and the process begins again

	mu        sync.Mutex
	given     map[socket]int
	serving   bool
	successor *peer
	handed    bool      // the successor has been given everything, or has failed
	since     time.Time // nobody accepts, or soon
	letGo     []func()
}

// Serve runs what serves until it returns. Whenever something comes from upgrade, a successor is started. Once that is
// prepared the context of run ends with [ErrSucceeded]; run then has to stop accepting, and to call [Term.LetGo].
func (p *Process) Serve(ctx context.Context, upgrade <-chan os.Signal, run func(context.Context, *Term) error) error {
	stop := context.AfterFunc(ctx, p.close) // connections are refused while a process drains that nobody follows
	defer stop()
	defer p.close()
	var earlier sync.WaitGroup
	defer earlier.Wait()
	for {
		t, done := p.term(ctx, run)
		err, again := t.serve(ctx, upgrade, done)
		if !again {
			t.abandon()
			return err
		}
		earlier.Go(func() { <-done }) // it finishes its requests
	}
}

func (p *Process) term(ctx context.Context, run func(context.Context, *Term) error) (*Term, <-chan error) {
	t := &Term{p: p, failed: make(chan error, 1), given: map[socket]int{}}
	ctx, t.end = context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() {
		defer t.end(nil)
		done <- run(ctx, t)
	}()
	return t, done
}

// serve waits for the end of the term. It reports whether another has to follow.
func (t *Term) serve(ctx context.Context, upgrade <-chan os.Signal, done <-chan error) (err error, again bool) {
	for {
		select {
		case err := <-done:
			return err, false
		case err := <-t.failed:
			if ctx.Err() != nil {
				return <-done, false
			}
			t.p.say("upgrade failed, this process serves again: " + err.Error())
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
			return nil, true
		case <-upgrade:
			if t.mayStart() && ctx.Err() == nil {
				t.start(ctx)
			}
		case <-ctx.Done():
			_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
			return <-done, false
		}
	}
}

func (t *Term) mayStart() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.serving && t.successor == nil
}

// start starts a successor. If it is prepared in time, the term's context ends; if not, the term goes on.
func (t *Term) start(ctx context.Context) {
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
	s, err := t.p.spawn()
	if err == nil {
		t.p.say(fmt.Sprintf("upgrade: process %d is started", s.pid()))
		if err = s.hear(ctx, prepared, prepareTimeout); err != nil {
			s.kill()
		}
	}
	if err != nil {
		t.p.say("upgrade failed, this process serves on: " + err.Error())
		_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
		return
	}
	t.mu.Lock()
	t.successor, t.since = s, time.Now()
	t.mu.Unlock()
	t.end(ErrSucceeded)
}

// abandon ends a successor that has not been given anything: this process was told to end just then.
func (t *Term) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.successor != nil && !t.handed {
		t.successor.kill()
	}
}

// Listen binds an address, or returns the socket that is bound to it already, by a predecessor or by systemd. A nil Term just binds.
func (t *Term) Listen(name, addr string) (net.Listener, error) {
	if t == nil {
		return net.Listen("tcp", addr)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := socket{name, addr}
	n := t.given[key]
	t.given[key]++
	return t.p.listen(key, n)
}

// listen returns the nth socket for an address.
func (p *Process) listen(key socket, n int) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < len(p.sockets[key]) {
		return net.FileListener(p.sockets[key][n])
	}
	l, err := p.bound(key.Addr), error(nil)
	if l == nil {
		l, err = net.Listen("tcp", key.Addr)
	}
	if err != nil || p.closed {
		return l, err
	}
	if f, err := duplicate(l); err == nil {
		p.sockets[key] = append(p.sockets[key], f)
	} else if !errors.Is(err, errors.ErrUnsupported) {
		l.Close()
		return nil, err
	}
	return l, nil
}

// drop closes sockets that the configuration has no more: who connects there shall not wait for ever.
func (p *Process) drop(given map[socket]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, files := range p.sockets {
		for _, f := range files[min(given[key], len(files)):] {
			f.Close()
		}
		p.sockets[key] = files[:min(given[key], len(files))]
	}
	p.surplus()
}

// close closes what would be handed on.
func (p *Process) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, files := range p.sockets {
		for _, f := range files {
			f.Close()
		}
	}
	p.surplus()
	p.sockets, p.closed = nil, true
}

// Follows reports whether there is a predecessor that waits for this process to be prepared.
func (t *Term) Follows() bool { return t != nil && t.p.predecessor != nil && !t.p.prepared }

// Prepared says that everything is done that can be done while a predecessor serves, and waits until that has let go of the
// data directory.
func (t *Term) Prepared(ctx context.Context) error {
	if !t.Follows() {
		return nil
	}
	t.p.prepared = true
	if err := t.p.predecessor.tell(prepared); err != nil {
		return err
	}
	err := t.p.predecessor.hear(ctx, yours, 0)
	if errors.Is(err, io.EOF) {
		return nil // it is gone, and its locks with it
	}
	return err
}

// Serving says that this process serves.
func (t *Term) Serving() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.serving = true
	t.p.drop(t.given)
	t.mu.Unlock()
	if pre := t.p.predecessor; pre != nil {
		_ = pre.tell(serving) // if it is gone, nobody minds
		pre.close()
		t.p.predecessor = nil
		return // it tells systemd, which listens to it
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
}

// OnLetGo has f called when the term lets go, before the successor goes on. The last one is called first.
func (t *Term) OnLetGo(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.letGo = append(t.letGo, f)
}

// LetGo is called once the term's context has ended with [ErrSucceeded] and the data directory is closed. It returns when
// the successor serves, or has failed; then the process begins a new term.
func (t *Term) LetGo() {
	t.mu.Lock()
	s, letGo, since := t.successor, t.letGo, t.since
	t.handed = true
	t.mu.Unlock()
	for i := len(letGo) - 1; i >= 0; i-- {
		letGo[i]()
	}
	given := time.Now()
	err := s.tell(yours)
	if err == nil {
		err = s.hear(context.Background(), serving, serveTimeout)
	}
	if err != nil {
		s.kill()
		t.failed <- err
		return
	}
	_, _ = daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d\n%s", s.pid(), daemon.SdNotifyReady))
	t.p.say(fmt.Sprintf("upgrade: process %d serves, this one ends; new connections waited for %v, of that %v for requests to end", s.pid(),
		time.Since(since).Round(time.Millisecond), given.Sub(since).Round(time.Millisecond)))
	t.p.close()
	s.close()
}
