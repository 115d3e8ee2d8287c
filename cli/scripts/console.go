package scripts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var consoleProducerScript = script{
	about: "write lines of stdin to a topic, a record each",
	options: slices.Concat(oldConnection, valued("topic", "batch-size", "max-block-ms", "max-memory-bytes", "max-partition-memory-bytes", "line-reader", "message-send-max-retries",
		"metadata-expiry-ms", "request-required-acks", "request-timeout-ms", "retry-backoff-ms", "socket-buffer-size", "timeout",
		"queue-size", "queue-enqueuetimeout-ms", "key-serializer", "value-serializer"), flags("sync", "old-producer", "new-producer"),
		[]option{{name: "reader-property", aliases: []string{"property"}}, {name: "command-property", aliases: []string{"producer-property"}}, {name: "reader-config"}, {name: "compression-codec"}}),
	run: consoleProducer,
}

// property is one of properties, or what stands for it.
func property(p map[string]string, name, otherwise string) string {
	if v, ok := p[name]; ok {
		return v
	}
	return otherwise
}

// lineFormat is how a line becomes a record: --reader-property.
type lineFormat struct {
	key, headers                                          bool
	keySeparator, delimiter, headersSeparator, headersKey string
	nullMarker                                            *string
	ignoreError                                           bool
}

func newLineFormat(p map[string]string) lineFormat {
	f := lineFormat{key: p["parse.key"] == "true", headers: p["parse.headers"] == "true", keySeparator: property(p, "key.separator", "\t"), delimiter: property(p, "headers.delimiter", "\t"),
		headersSeparator: property(p, "headers.separator", ","), headersKey: property(p, "headers.key.separator", ":"), ignoreError: p["ignore.error"] == "true"}
	if v, ok := p["null.marker"]; ok {
		f.nullMarker = &v
	}
	return f
}

func (f lineFormat) value(text string) []byte {
	if f.nullMarker != nil && text == *f.nullMarker {
		return nil
	}
	return []byte(text)
}

// read makes a record of a line.
func (f lineFormat) read(line string, n int) (*kgo.Record, error) {
	r := new(kgo.Record)
	rest := line
	if f.headers {
		headers, after, ok := strings.Cut(rest, f.delimiter)
		if !ok && !f.ignoreError {
			return nil, fmt.Errorf("No header delimiter found on line number %d: '%s'", n, line)
		}
		if ok {
			rest = after
			for _, h := range strings.Split(headers, f.headersSeparator) {
				key, value, ok := strings.Cut(h, f.headersKey)
				if !ok && !f.ignoreError {
					return nil, fmt.Errorf("No header key separator found in pair '%s' on line number %d", h, n)
				}
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: key, Value: f.value(value)})
			}
		}
	}
	if f.key {
		key, after, ok := strings.Cut(rest, f.keySeparator)
		if !ok && !f.ignoreError {
			return nil, fmt.Errorf("No key separator found on line number %d: '%s'", n, line)
		}
		if ok {
			r.Key, rest = f.value(key), after
		}
	}
	r.Value = f.value(rest)
	return r, nil
}

// Codecs are how records can be compressed, by their names.
var Codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

// Acks are how many replicas a producer may wait for, as its acks setting says it. Only all goes with idempotence.
var Acks = map[string][]kgo.Opt{
	"": nil, "all": nil, "-1": nil,
	"1": {kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()},
	"0": {kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()},
}

// maxRequest is the largest max.request.size in bytes that counts.
const maxRequest = 512 << 20

func consoleProducer(c *call) error {
	if !c.has("topic") {
		return errors.New(`Missing required argument "[topic]"`)
	}
	properties, err := c.properties("reader-property")
	if err != nil {
		return err
	}
	if more, err := c.properties("command-property"); err != nil {
		return err
	} else if v := more["compression.type"]; v != "" && !c.has("compression-codec") {
		c.values["compression-codec"] = []string{v}
	}
	codec, ok := Codecs[c.get("compression-codec", "none")]
	if c.has("compression-codec") && c.get("compression-codec", "") == "" {
		codec, ok = kgo.GzipCompression(), true
	}
	if !ok {
		return fmt.Errorf("Unknown compression name: %s", c.get("compression-codec", ""))
	}
	opts := []kgo.Opt{kgo.DefaultProduceTopic(c.get("topic", "")), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(time.Millisecond), kgo.AllowAutoTopicCreation()}
	acks, ok := Acks[c.get("request-required-acks", "")]
	if !ok {
		return fmt.Errorf("Invalid value %s for configuration acks: String must be one of: all, -1, 0, 1", c.get("request-required-acks", ""))
	}
	settings, err := c.clientSettings()
	if err != nil {
		return err
	}
	larger, err := numbered(settings, map[string]func(n int64) kgo.Opt{
		"max.request.size": func(n int64) kgo.Opt { return kgo.ProducerBatchMaxBytes(int32(min(n, maxRequest))) },
	})
	if err != nil {
		return err
	}
	cl, err := c.client(slices.Concat(opts, acks, larger, []kgo.Opt{kgo.BrokerMaxWriteBytes(2 * maxRequest)})...)
	if err != nil {
		return err
	}
	defer cl.Close()
	format := newLineFormat(properties)
	lines := bufio.NewReaderSize(c.in, 64<<10)
	failed := make(chan error, 1)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		r, err := format.read(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), n)
		if err != nil {
			return err
		}
		cl.Produce(c.ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := cl.Flush(c.ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return fmt.Errorf("Error when sending message to topic %s: %s", c.get("topic", ""), message(err, ""))
	default:
		return nil
	}
}

