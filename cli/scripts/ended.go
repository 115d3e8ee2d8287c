package scripts

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
)

var errEnded = errors.New("a broker ended the connection before it answered: it may be going down, or it wants TLS or SASL; ask again, or give the command its security.protocol")

// Plain is what a person is told of an error: where a broker ends the connection before it answers, the client's library guesses that TLS
// or SASL is missing, which it mostly is not.
func Plain(err error) error {
	var ended *kgo.ErrFirstReadEOF
	if errors.As(err, &ended) {
		return errEnded
	}
	return err
}
