package command

import (
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func analyzeCommand() *cli.Command {
	return &cli.Command{
		Name: "analyze", Usage: "read a topic and tell its size, its rate, and the keys that take most", UsageText: "kraft topic analyze TOPIC [--offset WHERE] [--records N] [--keys N]",
		Description: `Reads from WHERE to the current end, at most --records. Reports for each partition the number, size and rate of its records,
and for the topic its compression codecs and the keys with the most bytes. If a topic has very many keys, the byte counts of
the largest may be slightly too high.

   kraft topic analyze orders --offset -1h`,
		OnUsageError: usageError, Action: withArguments(analyzeTopic),
		Flags: []cli.Flag{
			bootstrapFlag(), jsonFlag(),
			&cli.StringFlag{Name: "offset", Aliases: []string{"o"}, Value: "start", Usage: "begin at `WHERE`: start, an offset, so many before the end (-1000), a time or so long ago (-1h)"},
			&cli.Int64Flag{Name: "records", Aliases: []string{"n"}, Value: 1_000_000, Usage: "read `N` records at most"},
			&cli.IntFlag{Name: "keys", Value: 10, Usage: "tell the `N` keys that take most"},
		},
	}
}

type analysis ops.Analysis

func (a *analysis) text(w io.Writer) error {
	rows := [][]any{{"PARTITION", "STORED", "START", "END", "READ", "BYTES", "MEAN", "LARGEST", "RECORDS/S", "OLDEST", "NEWEST"}}
	for _, p := range a.Partitions {
		oldest, newest, stored := "-", "-", "-"
		if p.Records > 0 {
			oldest, newest = moment(p.Oldest), moment(p.Newest)
		}
		if p.Stored >= 0 {
			stored = size(p.Stored)
		}
		rows = append(rows, []any{p.Partition, stored, p.Start, p.End, p.Records, size(p.Bytes), size(p.Bytes / max(p.Records, 1)), size(int64(p.Largest)), fmt.Sprintf("%.1f", p.Rate), oldest, newest})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s read, %d without a key, %d without a value", counted(int(a.Records), "record"), a.Keyless, a.Tombstones)
	for _, codec := range sortedKeys(a.Codecs) {
		fmt.Fprintf(w, ", %d %s", a.Codecs[codec], codec)
	}
	fmt.Fprintln(w)
	if !a.Complete {
		fmt.Fprintln(w, "there are more: --records reads further")
	}
	if len(a.Largest) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	rows = [][]any{{"KEY", "RECORDS", "BYTES"}}
	for _, k := range a.Largest {
		rows = append(rows, []any{k.Key, k.Records, size(k.Bytes)})
	}
	return table(w, rows)
}

func analyzeTopic(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft topic analyze takes one topic")
	}
	if c.Int64("records") <= 0 || c.Int("keys") < 0 {
		return badUse("--records must be above 0, and --keys 0 or more")
	}
	from, err := parseOffset(c.String("offset"), time.Now())
	if err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		connect := func(opts ...kgo.Opt) (*kgo.Client, error) { return newClient(c, opts...) }
		a, err := ops.Analyze(c.Context, admin, connect, args[0], from, c.Int64("records"), c.Int("keys"))
		return show(c, (*analysis)(a), err)
	})
}