var consoleConsumerScript = script{
	about: "print records of topics, a line each",
	options: slices.Concat(oldConnection, zooKeeper, []option{{name: "include", aliases: []string{"whitelist"}}}, valued("topic", "blacklist", "key-deserializer", "value-deserializer", "metrics-dir", "partition", "offset", "max-messages", "timeout-ms", "group", "isolation-level", "formatter", "formatter-config"),
		flags("from-beginning", "skip-message-on-error", "enable-systest-events", "new-consumer", "delete-consumer-offsets", "csv-reporter-enabled"),
		[]option{{name: "formatter-property", aliases: []string{"property"}}, {name: "command-property", aliases: []string{"consumer-property"}}}),
	run: consoleConsumer,
}

func consoleConsumer(c *call) error {
	if _, err := c.one("topic", "include", "blacklist"); err != nil {
		return errors.New("Exactly one of --include/--topic is required.")
	}
	write, err := c.formatter()
	if err != nil {
		return err
	}
	limit, err := c.number("max-messages", -1)
	if err != nil {
		return err
	}
	silence, err := c.number("timeout-ms", -1)
	if err != nil {
		return err
	}
	opts, err := c.consuming()
	if err != nil {
		return err
	}
	member := &member{assigned: map[string][]int32{}}
	cl, err := c.client(append(opts, kgo.OnPartitionsAssigned(member.assign))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	out := bufio.NewWriter(c.out)
	count := int64(0)
	for limit < 0 || count < limit {
		ctx, cancel := c.ctx, context.CancelFunc(func() {})
		if silence >= 0 {
			ctx, cancel = context.WithTimeout(c.ctx, time.Duration(silence)*time.Millisecond)
		}
		fetches := cl.PollRecords(ctx, 500)
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			if limit < 0 || count < limit {
				write(out, r)
				count++
			}
		})
		if err := out.Flush(); err != nil {
			return nil // nobody reads any more
		}
		if err := fetches.Err0(); err != nil && fetches.NumRecords() == 0 {
			if !errors.Is(err, context.DeadlineExceeded) && c.ctx.Err() == nil {
				return err
			}
			break
		}
	}
	if c.has("group") {
		if err := member.commit(c.ctx, cl, c.has("from-beginning")); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.errOut, "Processed a total of %d messages\n", count)
	return nil
}

// member is this consumer in its group.
type member struct {
	mu       sync.Mutex // guards the rest: the client's goroutines assign
	assigned map[string][]int32
}

func (m *member) assign(_ context.Context, _ *kgo.Client, more map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, partitions := range more {
		m.assigned[topic] = append(m.assigned[topic], partitions...)
	}
}

// commit commits where the consumer is, also in partitions of which it has read nothing, as Kafka's does.
func (m *member) commit(ctx context.Context, cl *kgo.Client, fromBeginning bool) error {
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var topics []string
	for topic := range m.assigned {
		topics = append(topics, topic)
	}
	if topics == nil {
		return nil
	}
	admin := kadm.NewClient(cl)
	list := admin.ListEndOffsets
	if fromBeginning {
		list = admin.ListStartOffsets
	}
	begins, err := list(ctx, topics...)
	if err != nil {
		return err
	}
	have := cl.CommittedOffsets()
	missing := map[string]map[int32]kgo.EpochOffset{}
	for topic, partitions := range m.assigned {
		for _, n := range partitions {
			begin, ok := begins.Lookup(topic, n)
			if _, known := have[topic][n]; known || !ok || begin.Err != nil {
				continue
			}
			if missing[topic] == nil {
				missing[topic] = map[int32]kgo.EpochOffset{}
			}
			missing[topic][n] = kgo.EpochOffset{Epoch: -1, Offset: begin.Offset}
		}
	}
	var failed error
	if len(missing) > 0 {
		cl.CommitOffsetsSync(ctx, missing, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
			failed = err
		})
	}
	return failed
}

