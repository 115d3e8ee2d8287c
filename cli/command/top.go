package command

import (
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "watch a cluster: its brokers, its busiest topics, the groups that lag most", UsageText: "kraft top [--interval 2s] [--rows 10] [--once]",
		Description:  "With --once or --json, or if stdout is not a terminal, samples the cluster twice, one interval apart, prints the result and\nexits. Uses Kafka's protocol only, so it also works with Apache Kafka clusters.",
		OnUsageError: usageError, Action: top,
		Flags: []cli.Flag{
			bootstrapFlag(), jsonFlag(),
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Value: 2 * time.Second, Usage: "`TIME` between looks"},
			&cli.IntFlag{Name: "rows", Value: 10, Usage: "show the first `N` topics and groups"},
			&cli.BoolFlag{Name: "once", Usage: "print once"},
		},
	}
}

// clusterLook is a look with the rows that are shown of it.
type clusterLook struct {
	*ops.Look
	rows int
}

func (l clusterLook) text(w io.Writer) error {
	fmt.Fprintf(w, "cluster %s  controller %d  partitions %d  under-replicated %d  offline %d  at %s\n\n", l.Cluster, l.Controller, l.Partitions, l.UnderReplicated, l.Offline, l.At.Format(time.TimeOnly))
	if err := brokerLines(l.Brokers).text(w); err != nil {
		return err
	}
	rows := [][]any{{"TOPIC", "PARTITIONS", "RECORDS", "RECORDS/S"}}
	for _, t := range l.Topics[:min(l.rows, len(l.Topics))] {
		rows = append(rows, []any{t.Topic, t.Partitions, t.Records, fmt.Sprintf("%.1f", t.Produced)})
	}
	fmt.Fprintln(w)
	if err := table(w, rows); err != nil {
		return err
	}
	rows = [][]any{{"GROUP", "STATE", "MEMBERS", "LAG", "READ/S"}}
	for _, g := range l.Groups[:min(l.rows, len(l.Groups))] {
		rows = append(rows, []any{g.Group, g.State, g.Members, g.Lag, fmt.Sprintf("%.1f", g.Consumed)})
	}
	fmt.Fprintln(w)
	return table(w, rows)
}

func top(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.Duration("interval") <= 0 || c.Int("rows") <= 0 {
		return badUse("--interval must be a duration above 0, like 2s, and --rows must be above 0")
	}
	once := c.Bool("once") || c.Bool("json") || !isTerminal(c.App.Writer)
	endWithReader(c)
	return withClient(c, func(client *kgo.Client) error {
		before, err := ops.LookAt(c.Context, client, nil)
		if err != nil {
			return err
		}
		for {
			select {
			case <-c.Context.Done():
				return nil
			case <-time.After(c.Duration("interval")):
			}
			now, err := ops.LookAt(c.Context, client, before)
			if err != nil {
				return err
			}
			if !once {
				fmt.Fprint(c.App.Writer, clearScreen)
			}
			if err := tell(c, clusterLook{now, c.Int("rows")}); err != nil || once {
				return err
			}
			before = now
		}
	})
}
