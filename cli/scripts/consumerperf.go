package scripts

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var consumerPerfScript = script{
	about: "measure how fast records are consumed",
	options: slices.Concat([]option{{name: "bootstrap-server"}, {name: "command-config", aliases: []string{"consumer.config"}}, {name: "command-property"}, {name: "num-records", aliases: []string{"messages"}}},
		valued("topic", "include", "group", "fetch-size", "reporting-interval", "timeout", "date-format", "socket-buffer-size"), flags("from-latest", "hide-header", "show-detailed-stats", "print-metrics")),
	run: consumerPerf,
}

// javaMoment is how the tool prints times: Java's yyyy-MM-dd HH:mm:ss:SSS.
func javaMoment(t time.Time) string {
	return strings.Replace(t.Format("2006-01-02 15:04:05.000"), ".", ":", 1)
}

// consumerSettings make a client do what a Kafka consumer's settings say, as far as it can.
func consumerSettings(settings map[string]string) ([]kgo.Opt, error) {
	bytes := func(n int64) int32 { return int32(min(n, math.MaxInt32)) }
	opts, err := numbered(settings, map[string]func(n int64) kgo.Opt{
		"fetch.min.bytes":           func(n int64) kgo.Opt { return kgo.FetchMinBytes(bytes(n)) },
		"fetch.max.bytes":           func(n int64) kgo.Opt { return kgo.FetchMaxBytes(bytes(n)) },
		"max.partition.fetch.bytes": func(n int64) kgo.Opt { return kgo.FetchMaxPartitionBytes(bytes(n)) },
		"fetch.max.wait.ms":         func(n int64) kgo.Opt { return kgo.FetchMaxWait(time.Duration(n) * time.Millisecond) },
		"session.timeout.ms":        func(n int64) kgo.Opt { return kgo.SessionTimeout(time.Duration(n) * time.Millisecond) },
	})
	if err != nil {
		return nil, err
	}
	switch level := settings["isolation.level"]; strings.ToLower(level) {
	case "", "read_uncommitted":
	case "read_committed":
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	default:
		return nil, fmt.Errorf("Invalid value %s for configuration isolation.level: String must be one of: read_committed, read_uncommitted", level)
	}
	return opts, nil
}

func consumerPerf(c *call) error {
	topic := c.get("topic", c.get("include", ""))
	if topic == "" {
		return errors.New("Exactly one of the following arguments is required: [topic], [include]")
	}
	wanted, err := c.number("num-records", 0)
	if err != nil || wanted <= 0 {
		return errors.New("Missing required argument \"[num-records]\", a number greater than 0")
	}
	patience, err := c.number("timeout", 10_000)
	if err != nil {
		return err
	}
	interval, err := c.number("reporting-interval", 5000)
	if err != nil {
		return err
	}
	settings, err := c.perfSettings()
	if err != nil {
		return err
	}
	more, err := consumerSettings(settings)
	if err != nil {
		return err
	}
	if size, err := c.number("fetch-size", 0); err != nil {
		return err
	} else if size > 0 {
		more = append(more, kgo.FetchMaxPartitionBytes(int32(min(size, math.MaxInt32))))
	}
	start := kgo.NewOffset().AtStart()
	if c.has("from-latest") {
		start = kgo.NewOffset().AtEnd()
	}
	var mu sync.Mutex
	begun := time.Now()
	joined := begun
	assigned := func(context.Context, *kgo.Client, map[string][]int32) {
		mu.Lock()
		defer mu.Unlock()
		joined = time.Now()
	}
	opts := append(more, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(c.get("group", fmt.Sprintf("perf-consumer-%d", rand.IntN(100_000)))), kgo.ConsumeResetOffset(start), kgo.OnPartitionsAssigned(assigned))
	if c.has("include") {
		opts = append(opts, kgo.ConsumeRegex())
	}
	cl, err := c.client(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	detailed := c.has("show-detailed-stats")
	if !c.has("hide-header") {
		head := "start.time, end.time"
		if detailed {
			head = "time, threadId"
		}
		fmt.Fprintln(c.out, head+", data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec")
	}
	var records, bytes, recordsThen, bytesThen int64
	then := begun
	line := func(first string, records, bytes int64, since, now time.Time) {
		mu.Lock()
		rebalance := joined.Sub(begun)
		mu.Unlock()
		fetching := now.Sub(since)
		if since.Equal(begun) {
			fetching -= rebalance
		}
		mb, all := float64(bytes)/(1<<20), now.Sub(since).Seconds()
		fmt.Fprintf(c.out, "%s, %.4f, %.4f, %d, %.4f, %d, %d, %.4f, %.4f\n", first, mb, mb/all, records, float64(records)/all, rebalance.Milliseconds(), fetching.Milliseconds(), mb/fetching.Seconds(), float64(records)/fetching.Seconds())
	}
	last := time.Now()
	for records < wanted {
		ctx, cancel := context.WithDeadline(c.ctx, last.Add(time.Duration(patience)*time.Millisecond))
		fetches := cl.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			records++
			bytes += int64(len(r.Key) + len(r.Value))
			last = now
		})
		if detailed && now.Sub(then) >= time.Duration(interval)*time.Millisecond {
			line(javaMoment(now)+", 0", records-recordsThen, bytes-bytesThen, then, now)
			then, recordsThen, bytesThen = now, records, bytes
		}
		if fetches.NumRecords() == 0 && now.Sub(last) >= time.Duration(patience)*time.Millisecond {
			fmt.Fprintf(c.errOut, "WARNING: Exiting before consuming the expected number of messages: timeout (%d ms) exceeded. You can use the --timeout option to increase the timeout.\n", patience)
			break
		}
	}
	if !detailed {
		end := time.Now()
		line(javaMoment(begun)+", "+javaMoment(end), records, bytes, begun, end)
	}
	return nil
}
