//go:build !unix

package main

import (
	"errors"

	"kraft/e2e/harness"
)

var errNoPause = errors.New("processes cannot be stopped where they are on this system")

func standStill(*harness.Process) error { return errNoPause }

func goOn(*harness.Process) error { return errNoPause }
