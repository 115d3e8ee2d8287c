package command

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/cli/scripts"
)

func produceCommand() *cli.Command {
	return &cli.Command{
		Name:      "produce",
		Usage:     "write lines of files or stdin to a topic, a record each",
		UsageText: "kraft produce TOPIC [--key-separator :] [--header KEY=VALUE]... [--compression zstd] < FILE",
		Description: "The topic is created if it does not exist and the broker allows it. Ends with status 1 if any record\n" +
			"was not acknowledged.",
		OnUsageError: usageError,
		Flags: []cli.Flag{
			bootstrapFlag(),
			&cli.StringFlag{Name: "key-separator", Aliases: []string{"k"}, Usage: "split each line at the first `TEXT` into key and value; a line without it has no key"},
			&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "add a header to every record, `KEY=VALUE`; may be repeated"},
			&cli.StringFlag{Name: "compression", Aliases: []string{"z"}, Value: "none", Usage: "`CODEC`: none, gzip, snappy, lz4 or zstd"},
			&cli.StringFlag{Name: "acks", Value: "all", Usage: "`N` of replicas to wait for: 0, 1 or all"},
			&cli.StringSliceFlag{Name: "file", Usage: "read `FILE` instead of stdin; may be repeated"},
			&cli.IntFlag{Name: "partition", Value: -1, Usage: "write to partition `N` only"},
		},
		Action: withArguments(produce),
	}
}

func produce(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft produce takes one topic")
	}
	opts, err := producerOptions(c)
	if err != nil {
		return err
	}
	var headers []kgo.RecordHeader
	for _, h := range c.StringSlice("header") {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return badUse("--header takes KEY=VALUE, got %q", h)
		}
		headers = append(headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	client, err := newClient(c, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	p := &producing{separator: []byte(c.String("key-separator"))}
	source, err := produceFrom(c)
	if err != nil {
		return err
	}
	defer source.Close()
	in := bufio.NewReaderSize(source, 1<<20)
	for c.Context.Err() == nil {
		line, readErr := in.ReadBytes('\n')
		if len(line) > 0 {
			r := p.record(bytes.TrimSuffix(line, []byte("\n")))
			r.Topic, r.Headers, r.Partition = args[0], headers, int32(max(c.Int("partition"), 0))
			client.Produce(c.Context, r, p.done)
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return fmt.Errorf("cannot read what to write: %w", readErr)
		}
	}
	if err := client.Flush(c.Context); err != nil {
		return err
	}
	return p.result(c)
}

// files are read one after the other.
type files struct {
	io.Reader
	open []*os.File
}

// Close implements io.Closer.
func (f *files) Close() error {
	for _, file := range f.open {
		_ = file.Close()
	}
	return nil
}

// produceFrom is the files of --file, or stdin.
func produceFrom(c *cli.Context) (io.ReadCloser, error) {
	if !c.IsSet("file") {
		return io.NopCloser(c.App.Reader), nil
	}
	f := &files{}
	var readers []io.Reader
	for _, path := range c.StringSlice("file") {
		file, err := os.Open(path)
		if err != nil {
			_ = f.Close()
			return nil, badUse("--file: %w", err)
		}
		f.open = append(f.open, file)
		readers = append(readers, file)
	}
	f.Reader = io.MultiReader(readers...)
	return f, nil
}

func producerOptions(c *cli.Context) ([]kgo.Opt, error) {
	codec, ok := scripts.Codecs[c.String("compression")]
	if !ok {
		return nil, badUse("--compression must be none, gzip, snappy, lz4 or zstd, not %q", c.String("compression"))
	}
	opts := []kgo.Opt{kgo.AllowAutoTopicCreation(), kgo.ProducerBatchCompression(codec), kgo.UnknownTopicRetries(2)}
	acks, ok := scripts.Acks[c.String("acks")]
	if !ok {
		return nil, badUse("--acks must be 0, 1 or all, not %q", c.String("acks"))
	}
	opts = append(opts, acks...)
	if c.IsSet("partition") {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

// producing counts what became of records; done runs on the client's goroutines.
type producing struct {
	separator []byte
	mu        sync.Mutex
	written   int
	failed    int
	first     error
}

func (p *producing) record(line []byte) *kgo.Record {
	if len(p.separator) > 0 {
		if k, v, ok := bytes.Cut(line, p.separator); ok {
			return &kgo.Record{Key: k, Value: v}
		}
	}
	return &kgo.Record{Value: line}
}

func (p *producing) done(_ *kgo.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.written++
		return
	}
	p.failed++
	if p.first == nil {
		p.first = err
	}
}

func (p *producing) result(c *cli.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == 0 {
		return nil
	}
	if errors.Is(p.first, context.Canceled) {
		return fmt.Errorf("stopped: %d records written, %d not", p.written, p.failed)
	}
	return fmt.Errorf("%d records written, %d not: %w", p.written, p.failed, ops.Explain(p.first, ""))
}
