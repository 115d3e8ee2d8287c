package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/urfave/cli/v2"
)

// partial takes the error of a request that went to several brokers. Where some of them answered, it names each of the others on stderr
// and reports true. It returns any other error.
func partial(c *cli.Context, err error) (some bool, _ error) {
	var shards *kadm.ShardErrors
	if !errors.As(err, &shards) || shards.AllFailed {
		return false, err
	}
	for _, e := range shards.Errs {
		tellOnce(c, fmt.Sprintf("broker %d at %s does not answer: what it alone knows is missing here", e.Broker.NodeID, net.JoinHostPort(e.Broker.Host, fmt.Sprint(e.Broker.Port))))
	}
	return true, nil
}

// tellOnce writes a line to stderr unless the command has already.
func tellOnce(c *cli.Context, line string) {
	told, _ := c.App.Metadata[toldKey].(map[string]bool)
	if told == nil {
		told = map[string]bool{}
		if c.App.Metadata == nil {
			c.App.Metadata = map[string]any{}
		}
		c.App.Metadata[toldKey] = told
	}
	if !told[line] {
		told[line] = true
		fmt.Fprintln(c.App.ErrWriter, "kraft: "+line)
	}
}

const toldKey = "told"

// leaderlessPatience is how long a command asks whether the quorum has a leader, after it has done its work.
const leaderlessPatience = time.Second

// hasController asks the brokers of --bootstrap-server, one after the other, whether the cluster has an active controller; known is false
// where none answers.
func hasController(ctx context.Context, client *kgo.Client) (led, known bool) {
	for _, seed := range client.SeedBrokers() {
		once, cancel := context.WithTimeout(ctx, leaderlessPatience/3)
		resp, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(once, seed)
		cancel()
		if err == nil && resp.ErrorCode == 0 {
			return resp.ControllerID >= 0, true
		}
	}
	return false, false
}

// withoutController ends a command that has asked a cluster. Brokers without an active controller answer from the metadata that they
// last had; the command warns of that. Where the command failed for want of an answer, it returns noController in place of that error.
func withoutController(c *cli.Context, client *kgo.Client, err error) error {
	if err != nil && strings.Contains(err.Error(), "the controller broker is not available") {
		return errors.New(noController)
	}
	var network net.Error
	if err != nil && !errors.Is(err, errTold) && !errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) || c.Context.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, leaderlessPatience)
	defer cancel()
	if err != nil { // the answer would come behind the one that did not
		other, failed := newClient(c)
		if failed != nil {
			return err
		}
		defer other.Close()
		client = other
	}
	if led, known := hasController(ctx, client); led || !known {
		return err
	}
	if err != nil && !errors.Is(err, errTold) {
		return errors.New(noController)
	}
	tellOnce(c, noController)
	return err
}
