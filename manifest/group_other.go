//go:build !unix

package manifest

import "os/exec"

// ownGroup does nothing here: only the command itself is ended with its context.
func ownGroup(*exec.Cmd) {}
