package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func quorumCommand() *cli.Command {
	return &cli.Command{
		Name:  "quorum",
		Usage: "show the nodes that keep the cluster's metadata, and change which of them vote",
		Subcommands: []*cli.Command{
			{
				Name: "status", Usage: "show leader, voters and learners, and how far behind they are", UsageText: "kraft quorum status",
				OnUsageError: usageError, Action: quorumStatus, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "add", Usage: "make a learner, which joined by --join, a voter", UsageText: "kraft quorum add NODE",
				OnUsageError: usageError, Action: withArguments(addVoter), Flags: []cli.Flag{bootstrapFlag()},
			},
			{
				Name: "remove", Usage: "make a voter a learner again, or forget it if it does not run", UsageText: "kraft quorum remove NODE [--yes | --dry-run]",
				OnUsageError: usageError, Action: withArguments(removeVoter), Flags: append(confirmFlags(), bootstrapFlag()),
			},
		},
	}
}

type quorumDescription ops.QuorumDescription

func (d *quorumDescription) text(w io.Writer) error {
	fmt.Fprintf(w, "cluster %s  leader %d  term %d  high watermark %d\n", d.Cluster, d.Leader, d.Term, d.HighWatermark)
	rows := [][]any{{"NODE", "ROLE", "ADDRESS", "END", "LAG", "CAUGHT UP"}}
	for _, m := range d.Members {
		seen := "-"
		if m.CaughtUp >= 0 {
			seen = fmt.Sprintf("%v ago", max(time.Since(time.UnixMilli(m.CaughtUp)), 0).Round(time.Millisecond))
		}
		rows = append(rows, []any{m.Node, m.Role, orDash(m.Address), m.End, m.Lag, seen})
	}
	return table(w, rows)
}

func quorumStatus(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		d, err := ops.DescribeQuorum(c.Context, client)
		return show(c, (*quorumDescription)(d), err)
	})
}

func addVoter(c *cli.Context, args []string) error {
	return changeVoter(c, args, ops.AddVoter, "node %d votes now\n", "node %d votes already\n")
}

// changeVoter has a node vote, or vote no more, and prints what became of it.
func changeVoter(c *cli.Context, args []string, change func(context.Context, *kgo.Client, int32) (bool, error), done, already string) error {
	id, err := nodeArgument(c, args)
	if err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		changed, err := change(c.Context, client, id)
		if err != nil {
			return err
		}
		if !changed {
			done = already
		}
		fmt.Fprintf(c.App.Writer, done, id)
		return nil
	})
}

func removeVoter(c *cli.Context, args []string) error {
	remove := func(ctx context.Context, client *kgo.Client, id int32) (bool, error) {
		goOn, err := confirm(c, func() ([]string, error) {
			left, votes, err := ops.VotersWithout(ctx, client, id)
			if err == nil && !votes {
				err = errNoVoter
			}
			return []string{fmt.Sprintf("remove node %d from the voters: %s", id, majority(left))}, err
		})
		if errors.Is(err, errNoVoter) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !goOn {
			return false, errDryRun
		}
		return ops.RemoveVoter(ctx, client, id)
	}
	err := changeVoter(c, args, remove, "node %d votes no more\n", "node %d does not vote\n")
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}

// errDryRun ends a change that was a --dry-run.
var errDryRun = errors.New("only tried")

// errNoVoter says that a node to be removed does not vote.
var errNoVoter = errors.New("does not vote")

// majority says how many of some voters must run.
func majority(voters []int32) string {
	if len(voters) == 0 {
		return "no voter would be left"
	}
	return fmt.Sprintf("the voters are then %s, and %d of them must run", ids(voters), len(voters)/2+1)
}
