package node

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/front"
)

func TestConsole(t *testing.T) {
	var out, errs bytes.Buffer
	c := newConsole(Config{Stdout: &out, Stderr: &errs})
	c.output(1, []byte("a line\n"))
	c.output(1, []byte("a last word"))
	c.output(2, []byte("a complaint"))
	c.log("audit", []byte("an entry\n"))
	c.guestError("id1", &wedge.Error{Op: "run guest", What: "app", Kind: wedge.Exhausted, Err: errors.New("too much"), Hint: "Do less."})
	c.guestError("id2", compute.ExitCode(3))
	c.access(front.Access{Method: "GET", Path: "/p q\n", Status: 0, Start: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), Duration: 1234567, RequestID: "id3"})
	if want := "a line\na last word\naudit :: an entry\n"; out.String() != want {
		t.Errorf("stdout %q, want %q", out.String(), want)
	}
	want := `a complaint
request id1 failed: run guest app: too much
  hint: Do less.
request id2 failed: the guest exited with code 3
  hint: It ended itself; its own stderr, shown above, may say why.
03:04:05.006 GET  "/p q\n" cut 1.23ms id3
`
	if errs.String() != want {
		t.Errorf("stderr %q, want %q", errs.String(), want)
	}
}

// TestConsoleOnce: with --once a guest's output is passed on byte by byte.
func TestConsoleOnce(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(Config{Stdout: &out, Stderr: &out})
	c.raw = true
	c.output(1, []byte("no end"))
	if out.String() != "no end" {
		t.Errorf("printed %q", out.String())
	}
}

// TestProgress: what takes long says so, and says nothing once it is done.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		c := newConsole(Config{Stderr: &errs})
		done := c.progress("compiling app")
		time.Sleep(2500 * time.Millisecond)
		done()
		if errs.String() != "compiling app ... 1s\ncompiling app ... 2s\n" {
			t.Errorf("said %q", errs.String())
		}
	})
}
