package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

func consumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "consume",
		Usage:     "print a topic's records, a line each",
		UsageText: "kraft consume TOPIC [--from-beginning] [-n N] [--group G]",
		Description: "Without --from-beginning only records that come from now on are printed; a group goes on where it\n" +
			"last committed. Stops after -n records, or at Ctrl-C.",
		OnUsageError: usageError,
		Flags: []cli.Flag{
			bootstrapFlag(),
			&cli.StringFlag{Name: "group", Aliases: []string{"g"}, Usage: "share the partitions with the other members of group `G` and commit offsets"},
			&cli.BoolFlag{Name: "from-beginning", Usage: "begin with the oldest record where nothing is committed"},
			&cli.IntFlag{Name: "n", Usage: "stop after `N` records; 0 goes on for ever"},
			&cli.BoolFlag{Name: "keys", Aliases: []string{"k"}, Usage: "print key, a tab and the value"},
			&cli.BoolFlag{Name: "meta", Aliases: []string{"m"}, Usage: "print partition, offset, timestamp and headers before each record"},
		},
		Action: withArguments(consume),
	}
}

func consume(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft consume takes one topic")
	}
	start := kgo.NewOffset().AtEnd()
	if c.Bool("from-beginning") {
		start = kgo.NewOffset().AtStart()
	}
	opts := []kgo.Opt{kgo.ConsumeTopics(args[0]), kgo.ConsumeResetOffset(start), kgo.AllowAutoTopicCreation()}
	if g := c.String("group"); g != "" {
		opts = append(opts, kgo.ConsumerGroup(g), kgo.DisableAutoCommit())
	}
	client, err := newClient(c, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(c.App.Writer)
	for left := c.Int("n"); ; {
		fetches := client.PollRecords(c.Context, left)
		var failure error
		fetches.EachError(func(_ string, _ int32, err error) {
			if !errors.Is(err, context.Canceled) && failure == nil {
				failure = explain(err, "")
			}
		})
		if failure != nil {
			return failure
		}
		records := fetches.Records()
		for _, r := range records {
			printRecord(c, out, r)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if c.IsSet("group") && len(records) > 0 {
			// Also after a signal: what is printed is done.
			if err := client.CommitRecords(context.WithoutCancel(c.Context), records...); err != nil {
				return fmt.Errorf("offsets are not committed: %w", explain(err, ""))
			}
		}
		if c.Context.Err() != nil {
			return nil
		}
		if c.Int("n") > 0 {
			if left -= len(records); left <= 0 {
				return nil
			}
		}
	}
}

func printRecord(c *cli.Context, out *bufio.Writer, r *kgo.Record) {
	if c.Bool("meta") {
		fmt.Fprintf(out, "%d\t%d\t%s\t", r.Partition, r.Offset, r.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z"))
		for i, h := range r.Headers {
			if i > 0 {
				out.WriteByte(',')
			}
			fmt.Fprintf(out, "%s=%s", h.Key, h.Value)
		}
		out.WriteByte('\t')
	}
	if c.Bool("keys") {
		out.Write(r.Key)
		out.WriteByte('\t')
	}
	out.Write(r.Value)
	out.WriteByte('\n')
}
