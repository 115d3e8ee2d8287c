package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/cli/perf"
)

func perfCommand() *cli.Command {
	return &cli.Command{
		Name:  "perf",
		Usage: "measure how fast a cluster takes and gives records",
		Subcommands: []*cli.Command{
			{
				Name: "produce", Usage: "produce random records, and tell rates and latencies", UsageText: "kraft perf produce TOPIC [--records N] [--size BYTES] [--rate N] [--acks all] [--compression zstd]",
				Description:  "The records stay in the topic: use one of its own. It is created if it does not exist and the broker allows it.",
				OnUsageError: usageError, Action: withArguments(perfProduce),
				Flags: []cli.Flag{
					bootstrapFlag(), jsonFlag(),
					&cli.Int64Flag{Name: "records", Aliases: []string{"n"}, Value: 1_000_000, Usage: "produce `N` records"},
					&cli.IntFlag{Name: "size", Aliases: []string{"s"}, Value: 1024, Usage: "`BYTES` of a record's value"},
					&cli.Float64Flag{Name: "rate", Usage: "no more than `N` records a second (default: as fast as it goes)"},
					&cli.Int64Flag{Name: "keys", Usage: "give records one of `N` keys (default: none)"},
					&cli.StringFlag{Name: "acks", Value: "all", Usage: "`N` of replicas to wait for: 0, 1 or all"},
					&cli.StringFlag{Name: "compression", Aliases: []string{"z"}, Value: "none", Usage: "`CODEC`: none, gzip, snappy, lz4 or zstd"},
					&cli.DurationFlag{Name: "linger", Usage: "wait so much `TIME` for a batch to fill"},
				},
			},
			{
				Name: "consume", Usage: "read a topic from its beginning, and tell rates", UsageText: "kraft perf consume TOPIC [--records N]",
				OnUsageError: usageError, Action: withArguments(perfConsume),
				Flags: []cli.Flag{
					bootstrapFlag(), jsonFlag(), &cli.Int64Flag{Name: "records", Aliases: []string{"n"}, Value: 1_000_000, Usage: "read `N` records, or as many as there are"},
					&cli.DurationFlag{Name: "patience", Value: 5 * time.Second, Usage: "end when nothing has come for so much `TIME`"},
				},
			},
		},
	}
}

// measured is what perf tells; latencies are of producing only.
type measured struct {
	Records    int64    `json:"records"`
	Bytes      int64    `json:"bytes"` // of keys and values
	Seconds    float64  `json:"seconds"`
	PerSecond  float64  `json:"records_per_second"`
	BytesRate  float64  `json:"bytes_per_second"`
	MeanMillis *float64 `json:"mean_ms,omitempty"`
	P50        *float64 `json:"p50_ms,omitempty"`
	P95        *float64 `json:"p95_ms,omitempty"`
	P99        *float64 `json:"p99_ms,omitempty"`
	P999       *float64 `json:"p999_ms,omitempty"`
	Longest    *float64 `json:"max_ms,omitempty"`
}

func measuredOf(w *perf.Window) *measured {
	records, bytes := w.PerSecond()
	return &measured{Records: w.Records, Bytes: w.Bytes, Seconds: w.Passed.Seconds(), PerSecond: records, BytesRate: bytes}
}

func (m *measured) text(w io.Writer) error {
	head := []any{"RECORDS", "SECONDS", "RECORDS/S", "MB/S"}
	row := []any{m.Records, fmt.Sprintf("%.2f", m.Seconds), fmt.Sprintf("%.0f", m.PerSecond), fmt.Sprintf("%.1f", m.BytesRate/1e6)}
	for _, l := range []struct {
		name string
		ms   *float64
	}{{"MEAN", m.MeanMillis}, {"P50", m.P50}, {"P95", m.P95}, {"P99", m.P99}, {"P99.9", m.P999}, {"MAX", m.Longest}} {
		if l.ms != nil {
			head, row = append(head, l.name), append(row, fmt.Sprintf("%.2f ms", *l.ms))
		}
	}
	return table(w, [][]any{head, row})
}

