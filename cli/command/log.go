package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/storage/inspect"
	"kraft/storage/logfile"
	"kraft/wire/record"
)

func logCommand() *cli.Command {
	return &cli.Command{
		Name:  "log",
		Usage: "read the files of logs: what is in them, and whether it is sound",
		Subcommands: []*cli.Command{
			{
				Name: "dump", Usage: "print the batches of segments, and with --records what is in them", UsageText: "kraft log dump FILE.log... [--records] [--offset N] [-n N]",
				Description: `Reads the files beside a broker that runs, or without one. kafka-dump-log prints them, and the other files of a log, as Kafka does.

   kraft log dump /var/lib/kraft/orders-0/00000000000000000000.log --records -n 10`,
				OnUsageError: usageError, Action: withArguments(dumpLogs),
				Flags: []cli.Flag{
					jsonFlag(), &cli.BoolFlag{Name: "records", Aliases: []string{"r"}, Usage: "print records, not batches"},
					&cli.Int64Flag{Name: "offset", Aliases: []string{"o"}, Usage: "begin with the batch that has offset `N`"}, &cli.IntFlag{Name: "n", Usage: "stop after `N` lines; 0 prints all"},
				},
			},
			{
				Name: "verify", Usage: "check every batch, index and offset of logs", UsageText: "kraft log verify DIR...",
				Description: `DIR is a partition's directory, or a data directory with many. The command reads every file and changes none. Status 1
means that it found a problem. An incomplete batch at the end of a log is not a problem: the broker truncates it when it
starts after a crash.`,
				OnUsageError: usageError, Action: withArguments(verifyLogs), Flags: []cli.Flag{jsonFlag()},
			},
		},
	}
}

// dumpedBatch is a line of log dump.
type dumpedBatch struct {
	Position      int64  `json:"position"`
	BaseOffset    int64  `json:"base_offset"`
	LastOffset    int64  `json:"last_offset"`
	Records       int32  `json:"records"`
	Bytes         int    `json:"bytes"`
	Codec         string `json:"codec"`
	Timestamp     int64  `json:"max_timestamp"`
	LeaderEpoch   int32  `json:"leader_epoch"`
	ProducerID    int64  `json:"producer_id"` // -1 for none
	ProducerEpoch int16  `json:"producer_epoch"`
	BaseSequence  int32  `json:"base_sequence"`
	Transactional bool   `json:"transactional"`
	Control       bool   `json:"control"`
	Problem       string `json:"problem,omitempty"`
}

// dumpedRecord is a line of log dump --records. What is no UTF-8 is hex, with 0x before it.
type dumpedRecord struct {
	Offset    int64             `json:"offset"`
	Timestamp int64             `json:"timestamp"`
	Key       *string           `json:"key"`
	Value     *string           `json:"value"`
	Headers   map[string]string `json:"headers,omitempty"`
}

type dump struct {
	Batches []dumpedBatch  `json:"batches,omitempty"`
	Records []dumpedRecord `json:"records,omitempty"`
}

func (d *dump) text(w io.Writer) error {
	if d.Records != nil {
		rows := [][]any{{"OFFSET", "TIME", "KEY", "VALUE"}}
		for _, r := range d.Records {
			rows = append(rows, []any{r.Offset, moment(r.Timestamp), orNull(r.Key), orNull(r.Value)})
		}
		return table(w, rows)
	}
	rows := [][]any{{"POSITION", "OFFSETS", "RECORDS", "BYTES", "CODEC", "NEWEST", "EPOCH", "PRODUCER", "SEQUENCE", "KIND"}}
	for _, b := range d.Batches {
		kind := "data"
		switch {
		case b.Problem != "":
			kind = b.Problem
		case b.Control:
			kind = "marker"
		case b.Transactional:
			kind = "transaction"
		}
		producer, sequence := "-", "-"
		if b.ProducerID >= 0 {
			producer, sequence = fmt.Sprintf("%d/%d", b.ProducerID, b.ProducerEpoch), fmt.Sprint(b.BaseSequence)
		}
		rows = append(rows, []any{b.Position, fmt.Sprintf("%d..%d", b.BaseOffset, b.LastOffset), b.Records, b.Bytes, b.Codec, moment(b.Timestamp), b.LeaderEpoch, producer, sequence, kind})
	}
	return table(w, rows)
}