func (c *call) number(name string, otherwise int64) (int64, error) {
	if !c.has(name) {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(c.get(name, ""), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Cannot parse argument '%s' of option %s", c.get(name, ""), name)
	}
	return n, nil
}

// consuming are the client's options for what is to be read: one partition from an offset on, or as a member of a group.
func (c *call) consuming() ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.FetchMaxWait(500 * time.Millisecond)}
	switch level := c.get("isolation-level", "read_uncommitted"); level {
	case "read_uncommitted":
	case "read_committed":
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	default:
		return nil, fmt.Errorf("Invalid value %s for configuration isolation.level", level)
	}
	start := kgo.NewOffset().AtEnd()
	if c.has("from-beginning") {
		start = kgo.NewOffset().AtStart()
	}
	if c.has("partition") {
		n, err := c.number("partition", 0)
		if err != nil {
			return nil, err
		}
		switch at := c.get("offset", ""); at {
		case "":
		case "earliest":
			start = kgo.NewOffset().AtStart()
		case "latest":
			start = kgo.NewOffset().AtEnd()
		default:
			offset, err := strconv.ParseInt(at, 10, 64)
			if err != nil || offset < 0 {
				return nil, fmt.Errorf("The provided offset value '%s' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long.", at)
			}
			start = kgo.NewOffset().At(offset)
		}
		return append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.get("topic", ""): {int32(n): start}})), nil
	}
	if c.has("offset") {
		return nil, errors.New("The partition is required when offset is specified.")
	}
	group := c.get("group", "")
	if group == "" {
		group = fmt.Sprintf("console-consumer-%d", rand.IntN(100_000))
	}
	opts = append(opts, kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(start), kgo.AllowAutoTopicCreation())
	if !c.has("group") {
		opts = append(opts, kgo.DisableAutoCommit())
	}
	if c.has("blacklist") {
		return append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(".*"), kgo.ConsumeExcludeTopics("^(?:"+c.get("blacklist", "")+")$", "^__")), nil
	}
	if c.has("include") {
		return append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics("^(?:"+c.get("include", "")+")$")), nil
	}
	return append(opts, kgo.ConsumeTopics(c.get("topic", ""))), nil
}

// recordFormat is how a record becomes a line: --formatter-property.
type recordFormat struct {
	timestamp, partition, offset, epoch, headers, key, value bool
	separator, line, headersSeparator, null                  string
}

func newRecordFormat(p map[string]string) recordFormat {
	on := func(name string) bool { return p["print."+name] == "true" }
	return recordFormat{timestamp: on("timestamp"), partition: on("partition"), offset: on("offset"), epoch: on("epoch"), headers: on("headers"), key: on("key"),
		value: p["print.value"] != "false", separator: property(p, "key.separator", "\t"), line: property(p, "line.separator", "\n"), headersSeparator: property(p, "headers.separator", ","), null: property(p, "null.literal", "null")}
}

func (f recordFormat) text(b []byte) string {
	if b == nil {
		return f.null
	}
	return string(b)
}

func (f recordFormat) write(w io.Writer, r *kgo.Record) {
	var parts []string
	if f.timestamp {
		kind := "CreateTime"
		if r.Attrs.TimestampType() == 1 {
			kind = "LogAppendTime"
		}
		parts = append(parts, fmt.Sprintf("%s:%d", kind, r.Timestamp.UnixMilli()))
	}
	if f.partition {
		parts = append(parts, fmt.Sprintf("Partition:%d", r.Partition))
	}
	if f.offset {
		parts = append(parts, fmt.Sprintf("Offset:%d", r.Offset))
	}
	if f.epoch {
		parts = append(parts, fmt.Sprintf("Epoch:%d", r.LeaderEpoch))
	}
	if f.headers {
		text := "NO_HEADERS"
		var list []string
		for _, h := range r.Headers {
			list = append(list, h.Key+":"+f.text(h.Value))
		}
		if list != nil {
			text = strings.Join(list, f.headersSeparator)
		}
		parts = append(parts, text)
	}
	if f.key {
		parts = append(parts, f.text(r.Key))
	}
	if f.value {
		parts = append(parts, f.text(r.Value))
	}
	_, _ = io.WriteString(w, strings.Join(parts, f.separator)+f.line)
}
