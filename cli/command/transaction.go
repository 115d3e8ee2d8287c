package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/wire/ident"
)

func transactionCommand() *cli.Command {
	return &cli.Command{
		Name:  "transaction",
		Usage: "list, describe and abort transactions, and find those that block consumers",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list transactional ids with their states", UsageText: "kraft transaction list [--state STATE]... [--pattern REGEX]",
				OnUsageError: usageError, Action: listTransactions,
				Flags: []cli.Flag{
					bootstrapFlag(), jsonFlag(),
					&cli.StringSliceFlag{Name: "state", Usage: "only those in a `STATE`: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit or CompleteAbort"},
					&cli.StringFlag{Name: "pattern", Usage: "only ids that match a `REGEX` as a whole"},
				},
			},
			{
				Name: "describe", Usage: "show transactional ids: state, timeout, partitions", UsageText: "kraft transaction describe ID...",
				OnUsageError: usageError, Action: withArguments(describeTransactions), Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "hanging", Usage: "show the open transaction that each partition's read_committed consumers wait for", UsageText: "kraft transaction hanging [TOPIC[:PARTITION]...] [--longer-than DURATION]",
				Description: `A consumer with isolation.level=read_committed reads up to the first open transaction of a partition. This command names that
transaction for each partition, and whether a coordinator will end it.`,
				OnUsageError: usageError, Action: hangingTransactions,
				Flags: []cli.Flag{bootstrapFlag(), jsonFlag(), &cli.StringFlag{Name: "longer-than", Value: "0s", Usage: "only partitions that have waited for a `DURATION`, like 30s or 15m"}},
			},
			{
				Name: "abort", Usage: "abort transactions, and fence their producers", UsageText: "kraft transaction abort ID...\nkraft transaction abort --partition TOPIC:PARTITION --offset OFFSET",
				Description: `The coordinator aborts the open transaction of each ID; its producer gets PRODUCER_FENCED. With --partition and --offset, the partition's
leader writes an abort marker. Use this for a transaction that no coordinator knows; kraft transaction hanging finds them.`,
				OnUsageError: usageError, Action: abortTransactions,
				Flags: append([]cli.Flag{bootstrapFlag(), &cli.StringFlag{Name: "partition", Usage: "the partition, `TOPIC:PARTITION`"}, &cli.Int64Flag{Name: "offset", Value: -1, DefaultText: "none", Usage: "first `OFFSET` of the transaction"}}, confirmFlags()...),
			},
		},
	}
}

type transactionLines []ops.Transaction

func (l transactionLines) text(w io.Writer) error {
	rows := [][]any{{"TRANSACTIONAL ID", "STATE", "COORDINATOR", "PRODUCER ID"}}
	for _, t := range l {
		rows = append(rows, []any{t.ID, t.State, t.Coordinator, t.ProducerID})
	}
	return table(w, rows)
}

func listTransactions(c *cli.Context) error {
	return withClient(c, func(cl *kgo.Client) error {
		list, err := ops.ListTransactions(c.Context, cl, ops.TransactionFilter{States: c.StringSlice("state"), Pattern: c.String("pattern")})
		return show(c, transactionLines(list), err)
	})
}

type transactionDetails []ops.TransactionDetail

func (l transactionDetails) text(w io.Writer) error {
	rows := [][]any{{"TRANSACTIONAL ID", "STATE", "COORDINATOR", "PRODUCER ID", "EPOCH", "TIMEOUT", "STARTED", "PARTITIONS"}}
	for _, d := range l {
		started := "-"
		if d.Started != nil {
			started = d.Started.Format(time.DateTime)
		}
		var parts []string
		for _, tp := range d.Partitions {
			parts = append(parts, tp.String())
		}
		rows = append(rows, []any{d.ID, d.State, d.Coordinator, d.ProducerID, d.Epoch, d.Timeout, started, orDash(strings.Join(parts, ","))})
	}
	return table(w, rows)
}

func describeTransactions(c *cli.Context, names []string) error {
	return withClient(c, func(cl *kgo.Client) error {
		var out transactionDetails
		var lacking ops.Lacking
		for _, id := range names {
			d, err := ops.DescribeTransaction(c.Context, cl, id)
			if err != nil {
				lacking.Add("%v", unknownTransaction(id, err))
				continue
			}
			out = append(out, *d)
		}
		return show(c, out, lacking.Err())
	})
}

