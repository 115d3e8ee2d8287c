package command

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

// healthPatience is how long a broker may take to answer.
const healthPatience = 3 * time.Second

func healthCommand() *cli.Command {
	return &cli.Command{
		Name:         "health",
		Usage:        "say whether a broker serves clients, by the exit status: for health checks",
		UsageText:    "kraft health [-b HOST:PORT]\n\nOf several addresses one is enough that answers.",
		OnUsageError: usageError,
		Flags:        []cli.Flag{bootstrapFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return health(c)
		},
	}
}

// health asks one broker for the cluster. It takes milliseconds where one answers.
func health(c *cli.Context) error {
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(c.Context, healthPatience)
	defer cancel()
	leaderless := false
	for {
		var failed error
		for _, seed := range cl.SeedBrokers() { // no other broker: the answer is about these
			resp, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, seed)
			if err == nil {
				err = kerr.ErrorForCode(resp.ErrorCode)
			}
			switch {
			case err != nil:
				failed = err
			case resp.ControllerID < 0:
				leaderless = true
			default:
				fmt.Fprintf(c.App.Writer, "ok: %s, cluster %s\n", counted(len(resp.Brokers), "broker"), resp.ClusterID)
				return nil
			}
		}
		if !leaderless {
			return ops.Explain(failed, "")
		}
		select { // an election takes a second or two
		case <-ctx.Done():
			return ops.ErrNoController
		case <-time.After(100 * time.Millisecond):
		}
	}
}
