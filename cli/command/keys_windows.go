package command

import (
	"errors"
	"os"
)

// singleKeys is not there on Windows: Ctrl-C stops a kraft dev.
func singleKeys(*os.File) (restore func(), err error) { return nil, errors.ErrUnsupported }

// onHangup does nothing: Windows has no such signal.
func onHangup(func()) {}
