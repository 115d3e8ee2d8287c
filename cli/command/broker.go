package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func brokerCommand() *cli.Command {
	return &cli.Command{
		Name:  "broker",
		Usage: "list brokers, take them out of a cluster, change what they log",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list brokers, also those that do not run", UsageText: "kraft broker list",
				Description: `STATE is one of:

   running    serves clients
   starting   loads its logs, which takes long after a crash, and does not serve clients yet
   disk full  rejects producers, and other brokers lead its partitions
   fenced     runs, but one of its disks does not answer, or it is stopping: other brokers lead its partitions
   down       does not run, or the controller does not reach it
   no answer  not known, since the quorum has no leader`,
				OnUsageError: usageError, Action: listBrokers, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "drain", Usage: "move everything off a broker, so that it can be stopped for good", UsageText: "kraft broker drain N [--dry-run]",
				OnUsageError: usageError, Flags: moveFlags(), Action: withArguments(drain),
			},
			{
				Name: "remove", Usage: "forget a broker that is stopped for good and holds nothing", UsageText: "kraft broker remove N [--yes | --dry-run]",
				OnUsageError: usageError, Flags: append(confirmFlags(), bootstrapFlag()), Action: withArguments(removeBroker),
			},
			{
				Name: "log-level", Usage: "show or set how much the parts of a broker log", UsageText: "kraft broker log-level N [LOGGER=LEVEL]...",
				Description: `LEVEL is TRACE, DEBUG, INFO, WARN, ERROR or FATAL; LOGGER is a name that this command lists, or the value of component= in a log line.
A change lasts until the broker stops.

   kraft broker log-level 1 requests=DEBUG`,
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()}, Action: withArguments(logLevels),
			},
		},
	}
}

type brokerLines []ops.Broker

func (l brokerLines) text(w io.Writer) error {
	rows := [][]any{{"BROKER", "ADDRESS", "RACK", "STATE", "REPLICAS", "LEADS", "BYTES"}}
	for _, b := range l {
		rack, bytes := "-", "-"
		if b.Rack != nil {
			rack = orDash(*b.Rack)
		}
		if b.Bytes >= 0 {
			bytes = size(b.Bytes)
		}
		rows = append(rows, []any{b.Broker, b.Address, rack, b.State, b.Replicas, b.Leads, bytes})
	}
	return table(w, rows)
}

func listBrokers(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		out, err := ops.Brokers(c.Context, client)
		return show(c, brokerLines(out), err)
	})
}

func removeBroker(c *cli.Context, args []string) error {
	id, err := nodeArgument(c, args)
	if err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		if goOn, err := confirm(c, func() ([]string, error) {
			return []string{fmt.Sprintf("forget broker %d", id)}, ops.CheckRemoval(c.Context, client, id)
		}); !goOn || err != nil {
			return err
		}
		if err := ops.RemoveBroker(c.Context, client, id); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "forgot broker %d\n", id)
		return nil
	})
}

// loggerLevels are the levels of a broker's loggers, by name.
type loggerLevels map[string]string

func (l loggerLevels) text(w io.Writer) error {
	rows := [][]any{{"LOGGER", "LEVEL"}}
	for _, name := range sortedKeys(l) {
		rows = append(rows, []any{name, l[name]})
	}
	return table(w, rows)
}

func logLevels(c *cli.Context, args []string) error {
	id, err := nodeArgument(c, args[:1])
	if err != nil {
		return err
	}
	changes := map[string]string{}
	for _, text := range args[1:] {
		name, level, ok := strings.Cut(text, "=")
		if !ok {
			return badUse("%s takes LOGGER=LEVEL, got %q", c.Command.HelpName, text)
		}
		if _, twice := changes[name]; twice {
			return badUse("%s is given twice: give each logger one level", name)
		}
		changes[name] = strings.ToUpper(level)
	}
	return withClient(c, func(client *kgo.Client) error {
		if len(changes) > 0 {
			if err := ops.SetLogLevels(c.Context, client, id, changes); err != nil {
				return err
			}
		}
		levels, err := ops.LogLevels(c.Context, client, id)
		return show(c, loggerLevels(levels), err)
	})
}
