//go:build unix

package e2e

import (
	"os/exec"
	"syscall"
)

// asNobody lets a command run as a user who owns nothing.
func asNobody(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
