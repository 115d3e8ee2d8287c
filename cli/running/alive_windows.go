package running

import (
	"errors"
	"os"
)

// Alive reports whether a process exists.
func Alive(pid int) bool {
	p, err := os.FindProcess(pid) // which opens it
	if err != nil {
		return false
	}
	_ = p.Release()
	return true
}

// Terminate ends a process. Windows has no signal that asks it to stop: the next start of its node checks the logs.
func Terminate(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
