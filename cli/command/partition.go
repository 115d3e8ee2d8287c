package command

import (
	"fmt"
	"io"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/cli/plan"
)

func partitionCommand() *cli.Command {
	return &cli.Command{
		Name:  "partition",
		Usage: "list partitions and their troubles, move them, elect their leaders",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list partitions, all or those in trouble", UsageText: "kraft partition list [TOPIC...] [--under-replicated | --offline | --not-preferred]",
				OnUsageError: usageError, Action: listPartitions,
				Flags: []cli.Flag{
					bootstrapFlag(), jsonFlag(),
					&cli.BoolFlag{Name: "under-replicated", Usage: "only those that lack a replica in their ISR"},
					&cli.BoolFlag{Name: "offline", Usage: "only those without a leader"},
					&cli.BoolFlag{Name: "not-preferred", Usage: "only partitions that their first (preferred) replica does not lead"},
				},
			},
			{
				Name: "move", Usage: "move partitions to other brokers, and wait until they are there", UsageText: "kraft partition move TOPIC[:PARTITION]... --to BROKER,BROKER... [--dry-run]",
				Description: `Moves each partition's replicas to the brokers of --to, the first of which becomes the preferred leader. kraft cluster
rebalance and kraft broker drain choose the target brokers themselves.

   kraft partition move orders:3 --to 2,4,5
   kraft partition move orders --to 1,2,3 --throttle 50000000`,
				OnUsageError: usageError, Action: withArguments(movePartitions), Flags: append(moveFlags(), &cli.StringFlag{Name: "to", Usage: "the `BROKERS`' ids with commas"}),
			},
			{
				Name: "status", Usage: "show moves that are under way", UsageText: "kraft partition status", OnUsageError: usageError, Action: movesUnderWay, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "cancel", Usage: "cancel moves in progress and keep the previous replicas", UsageText: "kraft partition cancel TOPIC[:PARTITION]...",
				OnUsageError: usageError, Action: withArguments(cancelMoves), Flags: []cli.Flag{bootstrapFlag()},
			},
			{
				Name: "unthrottle", Usage: "remove all replication throttles", UsageText: "kraft partition unthrottle",
				Description:  "An interrupted move continues under its throttle. This command removes the throttle, during the move or after it.",
				OnUsageError: usageError, Action: unthrottle, Flags: []cli.Flag{bootstrapFlag()},
			},
			{
				Name: "elect", Usage: "elect partitions' preferred leaders or, with --unclean, any live replica", UsageText: "kraft partition elect [TOPIC[:PARTITION]...] [--unclean]",
				Description:  "--unclean elects a replica that may lack acknowledged records if no other replica is alive. It applies only to partitions named here.",
				OnUsageError: usageError, Action: electPartitions,
				Flags: []cli.Flag{bootstrapFlag(), &cli.BoolFlag{Name: "unclean", Usage: "let any living replica lead: acknowledged records may be lost"}},
			},
		},
	}
}

type partitionLines []ops.Partition

func (l partitionLines) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "LEADER", "REPLICAS", "ISR", "OFFLINE"}}
	for _, p := range l {
		leader := "none"
		if p.Leader >= 0 {
			leader = fmt.Sprint(p.Leader)
		}
		rows = append(rows, []any{p.Topic, p.Partition, leader, ids(p.Replicas), orDash(ids(p.ISR)), orDash(ids(p.Offline))})
	}
	return table(w, rows)
}

func listPartitions(c *cli.Context) error {
	topics, err := interspersed(c)
	if err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.ListPartitions(c.Context, admin, topics, func(p ops.Partition) bool {
			return (!c.Bool("under-replicated") || len(p.ISR) < len(p.Replicas)) && (!c.Bool("offline") || p.Leader < 0) &&
				(!c.Bool("not-preferred") || len(p.Replicas) > 0 && p.Leader != p.Replicas[0])
		})
		return show(c, partitionLines(out), err)
	})
}

func movePartitions(c *cli.Context, words []string) error {
	to, err := parseIDs("to", c.String("to"))
	if err != nil {
		return err
	}
	names, err := ops.ParsePartitions(words)
	if err != nil {
		return badUseOf(err)
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		parts, err := ops.Find(c.Context, admin, names)
		if err != nil {
			return err
		}
		var moves []plan.Move
		for _, p := range parts {
			if !slices.Equal(p.Replicas, to) {
				moves = append(moves, plan.Move{Partition: plan.Partition{Topic: p.Topic, Number: p.Number, Replicas: to}, Before: p.Replicas})
			}
		}
		return carryOut(c, admin, moves, "they are there already")
	})
}

type moveLines []ops.Reassignment

func (l moveLines) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING"}}
	for _, m := range l {
		rows = append(rows, []any{m.Topic, m.Partition, ids(m.Replicas), orDash(ids(m.Adding)), orDash(ids(m.Removing))})
	}
	return table(w, rows)
}

func movesUnderWay(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.Reassignments(c.Context, admin)
		return show(c, moveLines(out), err)
	})
}

// unthrottle removes all replication throttles.
func unthrottle(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		if err := ops.Unthrottle(c.Context, admin); err != nil {
			return err
		}
		fmt.Fprintln(c.App.Writer, "replication has no throttle any more")
		return nil
	})
}

func cancelMoves(c *cli.Context, words []string) error {
	names, err := ops.ParsePartitions(words)
	if err != nil {
		return badUseOf(err)
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		n, err := ops.CancelMoves(c.Context, admin, names)
		if err != nil {
			return err
		}
		if n == 0 {
			fmt.Fprintln(c.App.Writer, "none of them is being moved")
			return nil
		}
		fmt.Fprintf(c.App.Writer, "gave up %d moves\n", n)
		return nil
	})
}

func electPartitions(c *cli.Context) error {
	words, err := interspersed(c)
	if err != nil {
		return err
	}
	if c.Bool("unclean") && len(words) == 0 {
		return badUse("--unclean loses records: name the partitions that it is for")
	}
	names, err := ops.ParsePartitions(words)
	if err != nil {
		return badUseOf(err)
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		elected, err := ops.Elect(c.Context, admin, names, c.Bool("unclean"))
		lacks := lacking(c, err)
		if err != nil && !lacks {
			return err
		}
		fmt.Fprintf(c.App.Writer, "elected the leaders of %s\n", counted(elected, "partition"))
		if lacks {
			return errTold
		}
		return nil
	})
}
