package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrorCode is the protocol's code for err: that of the kerr error it wraps, REQUEST_TIMED_OUT for an
// ended context, UNKNOWN_SERVER_ERROR otherwise; 0 for nil.
func ErrorCode(err error) int16 {
	var k *kerr.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &k):
		return k.Code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return kerr.RequestTimedOut.Code
	}
	return kerr.UnknownServerError.Code
}

// AnswerError is the error that an answer tells by its code, with the answer's own sentence before the code's, if there is one; nil for code 0.
func AnswerError(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil || message == nil {
		return err
	}
	return fmt.Errorf("%s: %w", *message, err)
}

// ErrorMessage is err's own sentence for the client, without the code's; nil for nil.
func ErrorMessage(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	var k *kerr.Error
	if errors.As(err, &k) {
		if own, ok := strings.CutSuffix(text, ": "+k.Error()); ok {
			text = own
		} else if text == k.Error() {
			text = k.Description
		}
	}
	return &text
}

// Unreached says in words why a node is not reached, for people who know no system calls; of other errors it is their text.
func Unreached(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the name " + dns.Name + " does not resolve"
	case errors.As(err, &dns):
		return "the resolver does not answer for " + dns.Name
	case IsRefused(err):
		return "connection refused: no process listens there"
	case isAny(err, noRoute):
		return "no route to the host"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isAny(err, reset):
		return "what listens there closes the connection"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer from there"
	}
	return err.Error()
}

// IsRefused reports whether no process listens at the address of a connection that could not be made.
func IsRefused(err error) bool { return isAny(err, refused) }

func isAny(err error, codes []syscall.Errno) bool {
	return slices.ContainsFunc(codes, func(code syscall.Errno) bool { return errors.Is(err, code) })
}

// IsAny reports whether err is one of errs, as errors.Is tells.
func IsAny(err error, errs ...error) bool {
	return slices.ContainsFunc(errs, func(one error) bool { return errors.Is(err, one) })
}
