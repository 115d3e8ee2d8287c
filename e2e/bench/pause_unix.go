//go:build unix

package main

import (
	"syscall"

	"kraft/e2e/harness"
)

// standStill stops a process where it is, as a machine that hangs does.
func standStill(p *harness.Process) error { return p.Cmd.Process.Signal(syscall.SIGSTOP) }

func goOn(p *harness.Process) error { return p.Cmd.Process.Signal(syscall.SIGCONT) }
