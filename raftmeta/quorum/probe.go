package quorum

import (
	"errors"
	"syscall"
)

// isRefused says that a connection failed because nobody listens at the address.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
