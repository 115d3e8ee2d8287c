package scripts

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrEnded is what Plain returns for a connection that a broker ended before it answered.
var ErrEnded = errors.New("a broker ended the connection before it answered: it may be going down, or it wants TLS or SASL; ask again, or give the command its security.protocol")

// Plain replaces franz-go's error for a connection that the broker ended before it answered: franz-go guesses that TLS or SASL is missing,
// but mostly the broker is going down. The result is ErrEnded then; Plain returns other errors as they are.
func Plain(err error) error {
	var ended *kgo.ErrFirstReadEOF
	if errors.As(err, &ended) {
		return ErrEnded
	}
	return err
}
