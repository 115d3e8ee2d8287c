// Package ops is what commands do to a cluster: requests by Kafka's protocol, with typed results. It prints nothing and knows no command
// line; kraft's commands, Kafka's scripts and others show the results. An operation whose result is not complete returns it with an error
// of type *Lacking.
package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
)

// Explain makes one sentence of an error that a broker answered.
func Explain(err error, message string) error {
	if err == nil {
		return nil
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		if message != "" {
			return fmt.Errorf("%s (%s)", strings.TrimRight(message, "."), k.Message)
		}
		return fmt.Errorf("%s (%s)", strings.TrimRight(k.Description, "."), k.Message)
	}
	return Plain(err)
}

// Answered makes one sentence of what a broker answered, nil for success.
func Answered(code int16, message *string) error {
	text := ""
	if message != nil {
		text = *message
	}
	return Explain(kerr.ErrorForCode(code), text)
}

// ErrNoController is the error of a command whose broker knows no active controller.
var ErrNoController = errors.New("the broker knows no leader of the metadata quorum: start voters until a majority runs, and check that this broker can reach them; until then leaders, topics and settings cannot change, and partitions whose leader has failed stay offline")

// Lacking is the error beside a valid result that is not complete: each line names something that is missing, and why.
type Lacking struct{ Lines []string }

// Error implements error.
func (l *Lacking) Error() string { return strings.Join(l.Lines, "; ") }

// Add notes another missing thing, once.
func (l *Lacking) Add(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(l.Lines, line) {
		l.Lines = append(l.Lines, line)
	}
}

// Err returns l, or nil if nothing is missing.
func (l *Lacking) Err() error {
	if len(l.Lines) == 0 {
		return nil
	}
	return l
}

// Of takes the error of a request to several brokers. Where some of them answered, it notes the others and returns nil. What another
// Lacking notes, it notes, too. It returns any other error.
func (l *Lacking) Of(err error) error {
	var other *Lacking
	if errors.As(err, &other) {
		for _, line := range other.Lines {
			l.Add("%s", line)
		}
		return nil
	}
	var shards *kadm.ShardErrors
	if !errors.As(err, &shards) || shards.AllFailed {
		return err
	}
	for _, e := range shards.Errs {
		if e.Broker.NodeID < 0 { // of partitions without a leader, which are told apart
			continue
		}
		l.Add("broker %d at %s does not answer: the result lacks the data that only this broker has", e.Broker.NodeID, net.JoinHostPort(e.Broker.Host, fmt.Sprint(e.Broker.Port)))
	}
	return nil
}

// ErrEnded is what Plain returns for a connection that a broker ended before it answered.
var ErrEnded = errors.New("the broker closed the connection without a response: it may be shutting down, or require TLS or SASL: retry, or give the command the broker's security.protocol")

// Plain replaces franz-go's errors of connections. Of one that the broker ended before it answered franz-go guesses that TLS or SASL is missing,
// but mostly the broker is going down: the result is ErrEnded. Of one that could not be made the result says why in words. Plain returns other
// errors as they are.
func Plain(err error) error {
	var ended *kgo.ErrFirstReadEOF
	if errors.As(err, &ended) {
		return ErrEnded
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		if op.Addr != nil {
			return fmt.Errorf("cannot connect to %s: %s", op.Addr, wire.Unreached(err))
		}
		return fmt.Errorf("cannot connect: %s", wire.Unreached(err))
	}
	return err
}

// HasController asks the brokers that the client was given, one after the other, whether the cluster has an active controller; known is false
// if none answers.
func HasController(ctx context.Context, client *kgo.Client) (led, known bool) {
	for _, seed := range client.SeedBrokers() {
		once, cancel := context.WithTimeout(ctx, controllerPatience)
		resp, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(once, seed)
		cancel()
		if err == nil && resp.ErrorCode == 0 {
			return resp.ControllerID >= 0, true
		}
	}
	return false, false
}

// controllerPatience is how long HasController waits for one broker.
const controllerPatience = time.Second / 3

// Counted is a number with its noun.
func Counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
