package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// The bench runs itself again for parts that need a process of their own: what is measured
// must not share a heap, a scheduler or a count of CPU time with what measures.
var parts = map[string]func(context.Context, []byte) error{
	"node":  childNode,
	"load":  childLoad,
	"cache": childCache,
}

// runChild plays a part; its task is the one argument, as JSON.
func runChild(ctx context.Context, part string, args []string) error {
	if part == "" {
		return nil
	}
	play := parts[part]
	if play == nil || len(args) != 1 {
		return fmt.Errorf("no part %q", part)
	}
	return play(ctx, []byte(args[0]))
}

// spawn starts a part. It ends when its standard input does.
func spawn(ctx context.Context, part string, task any) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, exec.CommandContext(ctx, self, "-child", part, string(arg)))
	if err == nil {
		p.self = true
	}
	return p, err
}

// process is a running child.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
	addr  string // where it listens, of a server
	self  bool   // a part of the bench
}

func start(ctx context.Context, cmd *exec.Cmd) (*process, error) {
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd: cmd, stdin: in, out: bufio.NewReader(out)}, ctx.Err()
}

// line reads a line that the child says.
func (p *process) line() (string, error) {
	s, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s ended early: %v", p.cmd.Path, p.cmd.Wait())
	}
	return strings.TrimSpace(s), nil
}

func (p *process) stop() error {
	_ = p.stdin.Close()
	return p.cmd.Wait()
}

// kill is stop for programs that do not look at their input, or take too long.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.stop()
}

// end lets a child of the bench finish, its profile above all, and then makes sure.
func (p *process) end() {
	if p.self {
		defer time.AfterFunc(15*time.Second, func() { _ = p.cmd.Process.Kill() }).Stop()
		_ = p.stop()
		return
	}
	p.kill()
}

// untilStdinEnds returns a context that ends with ctx or when the parent is gone.
func untilStdinEnds(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return ctx
}
