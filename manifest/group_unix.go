//go:build unix

package manifest

import (
	"os/exec"
	"syscall"
)

// ownGroup lets the end of cmd's context end all that cmd started: a shell dies
// without telling its children.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