func unknownTransaction(id string, err error) error {
	if errors.Is(err, ops.ErrNoTransaction) {
		return fmt.Errorf("%w: %q (kraft transaction list shows all)", err, id)
	}
	return err
}

type heldUpLines []ops.HeldUp

func (l heldUpLines) text(w io.Writer) error {
	if len(l) == 0 {
		_, err := fmt.Fprintln(w, "no partition has an open transaction of that age")
		return err
	}
	for _, h := range l {
		if _, err := fmt.Fprintln(w, h.Why); err != nil {
			return err
		}
	}
	return nil
}

func hangingTransactions(c *cli.Context) error {
	words, err := interspersed(c)
	if err != nil {
		return err
	}
	names, err := ops.ParsePartitions(words)
	if err != nil {
		return badUseOf(err)
	}
	longer, ok := parseAge(c.String("longer-than"))
	if !ok {
		return badUse("--longer-than must be a duration like 30s or 15m, not %q", c.String("longer-than"))
	}
	return withClient(c, func(cl *kgo.Client) error {
		admin := kadm.NewClient(cl)
		var of kadm.TopicsSet
		if len(names) > 0 {
			parts, err := ops.Find(c.Context, admin, names)
			if err != nil {
				return err
			}
			of = kadm.TopicsSet{}
			for _, p := range parts {
				of.Add(p.Topic, p.Number)
			}
		}
		list, err := ops.HeldUpPartitions(c.Context, cl, of, longer, time.Now())
		return show(c, heldUpLines(list), err)
	})
}

func abortTransactions(c *cli.Context) error {
	names, err := interspersed(c)
	if err != nil {
		return err
	}
	at, err := abortedPartition(c)
	switch {
	case err != nil:
		return err
	case at == nil && len(names) == 0:
		return badUse("name transactional ids, or a partition with --partition and --offset")
	case at != nil && len(names) > 0:
		return badUse("name transactional ids, or a partition, not both")
	}
	return withClient(c, func(cl *kgo.Client) error {
		goOn, err := confirm(c, func() ([]string, error) {
			if at != nil {
				return []string{fmt.Sprintf("abort the transaction that begins at offset %d of %s", c.Int64("offset"), at)}, nil
			}
			var lines []string
			for _, id := range names {
				d, err := ops.DescribeTransaction(c.Context, cl, id)
				if err != nil {
					return nil, unknownTransaction(id, err)
				}
				lines = append(lines, fmt.Sprintf("abort transaction %s (%s, %s)", id, d.State, counted(len(d.Partitions), "partition")))
			}
			return lines, nil
		})
		if err != nil || !goOn {
			return err
		}
		if at != nil {
			if err := ops.AbortAt(c.Context, cl, *at, c.Int64("offset")); err != nil {
				return fmt.Errorf("%s, offset %d: %w", at, c.Int64("offset"), err)
			}
			_, err := fmt.Fprintf(c.App.Writer, "aborted the transaction at offset %d of %s\n", c.Int64("offset"), at)
			return err
		}
		var failure error
		for _, id := range names {
			if err := ops.AbortTransaction(c.Context, cl, id); err != nil {
				failure = errors.Join(failure, unknownTransaction(id, err))
				continue
			}
			if _, err := fmt.Fprintf(c.App.Writer, "transaction %s is not open\n", id); err != nil {
				return err
			}
		}
		return failure
	})
}

// abortedPartition is the partition of --partition, nil without; --offset must be there, too.
func abortedPartition(c *cli.Context) (*ident.TopicPartition, error) {
	if c.IsSet("partition") != c.IsSet("offset") {
		return nil, badUse("--partition and --offset must be used together")
	}
	if !c.IsSet("partition") {
		return nil, nil
	}
	names, err := ops.ParsePartitions([]string{c.String("partition")})
	if err != nil {
		return nil, badUseOf(err)
	}
	if names[0].Number < 0 || c.Int64("offset") < 0 {
		return nil, badUse("--partition takes TOPIC:PARTITION, and --offset a number from 0 on")
	}
	return &ident.TopicPartition{Topic: names[0].Topic, Partition: names[0].Number}, nil
}
