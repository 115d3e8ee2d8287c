package command

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func groupCommand() *cli.Command {
	return &cli.Command{
		Name:  "group",
		Usage: "list, describe, reset and delete consumer groups, and tell their lag",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list consumer groups", UsageText: "kraft group list",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()}, Action: listGroups,
			},
			{
				Name: "describe", Usage: "show members, committed offsets and lag of groups", UsageText: "kraft group describe GROUP...",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()}, Action: withArguments(describeGroups),
			},
			{
				Name: "lag", Usage: "show how many records groups have yet to read, of each topic", UsageText: "kraft group lag [GROUP...] [--watch]",
				OnUsageError: usageError,
				Flags: []cli.Flag{bootstrapFlag(), jsonFlag(), &cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "look again and again, until Ctrl-C"},
					&cli.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "`TIME` between looks"}},
				Action: groupLag,
			},
			resetCommand(),
			{
				Name: "delete", Usage: "delete groups without members, with their committed offsets", UsageText: "kraft group delete GROUP... [--yes | --dry-run]",
				OnUsageError: usageError, Action: withArguments(deleteGroups), Flags: append(confirmFlags(), bootstrapFlag()),
			},
		},
	}
}

func listGroups(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.ListGroups(c.Context, admin)
		return show(c, groupList(out), err)
	})
}

func deleteGroups(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		if goOn, err := confirm(c, func() (lines []string, err error) {
			groups, err := ops.DescribeGroups(c.Context, admin, names)
			if err != nil && len(groups) < len(names) {
				return nil, err
			}
			for _, g := range groups {
				lines = append(lines, fmt.Sprintf("delete group %s (%s, %s) with its committed offsets", g.Group, g.State, counted(g.Members, "member")))
			}
			return lines, nil
		}); !goOn || err != nil {
			return err
		}
		out, err := ops.DeleteGroups(c.Context, admin, names)
		if err != nil {
			return err
		}
		return each(c, "deleted group", out)
	})
}

type groupList []ops.GroupSummary

func (l groupList) text(w io.Writer) error {
	rows := [][]any{{"GROUP", "STATE", "PROTOCOL", "COORDINATOR"}}
	for _, g := range l {
		rows = append(rows, []any{g.Group, g.State, orDash(g.Protocol), g.Coordinator})
	}
	return table(w, rows)
}

type groupDescriptions []*ops.GroupDescription

func (l groupDescriptions) text(w io.Writer) error {
	for _, g := range l {
		fmt.Fprintf(w, "group %s  state %s  protocol %s  coordinator %d  members %d  lag %d\n", g.Group, g.State, orDash(g.Protocol), g.Coordinator, g.Members, g.Lag)
		rows := [][]any{{"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "CLIENT", "HOST"}}
		for _, p := range g.Partitions {
			committed := "-"
			if p.Committed != nil {
				committed = fmt.Sprint(*p.Committed)
			}
			rows = append(rows, []any{p.Topic, p.Partition, committed, offsetOrDash(p.End), offsetOrDash(p.Lag), orDash(p.Member), orDash(p.Client), orDash(p.Host)})
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	return nil
}

func describeGroups(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.DescribeGroups(c.Context, admin, names)
		return show(c, groupDescriptions(out), err)
	})
}

type topicLags []ops.TopicLag

func (l topicLags) text(w io.Writer) error {
	rows := [][]any{{"GROUP", "STATE", "MEMBERS", "TOPIC", "LAG"}}
	for _, t := range l {
		rows = append(rows, []any{t.Group, t.State, t.Members, t.Topic, offsetOrDash(t.Lag)})
	}
	return table(w, rows)
}

func groupLag(c *cli.Context) error {
	names, err := interspersed(c)
	if err != nil {
		return err
	}
	if c.Duration("interval") <= 0 {
		return badUse("--interval must be a duration above 0, like 2s, not %v", c.Duration("interval"))
	}
	endWithReader(c)
	return withAdmin(c, func(admin *kadm.Client) error {
		for {
			out, err := ops.Lags(c.Context, admin, names)
			var lacks *ops.Lacking
			if c.Bool("watch") && isTerminal(c.App.Writer) && (err == nil || errors.As(err, &lacks)) { // each look replaces the one before
				fmt.Fprint(c.App.Writer, clearScreen)
			}
			if err := show(c, topicLags(out), err); err != nil && !errors.Is(err, errTold) || !c.Bool("watch") {
				return err
			}
			select {
			case <-c.Context.Done():
				return nil
			case <-time.After(c.Duration("interval")):
			}
		}
	})
}
