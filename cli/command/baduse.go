package command

import (
	"errors"
	"fmt"
)

// badUseError is a wrong option, value, file or address: the exit status is 2.
type badUseError struct{ err error }

func (e *badUseError) Error() string { return e.err.Error() }
func (e *badUseError) Unwrap() error { return e.err }

// badUse makes the one sentence that says what is wrong, and what is allowed.
func badUse(format string, args ...any) error { return badUseOf(fmt.Errorf(format, args...)) }

// badUseOf marks an error as one of use; nil stays nil.
func badUseOf(err error) error {
	if err == nil {
		return nil
	}
	return &badUseError{err}
}

// exitStatus is that of a command that ended with err.
func exitStatus(err error) int {
	var use *badUseError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &use):
		return 2
	}
	return 1
}
