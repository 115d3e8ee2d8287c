//go:build unix

package running

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Alive reports whether a process runs. One that has ended and that its parent has not asked for (a zombie) does not.
func Alive(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // on Linux: number (program) state
	_, state, ok := strings.Cut(string(stat), ") ")
	return err != nil || !ok || !strings.HasPrefix(state, "Z")
}

// Terminate asks a process to stop.
func Terminate(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