func moment(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func orNull(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// linesAtOnce is how many lines are printed together: a table's columns are as wide as its widest.
const linesAtOnce = 10_000

func dumpLogs(c *cli.Context, paths []string) error {
	left := c.Int("n")
	enough := errors.New("enough")
	for _, path := range paths {
		if filepath.Ext(path) != logfile.LogSuffix {
			return badUse("%s is no segment: kraft log dump reads .log files, kafka-dump-log the others of a log too", path)
		}
		out, lines := &dump{}, 0
		flush := func() error {
			if lines == 0 {
				return nil
			}
			err := tell(c, out)
			out, lines = &dump{}, 0
			return err
		}
		end, size, err := inspect.WalkSegment(path, func(b record.Batch, at int64) error {
			if b.LastOffset() < c.Int64("offset") {
				return nil
			}
			for range dumped(out, b, at, c.Bool("records"), c.Int64("offset")) {
				lines++
				if left--; left == 0 {
					return enough
				}
			}
			if lines < linesAtOnce {
				return nil
			}
			return flush()
		})
		if e := flush(); e != nil {
			return e
		}
		switch {
		case errors.Is(err, enough):
			return nil
		case errors.Is(err, os.ErrNotExist):
			return badUse("%w", err)
		case err != nil:
			return fmt.Errorf("%s at byte %d: %w", path, end, err)
		case end < size:
			fmt.Fprintf(c.App.ErrWriter, "kraft: %s: the last %d bytes are no whole batch\n", path, size-end)
		}
	}
	return nil
}

// dumped adds a batch, or its records from an offset on, to out, and yields after each line.
func dumped(out *dump, b record.Batch, at int64, records bool, from int64) func(yield func() bool) {
	return func(yield func() bool) {
		if !records {
			d := dumpedBatch{Position: at, BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(), Records: b.Count(), Bytes: b.Size(), Codec: b.Codec().String(), Timestamp: b.MaxTimestamp(),
				LeaderEpoch: b.LeaderEpoch(), ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(), Transactional: b.IsTransactional(), Control: b.IsControl()}
			if err := b.Check(); err != nil {
				d.Problem = err.Error()
			}
			out.Batches = append(out.Batches, d)
			yield()
			return
		}
		list, err := b.Records(record.MaxRecordsBytes)
		if err != nil {
			list = []record.Record{{Offset: b.BaseOffset(), Timestamp: b.MaxTimestamp(), Value: []byte(err.Error())}}
		}
		for i := range list {
			r := &list[i]
			if r.Offset < from {
				continue
			}
			d := dumpedRecord{Offset: r.Offset, Timestamp: r.Timestamp, Key: ops.Readable(r.Key), Value: ops.Readable(r.Value)}
			for _, h := range r.Headers {
				if d.Headers == nil {
					d.Headers = map[string]string{}
				}
				d.Headers[h.Key] = orNull(ops.Readable(h.Value))
			}
			out.Records = append(out.Records, d)
			if !yield() {
				return
			}
		}
	}
}

// verifiedLog is a line of log verify.
type verifiedLog struct {
	Path     string   `json:"path"`
	Segments int      `json:"segments"`
	Batches  int64    `json:"batches"`
	Records  int64    `json:"records"`
	Bytes    int64    `json:"bytes"`
	Start    int64    `json:"start_offset"`
	End      int64    `json:"end_offset"`
	Tail     int64    `json:"unfinished_tail_bytes"`
	Problems []string `json:"problems"`
}

type verifiedLogs []verifiedLog

func (l verifiedLogs) text(w io.Writer) error {
	rows := [][]any{{"LOG", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "START", "END", "FOUND"}}
	for _, v := range l {
		found := "sound"
		if v.Tail > 0 {
			found = fmt.Sprintf("sound, but for %d bytes at its end that are no whole batch", v.Tail)
		}
		if len(v.Problems) > 0 {
			found = fmt.Sprintf("%d problems", len(v.Problems))
		}
		rows = append(rows, []any{filepath.Base(v.Path), v.Segments, v.Batches, v.Records, size(v.Bytes), v.Start, v.End, found})
	}
	return table(w, rows)
}

func verifyLogs(c *cli.Context, paths []string) error {
	var dirs []string
	for _, path := range paths {
		found, err := inspect.PartitionDirs(path)
		if err != nil {
			return badUse("%w", err)
		}
		if len(found) == 0 {
			return badUse("%s holds no partition: give a data directory, or a partition's", path)
		}
		dirs = append(dirs, found...)
	}
	bar := progressbar.NewOptions64(segmentBytes(dirs), progressbar.OptionSetWriter(c.App.ErrWriter), progressbar.OptionSetDescription("reading logs"),
		progressbar.OptionSetVisibility(isTerminal(c.App.ErrWriter)), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish())
	out, bad := verifiedLogs{}, 0
	for _, dir := range dirs {
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		v, err := inspect.Verify(dir, func(n int64) { _ = bar.Add64(n) })
		if errors.Is(err, os.ErrNotExist) {
			continue // its broker has deleted it
		}
		if err != nil {
			return err
		}
		if len(v.Problems) > 0 {
			bad++
		}
		out = append(out, verifiedLog{v.Path, v.Segments, v.Batches, v.Records, v.Bytes, v.Start, v.End, v.UnfinishedTail, append([]string{}, v.Problems...)})
	}
	_ = bar.Finish()
	if err := tell(c, out); err != nil {
		return err
	}
	if bad == 0 {
		return nil
	}
	for _, v := range out {
		for _, p := range v.Problems {
			fmt.Fprintf(c.App.ErrWriter, "kraft: %s: %s\n", v.Path, p)
		}
	}
	return errTold
}

// segmentBytes is the size of all segments in some directories, as far as they can be looked at.
func segmentBytes(dirs []string) (total int64) {
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), logfile.LogSuffix) {
				total += info.Size()
			}
		}
	}
	return total
}
