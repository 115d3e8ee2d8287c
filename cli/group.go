package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

func groupCommand() *cli.Command {
	return &cli.Command{
		Name:  "group",
		Usage: "list and describe consumer groups",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list consumer groups", UsageText: "kraft group list",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag()}, Action: listGroups,
			},
			{
				Name: "describe", Usage: "show members, committed offsets and lag of groups", UsageText: "kraft group describe GROUP...",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag()}, Action: withArguments(describeGroups),
			},
		},
	}
}

func listGroups(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		groups, err := admin.ListGroups(c.Context)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "GROUP\tSTATE\tPROTOCOL\tCOORDINATOR")
		for _, g := range groups.Sorted() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", g.Group, g.State, orDash(g.ProtocolType), g.Coordinator)
		}
		return w.Flush()
	})
}

func describeGroups(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		lags, err := admin.Lag(c.Context, names...)
		if err != nil {
			return err
		}
		failed := false
		for _, g := range lags.Sorted() {
			if err := g.Error(); err != nil {
				fmt.Fprintf(c.App.ErrWriter, "kraft: group %s: %v\n", g.Group, explain(err, ""))
				failed = true
				continue
			}
			if g.State == "Dead" {
				fmt.Fprintf(c.App.ErrWriter, "kraft: group %s does not exist\n", g.Group)
				failed = true
				continue
			}
			if err := printGroup(c, g); err != nil {
				return err
			}
		}
		if failed {
			return errTold
		}
		return nil
	})
}

func printGroup(c *cli.Context, g kadm.DescribedGroupLag) error {
	fmt.Fprintf(c.App.Writer, "group %s  state %s  protocol %s  coordinator %d  members %d  lag %d\n",
		g.Group, g.State, orDash(g.Protocol), g.Coordinator.NodeID, len(g.Members), g.Lag.Total())
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tPARTITION\tCOMMITTED\tEND\tLAG\tMEMBER\tCLIENT\tHOST")
	for _, l := range g.Lag.Sorted() {
		member, client, host := "-", "-", "-"
		if l.Member != nil {
			member, client, host = l.Member.MemberID, l.Member.ClientID, l.Member.ClientHost
		}
		committed := "-"
		if l.Commit.At >= 0 {
			committed = fmt.Sprint(l.Commit.At)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\n", l.Topic, l.Partition, committed, l.End.Offset, l.Lag, member, client, host)
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
