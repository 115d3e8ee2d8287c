package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func consumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "consume",
		Usage:     "print a topic's records, a line each",
		UsageText: "kraft consume TOPIC [--from-beginning | --offset WHERE] [-n N] [--exit-at-end] [--partition N]... [--group G] [--format FORMAT | --json]",
		Description: `Without --from-beginning or --offset, prints only records produced from now on; a group continues at its last
committed offsets. Stops after -n records, at the end with --exit-at-end, or at Ctrl-C.

   kraft consume orders --from-beginning --exit-at-end          all that is there now
   kraft consume orders --offset -1h                            what came in the last hour, and goes on coming
   kraft consume orders --offset -10                            the last ten of each partition
   kraft consume orders --partition 2 --offset 1200 -n 1        one record
   kraft consume orders --format '%p:%o %T{rfc3339} %k=%v\n'

FORMAT: %t topic, %p partition, %o offset, %e leader epoch, %d timestamp, %k key, %v value, %K and %V their lengths, %h{%k=%v } headers,
\n \t \xNN; %v{hex}, %v{base64}, %d{rfc3339} and others as franz-go's record formatter (pkg.go.dev/github.com/twmb/franz-go/pkg/kgo) has them.

--json prints an object a line, with topic, partition, offset, timestamp, key, value and headers. A key or value that is missing is null;
one that is no text is in key_base64 or value_base64. kraft produce --json reads the same.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			bootstrapFlag(),
			&cli.StringFlag{Name: "group", Aliases: []string{"g"}, Usage: "share the partitions with the other members of group `G` and commit offsets"},
			&cli.BoolFlag{Name: "from-beginning", Usage: "begin with the oldest record where nothing is committed"},
			&cli.StringFlag{Name: "offset", Aliases: []string{"o"}, Usage: "begin at `WHERE`: start, end, an offset (1200), so many before the end (-10), a time (2026-11-26T15:00:00Z) or so long ago (-1h)"},
			&cli.IntSliceFlag{Name: "partition", Aliases: []string{"p"}, Usage: "read partition `N` only; may be repeated"},
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "print records in this `FORMAT`, see above"},
			&cli.IntFlag{Name: "n", Usage: "stop after `N` records; 0 goes on for ever"},
			&cli.BoolFlag{Name: "json", Usage: "print each record as a JSON object in a line of its own"},
			&cli.BoolFlag{Name: "exit-at-end", Aliases: []string{"e"}, Usage: "stop at the end that each partition has when reading begins"},
			&cli.BoolFlag{Name: "keys", Aliases: []string{"k"}, Usage: "print key, a tab and the value"},
			&cli.BoolFlag{Name: "meta", Aliases: []string{"m"}, Usage: "print partition, offset, timestamp and headers before each record"},
		},
		Action: withArguments(consume),
	}
}

func consume(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft consume takes one topic: kraft consume %s (other topics need a kraft consume each)", args[0])
	}
	if err := checkTopicName(args[0]); err != nil {
		return err
	}
	if c.Int("n") < 0 {
		return badUse("-n must be 0 or more, not %d", c.Int("n"))
	}
	opts, err := consumerOptions(c, args[0])
	if err != nil {
		return err
	}
	own := new(ownPartitions)
	if c.IsSet("group") {
		opts = append(opts, kgo.OnPartitionsAssigned(own.assigned), kgo.OnPartitionsRevoked(own.revoked), kgo.OnPartitionsLost(own.revoked))
	}
	printRecord, err := recordPrinter(c)
	if err != nil {
		return err
	}
	endWithReader(c)
	client, err := newClient(c, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic, err := ops.FindTopic(c.Context, client, args[0])
	if err != nil {
		return withoutController(c, client, err)
	}
	for _, p := range c.IntSlice("partition") {
		if p >= topic.Partitions {
			return badUse("--partition %d: topic %s has partitions 0 to %d", p, topic.Name, topic.Partitions-1)
		}
	}
	if err := announceWait(c, client, topic); err != nil {
		return err
	}
	reading, err := newReading(c, client, topic, own)
	if err != nil {
		return err
	}
	if isTerminal(c.App.ErrWriter) {
		fmt.Fprintln(c.App.ErrWriter, reading.describe(c))
	}
	out := bufio.NewWriter(c.App.Writer)
	for left := c.Int("n"); !reading.done(); {
		fetches := reading.poll(c.Context, left)
		var failure error
		fetches.EachError(func(_ string, _ int32, err error) {
			if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && failure == nil {
				failure = ops.Explain(err, "")
			}
		})
		if failure != nil {
			return failure
		}
		var records []*kgo.Record // that are printed
		fetches.EachRecord(func(r *kgo.Record) {
			if reading.wants(r) {
				printRecord(out, r)
				records = append(records, r)
			}
		})
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
		if len(records) == 0 {
			if err := reading.looksForEnd(c.Context); err != nil {
				return err
			}
		}
		if c.Int("n") > 0 {
			if left -= len(records); left <= 0 {
				return nil
			}
		}
	}
	return nil
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
	opts := []kgo.Opt{kgo.ConsumeResetOffset(start)}
	partitions := c.IntSlice("partition")
	g := c.String("group")
	switch {
	case g == "" && c.IsSet("group"):
		return nil, badUse("--group needs a name")
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

// startWords are kraft's and Kafka's words for the beginning of a partition.
var startWords = []string{"start", "earliest", "beginning"}

// parseOffset reads --offset. now is when it was said.
func parseOffset(text string, now time.Time) (kgo.Offset, error) {
	none := kgo.NewOffset()
	switch {
	case slices.Contains(startWords, text):
		return none.AtStart(), nil
	case text == "end" || text == "latest":
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
		if d, ok := parseAge(ago); ok {
			return now.Add(-d), true
		}
	}
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil
}

// recordPrinter prints records as the user wants them.
func recordPrinter(c *cli.Context) (func(*bufio.Writer, *kgo.Record), error) {
	if c.Bool("json") {
		for _, other := range []string{"format", "keys", "meta"} {
			if c.IsSet(other) {
				return nil, badUse("--json prints everything: leave out --%s, or leave out --json", other)
			}
		}
		return printJSON, nil
	}
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

// visible is bytes as a terminal may show them: those that would control it, or are no text, are written as \xNN.
func visible(c *cli.Context, data []byte) []byte {
	if !isTerminal(c.App.Writer) {
		return data
	}
	var out []byte
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 || r != '\t' && r != '\n' && unicode.IsControl(r) {
			out = fmt.Appendf(out, "\\x%02x", data[0])
			data = data[1:]
			continue
		}
		out, data = append(out, data[:n]...), data[n:]
	}
	return out
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
		out.Write(visible(c, r.Key))
		out.WriteByte('\t')
	}
	out.Write(visible(c, r.Value))
	out.WriteByte('\n')
}
