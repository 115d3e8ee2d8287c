package command

import (
	"errors"

	"github.com/urfave/cli/v2"
)

func startDaemon(*cli.Context, string) error {
	return badUseOf(errors.New("--daemon does not work on Windows: run kraft as a service"))
}

func isDaemon() bool { return false }

// There is no SIGHUP here.
func reopenOnHangup(logFiles, func(error)) (stop func()) { return func() {} }
