//go:build !linux

package command

import (
	"errors"
	"os"
)

func runningNodes() ([]runningNode, error) {
	return nil, errors.New("kafka-server-stop finds servers on Linux only: stop it by its --pid-file")
}

func terminate(p *os.Process) error { return p.Signal(os.Interrupt) }

// openFiles can be seen on Linux only.
func openFiles(int) (open, limit int, ok bool) { return 0, 0, false }