func millis(d time.Duration) *float64 {
	ms := float64(d) / 1e6
	return &ms
}

// recordsBar shows how many records there are so far, on a terminal.
func recordsBar(c *cli.Context, n int64, doing string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(n, progressbar.OptionSetWriter(c.App.ErrWriter), progressbar.OptionSetDescription(doing),
		progressbar.OptionSetVisibility(isTerminal(c.App.ErrWriter)), progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"), progressbar.OptionClearOnFinish())
}

func perfProduce(c *cli.Context, args []string) error {
	n, size, keys := c.Int64("records"), c.Int("size"), c.Int64("keys")
	const largest = 1 << 30
	switch {
	case len(args) != 1:
		return badUse("kraft perf produce takes one topic")
	case n <= 0:
		return badUse("--records must be above 0, not %d", n)
	case size <= 0 || size > largest:
		return badUse("--size must be a number of bytes from 1 to %d, not %d", largest, size)
	case c.IsSet("rate") && c.Float64("rate") <= 0:
		return badUse("--rate must be a number of records per second above 0, not %v", c.Float64("rate"))
	case keys < 0:
		return badUse("--keys must be 0 or more, not %d", keys)
	}
	opts, err := producerOptions(c)
	if err != nil {
		return err
	}
	client, err := newClient(c, append(opts, kgo.DefaultProduceTopic(args[0]), kgo.ProducerLinger(c.Duration("linger")))...)
	if err != nil {
		return err
	}
	defer client.Close()
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	bar := recordsBar(c, n, "producing")
	load := perf.Load{Records: n, Rate: -1, Payload: perf.RandomLetters(size, rng), Key: perf.NoKey, Interval: 200 * time.Millisecond, Report: func(w perf.Window) { _ = bar.Add64(w.Records) }}
	if c.IsSet("rate") {
		load.Rate = c.Float64("rate")
	}
	if keys > 0 {
		load.Key = func() []byte { return strconv.AppendInt(nil, rng.Int64N(keys), 10) }
	}
	r, err := perf.Produce(c.Context, client, load)
	_ = bar.Finish()
	if err != nil {
		return ops.Explain(err, "")
	}
	m := measuredOf(&r.Window)
	m.MeanMillis, m.P50, m.P95, m.P99, m.P999, m.Longest = millis(r.Mean), millis(r.Quantile(0.5)), millis(r.Quantile(0.95)), millis(r.Quantile(0.99)), millis(r.Quantile(0.999)), millis(r.Longest)
	return tell(c, m)
}

func perfConsume(c *cli.Context, args []string) error {
	n := c.Int64("records")
	switch {
	case len(args) != 1:
		return badUse("kraft perf consume takes one topic")
	case n <= 0:
		return badUse("--records must be above 0, not %d", n)
	case c.Duration("patience") <= 0:
		return badUse("--patience must be a duration above 0, like 5s, not %v", c.Duration("patience"))
	}
	client, err := newClient(c, kgo.ConsumeTopics(args[0]), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := ops.FindTopic(c.Context, client, args[0]); err != nil {
		return withoutController(c, client, err)
	}
	bar := recordsBar(c, n, "reading")
	w := perf.Window{}
	begun := time.Now()
	last := begun
	for w.Records < n {
		ctx, cancel := context.WithDeadline(c.Context, last.Add(c.Duration("patience")))
		fetches := client.PollFetches(ctx)
		cancel()
		if c.Context.Err() != nil {
			break
		}
		if err := fetches.Err(); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				return ops.Explain(err, "")
			}
			break
		}
		before := w.Records
		fetches.EachRecord(func(r *kgo.Record) {
			w.Records++
			w.Bytes += int64(len(r.Key) + len(r.Value))
		})
		_ = bar.Add64(w.Records - before)
		last = time.Now()
	}
	_ = bar.Finish()
	w.Passed = last.Sub(begun)
	return tell(c, measuredOf(&w))
}
