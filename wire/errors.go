package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
