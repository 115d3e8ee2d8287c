package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/cli/scripts"
)

func produceCommand() *cli.Command {
	return &cli.Command{
		Name:      "produce",
		Usage:     "write lines of files or stdin to a topic, a record each",
		UsageText: "kraft produce TOPIC [--key-separator :] [--header KEY=VALUE]... [--compression zstd] [--json | --whole] < FILE",
		Description: `The topic is created if it does not exist and the broker allows it. Ends with status 1 if any record
was not acknowledged. On a terminal it says of each record where it went.

   echo hello | kraft produce orders
   kraft produce orders --key-separator : --file lines.txt
   kraft produce pictures --whole --file a.png --file b.png     a record each
   kraft consume orders --from-beginning --exit-at-end --json | kraft produce copy --json

--json reads objects as kraft consume --json prints them: key, value, headers and timestamp. topic, partition and offset do not count.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			bootstrapFlag(),
			&cli.StringFlag{Name: "key-separator", Aliases: []string{"k"}, Usage: "split each line at the first `TEXT` into key and value; a line without it has no key"},
			&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "add a header to every record, `KEY=VALUE`; may be repeated"},
			&cli.StringFlag{Name: "compression", Aliases: []string{"z"}, Value: "none", Usage: "`CODEC`: none, gzip, snappy, lz4 or zstd"},
			&cli.StringFlag{Name: "acks", Value: "all", Usage: "`N` of replicas to wait for: 0, 1 or all"},
			&cli.StringSliceFlag{Name: "file", Usage: "read `FILE` instead of stdin; may be repeated"},
			&cli.BoolFlag{Name: "json", Usage: "read records as JSON objects, one after the other"},
			&cli.BoolFlag{Name: "whole", Usage: "write each file, or stdin, as one record"},
			&cli.IntFlag{Name: "partition", Value: -1, DefaultText: "by key", Usage: "write to partition `N` only"},
		},
		Action: withArguments(produce),
	}
}

func produce(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft produce takes one topic; records come from stdin (echo hello | kraft produce %s) or files (--file)", args[0])
	}
	if err := checkTopicName(args[0]); err != nil {
		return err
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
	if err := announceProduce(c, client, args[0]); err != nil {
		return withoutController(c, client, err)
	}
	p := &producing{topic: args[0], separator: []byte(c.String("key-separator")), each: c.App.ErrWriter, partitions: map[int32]written{}}
	if !isTerminal(c.App.Reader) || !isTerminal(c.App.ErrWriter) || c.IsSet("file") {
		p.each = nil
	}
	sources, err := produceFrom(c)
	if err != nil {
		return err
	}
	defer sources.close()
	for _, source := range sources {
		next := p.records(c, source)
		if source.name == "stdin" {
			next = untilDone(c.Context, next)
		}
		for c.Context.Err() == nil {
			r, err := next()
			if err == io.EOF {
				break
			}
			if err != nil {
				_ = client.Flush(c.Context)
				return p.broken(err)
			}
			r.Topic = p.topic
			r.Headers = append(r.Headers, headers...)
			if c.IsSet("partition") {
				r.Partition = int32(c.Int("partition"))
			}
			p.begin()
			client.Produce(context.WithoutCancel(c.Context), r, p.done)
		}
		if c.Context.Err() != nil && !(source.name == "stdin" && isTerminal(c.App.Reader)) {
			p.interrupted = true // somebody who types has said all
			break
		}
	}
	flushing := c.Context
	if flushing.Err() != nil { // what was read by then is written
		var cancel context.CancelFunc
		flushing, cancel = context.WithTimeout(context.WithoutCancel(flushing), flushPatience)
		defer cancel()
	}
	if err := client.Flush(flushing); err != nil && c.Context.Err() == nil {
		return err
	}
	return p.result(c)
}

// flushPatience is how long an interrupted kraft produce waits until what it has read is written.
const flushPatience = 3 * time.Second

// readAhead is how many records are read from stdin while others are on their way.
const readAhead = 1024

// untilDone has next give io.EOF when ctx ends, although it waits for somebody to type, or for a pipe. Its goroutine ends with the process then.
func untilDone(ctx context.Context, next func() (*kgo.Record, error)) func() (*kgo.Record, error) {
	type read struct {
		r   *kgo.Record
		err error
	}
	reads := make(chan read, readAhead)
	go func() {
		for {
			r, err := next()
			select {
			case reads <- read{r, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return func() (*kgo.Record, error) {
		select {
		case <-ctx.Done():
			return nil, io.EOF
		case got := <-reads:
			return got.r, got.err
		}
	}
}

// announceProduce says on a terminal what producing does: that it reads lines, and that it creates a topic whose name may be a slip.
func announceProduce(c *cli.Context, client *kgo.Client, topic string) error {
	if !isTerminal(c.App.ErrWriter) {
		return nil
	}
	_, err := ops.FindTopic(c.Context, client, topic)
	var none *ops.NoTopicError
	if errors.As(err, &none) {
		hint := ""
		if none.Near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", none.Near)
		}
		fmt.Fprintf(c.App.ErrWriter, "there is no topic %q yet: it is created with the first record, if the broker allows that%s\n", topic, hint)
	} else if err != nil {
		return err
	}
	if isTerminal(c.App.Reader) && !c.IsSet("file") {
		what := "each line is a record"
		switch {
		case c.Bool("json"):
			what = "each JSON object is a record"
		case c.Bool("whole"):
			what = "all lines are one record"
		}
		fmt.Fprintf(c.App.ErrWriter, "writing to %s: %s; Ctrl-D ends it\n", topic, what)
	}
	return nil
}

// source is an input of kraft produce.
type source struct {
	name string
	io.ReadCloser
}

type sources []source

func (all sources) close() {
	for _, s := range all {
		_ = s.Close()
	}
}

// produceFrom is the files of --file, or stdin.
func produceFrom(c *cli.Context) (all sources, err error) {
	if !c.IsSet("file") {
		return sources{{"stdin", io.NopCloser(c.App.Reader)}}, nil
	}
	for _, path := range c.StringSlice("file") {
		file, err := os.Open(path)
		if err == nil {
			if info, stat := file.Stat(); stat == nil && info.IsDir() {
				err = fmt.Errorf("%s is a directory", path)
				_ = file.Close()
			}
		}
		if err != nil {
			all.close()
			return nil, badUse("--file: %w", err)
		}
		all = append(all, source{path, file})
	}
	return all, nil
}

// maxWhole bounds a record of --whole in bytes: topics take less.
const maxWhole = 1 << 30

// records returns what gives the records of a source one after the other, and io.EOF behind the last.
func (p *producing) records(c *cli.Context, from source) (next func() (*kgo.Record, error)) {
	in := bufio.NewReaderSize(from, 1<<20)
	switch {
	case c.Bool("json"):
		d := json.NewDecoder(in)
		begun := false
		return func() (*kgo.Record, error) {
			if !begun {
				begun = true
				if head, _ := in.Peek(3); string(head) == "\xef\xbb\xbf" { // a byte order mark, of Windows
					_, _ = in.Discard(3)
				}
			}
			return readJSON(d)
		}
	case c.Bool("whole"):
		read := false
		return func() (*kgo.Record, error) {
			if read {
				return nil, io.EOF
			}
			read = true
			data, err := io.ReadAll(io.LimitReader(in, maxWhole+1))
			if err == nil && len(data) > maxWhole {
				err = fmt.Errorf("%s has more than %d bytes, which no record may have", from.name, maxWhole)
			}
			return p.record(data), err
		}
	}
	looked := false
	return func() (*kgo.Record, error) {
		if !looked {
			looked = true
			_, err := in.Peek(1)
			if err != nil { // a terminal would wait for a second end
				return nil, err
			}
			if head, _ := in.Peek(in.Buffered()); isBinary(head) {
				fmt.Fprintf(c.App.ErrWriter, "kraft: %s is no text: each of its parts up to a newline becomes a record (--whole writes it as one)\n", from.name)
			}
		}
		line, err := in.ReadBytes('\n')
		if len(line) == 0 {
			return nil, err
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		return p.record(bytes.TrimSuffix(line, []byte("\n"))), nil
	}
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
		if c.Int("partition") < 0 {
			return nil, badUse("--partition must be 0 or more, not %d", c.Int("partition"))
		}
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	for _, pair := range [][2]string{{"json", "whole"}, {"json", "key-separator"}} {
		if c.IsSet(pair[0]) && c.IsSet(pair[1]) {
			return nil, badUse("--%s and --%s exclude each other", pair[0], pair[1])
		}
	}
	return opts, nil
}

// written is what was written to a partition.
type written struct {
	records     int
	first, last int64 // offsets, -1 where no broker has told
}

// producing counts what became of records; done runs on the client's goroutines.
type producing struct {
	topic     string
	separator []byte
	each      io.Writer // where to say of each record where it went; nil for nowhere
	// interrupted says that the input was not read to its end. Only the goroutine that reads it writes it.
	interrupted bool

	mu         sync.Mutex // guards the rest
	partitions map[int32]written
	begun      int
	written    int
	failed     int
	first      error
}

// begin notes a record that is given to the client.
func (p *producing) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
}

func (p *producing) record(line []byte) *kgo.Record {
	if len(p.separator) > 0 {
		if k, v, ok := bytes.Cut(line, p.separator); ok {
			return &kgo.Record{Key: k, Value: v}
		}
	}
	return &kgo.Record{Value: line}
}

func (p *producing) done(r *kgo.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.written++
		w, ok := p.partitions[r.Partition]
		if !ok {
			w.first = r.Offset
		}
		w.records, w.last = w.records+1, max(w.last, r.Offset)
		p.partitions[r.Partition] = w
		if p.each != nil && r.Offset >= 0 {
			fmt.Fprintf(p.each, "partition %d, offset %d\n", r.Partition, r.Offset)
		}
		return
	}
	p.failed++
	if p.first == nil {
		p.first = err
	}
}

// result is the error of the records that were not written; without one it says on a terminal what was.
func (p *producing) result(c *cli.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch missing := p.begun - p.written; {
	case p.failed == 0 && (p.interrupted || missing > 0):
		return fmt.Errorf("interrupted before the end of the input: %s written, %d of those read not", counted(p.written, "record"), missing)
	case p.failed == 0 && p.each == nil && isTerminal(c.App.ErrWriter):
		fmt.Fprintln(c.App.ErrWriter, p.summary())
		fallthrough
	case p.failed == 0:
		return nil
	case errors.Is(p.first, context.Canceled):
		return fmt.Errorf("stopped: %s written, %d not", counted(p.written, "record"), p.failed)
	}
	return fmt.Errorf("%s written, %d not: %w", counted(p.written, "record"), p.failed, ops.Explain(p.first, ""))
}

// broken is the error for an input that cannot be read on.
func (p *producing) broken(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Errorf("record %d cannot be read: %w (of the %d before it, %d are written)", p.begun+1, err, p.begun, p.written)
}

// summary says what was written, and where. mu is held.
func (p *producing) summary() string {
	text := fmt.Sprintf("wrote %s to %s", counted(p.written, "record"), p.topic)
	if len(p.partitions) > 5 {
		return text + " in " + counted(len(p.partitions), "partition")
	}
	separator := ": "
	for _, n := range slices.Sorted(maps.Keys(p.partitions)) {
		w := p.partitions[n]
		text += fmt.Sprintf("%spartition %d", separator, n)
		separator = ", "
		switch {
		case w.first < 0:
		case w.records == 1:
			text += fmt.Sprintf(" offset %d", w.last)
		default:
			text += fmt.Sprintf(" offsets %d to %d", w.first, w.last)
		}
	}
	return text
}
