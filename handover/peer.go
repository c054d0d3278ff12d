package handover

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// peer is the process before this one, or the one after it.
type peer struct {
	cmd   *exec.Cmd // nil: a predecessor
	ended chan struct{}
	in    *bufio.Reader
	files [2]*os.File // from it, to it
}

func newPeer(from, to *os.File) *peer {
	return &peer{in: bufio.NewReaderSize(from, 64), files: [2]*os.File{from, to}}
}

func (p *peer) pid() int { return p.cmd.Process.Pid }

func (p *peer) tell(word string) error {
	_, err := io.WriteString(p.files[1], word)
	return err
}

// hear waits until the peer says a word, for a limited time unless that is 0. Its end is io.EOF, or says how a successor
// ended.
func (p *peer) hear(ctx context.Context, word string, limit time.Duration) error {
	if limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	stop := context.AfterFunc(ctx, func() { _ = p.files[0].SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := p.in.ReadSlice('\n')
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it did not say %q within %v", word[:len(word)-1], limit)
	case err == io.EOF && p.cmd != nil:
		select {
		case <-p.ended:
			return fmt.Errorf("the new process ended: %v", p.cmd.ProcessState)
		case <-ctx.Done():
		}
		return err
	case err != nil:
		return err
	case string(line) != word:
		return fmt.Errorf("it said %q in place of %q", line, word)
	}
	return nil
}

// watch waits for a successor's end.
func (p *peer) watch() {
	p.ended = make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // ProcessState has it
		close(p.ended)
	}()
}

// kill ends a successor.
func (p *peer) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	p.close()
}

func (p *peer) close() {
	for _, f := range p.files {
		f.Close()
	}
}
