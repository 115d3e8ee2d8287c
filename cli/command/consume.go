package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func consumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "consume",
		Usage:     "print a topic's records, a line each",
		UsageText: "kraft consume TOPIC [--from-beginning | --offset WHERE] [-n N] [--partition N]... [--group G] [--format FORMAT]",
		Description: `Without --from-beginning or --offset, prints only records produced from now on; a group continues at its last
committed offsets. Stops after -n records, or at Ctrl-C.

   kraft consume orders --offset -1h                            what came in the last hour, and goes on coming
   kraft consume orders --offset -10                            the last ten of each partition
   kraft consume orders --partition 2 --offset 1200 -n 1        one record
   kraft consume orders --format '%p:%o %T{rfc3339} %k=%v\n'

FORMAT: %t topic, %p partition, %o offset, %e leader epoch, %d timestamp, %k key, %v value, %K and %V their lengths, %h{%k=%v } headers,
\n \t \xNN; %v{hex}, %v{base64}, %d{rfc3339} and others as franz-go's record formatter (pkg.go.dev/github.com/twmb/franz-go/pkg/kgo) has them.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			bootstrapFlag(),
			&cli.StringFlag{Name: "group", Aliases: []string{"g"}, Usage: "share the partitions with the other members of group `G` and commit offsets"},
			&cli.BoolFlag{Name: "from-beginning", Usage: "begin with the oldest record where nothing is committed"},
			&cli.StringFlag{Name: "offset", Aliases: []string{"o"}, Usage: "begin at `WHERE`: start, end, an offset (1200), so many before the end (-10), a time (2026-11-26T15:00:00Z) or so long ago (-1h)"},
			&cli.IntSliceFlag{Name: "partition", Aliases: []string{"p"}, Usage: "read partition `N` only; may be repeated"},
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "print records in this `FORMAT`, see above"},
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
	opts, err := consumerOptions(c, args[0])
	if err != nil {
		return err
	}
	printRecord, err := recordPrinter(c)
	if err != nil {
		return err
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
				failure = ops.Explain(err, "")
			}
		})
		if failure != nil {
			return failure
		}
		records := fetches.Records()
		for _, r := range records {
			printRecord(out, r)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if c.IsSet("group") && len(records) > 0 {
			// Also after a signal: what is printed is done.
			if err := client.CommitRecords(context.WithoutCancel(c.Context), records...); err != nil {
				return fmt.Errorf("offsets are not committed: %w", ops.Explain(err, ""))
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

// consumerOptions are where to begin, and with whom.
func consumerOptions(c *cli.Context, topic string) ([]kgo.Opt, error) {
	start := kgo.NewOffset().AtEnd()
	switch {
	case c.Bool("from-beginning") && c.IsSet("offset"):
		return nil, badUse("--from-beginning means --offset start: give only one of the two")
	case c.Bool("from-beginning"):
		start = kgo.NewOffset().AtStart()
	case c.IsSet("offset"):
		var err error
		if start, err = parseOffset(c.String("offset"), time.Now()); err != nil {
			return nil, err
		}
	}
	opts := []kgo.Opt{kgo.ConsumeResetOffset(start), kgo.AllowAutoTopicCreation()}
	partitions := c.IntSlice("partition")
	g := c.String("group")
	switch {
	case g != "" && (len(partitions) > 0 || c.IsSet("offset")):
		return nil, badUse("--group excludes --partition and --offset: a group continues at its committed offsets, in the partitions assigned to it; to start elsewhere, run kraft group reset first")
	case g != "":
		opts = append(opts, kgo.ConsumerGroup(g), kgo.DisableAutoCommit())
	case len(partitions) > 0:
		offsets := map[int32]kgo.Offset{}
		for _, n := range partitions {
			if n < 0 || n > math.MaxInt32 {
				return nil, badUse("--partition must be 0 or more, not %d", n)
			}
			offsets[int32(n)] = start
		}
		return append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})), nil
	}
	return append(opts, kgo.ConsumeTopics(topic)), nil
}

// parseOffset reads --offset. now is when it was said.
func parseOffset(text string, now time.Time) (kgo.Offset, error) {
	none := kgo.NewOffset()
	switch text {
	case "start":
		return none.AtStart(), nil
	case "end":
		return none.AtEnd(), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 {
			return none.AtEnd().Relative(n), nil
		}
		return none.At(n), nil
	}
	if t, ok := parseMoment(text, now); ok {
		return none.AfterMilli(t.UnixMilli()), nil
	}
	return none, badUse("--offset must be start, end, an offset (1200), a count before the end (-10), a time (2026-11-26T15:00:00Z) or an age (-1h), not %q", text)
}

// parseMoment reads a time (2026-11-26T15:00:00Z), or how long before now (-1h).
func parseMoment(text string, now time.Time) (t time.Time, ok bool) {
	if ago, ok := strings.CutPrefix(text, "-"); ok {
		if d, err := time.ParseDuration(ago); err == nil {
			return now.Add(-d), true
		}
	}
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil
}

// recordPrinter prints records as the user wants them.
func recordPrinter(c *cli.Context) (func(*bufio.Writer, *kgo.Record), error) {
	if !c.IsSet("format") {
		return func(out *bufio.Writer, r *kgo.Record) { printRecord(c, out, r) }, nil
	}
	f, err := kgo.NewRecordFormatter(c.String("format"))
	if err != nil {
		return nil, badUse("--format: %w (see kraft consume --help)", err)
	}
	var buf []byte
	return func(out *bufio.Writer, r *kgo.Record) {
		buf = f.AppendRecord(buf[:0], r)
		_, _ = out.Write(buf) // Flush says why
	}, nil
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
