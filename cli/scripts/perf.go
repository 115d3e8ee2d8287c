package scripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"kraft/cli/config"
)

var producerPerfScript = script{
	about: "measure how fast records are produced",
	options: slices.Concat([]option{{name: "bootstrap-server"}, {name: "command-config", aliases: []string{"producer.config"}}, {name: "command-property", aliases: []string{"producer-props"}}},
		valued("topic", "num-records", "payload-delimiter", "throughput", "record-size", "payload-file", "warmup-records", "reporting-interval", "random-seed", "record-key-range"),
		flags("payload-monotonic", "print-metrics")),
	run: producerPerf,
}

// perfProducer is one run of kafka-producer-perf-test.
type perfProducer struct {
	*call
	records, warmup int64
	throughput      float64 // records a second, below 0 for no bound
	payload         func(n int64) []byte
	key             func() []byte
	interval        time.Duration

	mu      sync.Mutex // guards the rest
	failed  error      // the first
	begun   time.Time
	total   latencies // but for the warm-up
	window  latencies
	windowT time.Time
	done    int64
}

// latencies are those of some records.
type latencies struct {
	count, bytes int64
	sum, longest time.Duration
	sample       []time.Duration // for quantiles, of one in so many records
}

// sampled is how many latencies are kept, as Kafka's tool does it.
const sampled = 500_000

func producerPerf(c *call) error {
	p := &perfProducer{call: c, key: func() []byte { return nil }}
	settings, err := c.perfSettings()
	if err != nil {
		return err
	}
	if err := p.parse(); err != nil {
		return err
	}
	opts, err := producerSettings(settings)
	if err != nil {
		return err
	}
	cl, err := c.client(append(opts, kgo.DefaultProduceTopic(c.get("topic", "")), kgo.AllowAutoTopicCreation())...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return p.run(cl)
}

// perfSettings are those of --command-config, and of --command-property, behind which there may be several. They may name the brokers.
func (c *call) perfSettings() (map[string]string, error) {
	settings := map[string]string{}
	if file := c.get("command-config", ""); file != "" {
		var err error
		if settings, err = config.ReadFile(file); err != nil {
			return nil, err
		}
	}
	for _, text := range slices.Concat(c.all("command-property"), c.rest) {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("Invalid property: %s", text)
		}
		settings[key] = value
	}
	if servers := settings["bootstrap.servers"]; servers != "" && !c.has("bootstrap-server") {
		c.values["bootstrap-server"] = []string{servers}
	}
	return settings, nil
}

// producerSettings make a client do what a Kafka producer's settings say, as far as it can.
func producerSettings(settings map[string]string) ([]kgo.Opt, error) {
	var opts []kgo.Opt
	number := func(key string) (int64, bool, error) {
		text, ok := settings[key]
		if !ok {
			return 0, false, nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, false, fmt.Errorf("Invalid value %s for configuration %s: Not a number", text, key)
		}
		return n, true, nil
	}
	for key, use := range map[string]func(n int64) kgo.Opt{
		"linger.ms":        func(n int64) kgo.Opt { return kgo.ProducerLinger(time.Duration(n) * time.Millisecond) },
		"batch.size":       func(n int64) kgo.Opt { return kgo.ProducerBatchMaxBytes(int32(max(n, 1<<10))) },
		"buffer.memory":    func(n int64) kgo.Opt { return kgo.MaxBufferedBytes(int(n)) },
		"max.request.size": func(n int64) kgo.Opt { return kgo.BrokerMaxWriteBytes(int32(n)) },
	} {
		n, ok, err := number(key)
		if err != nil {
			return nil, err
		}
		if ok {
			opts = append(opts, use(n))
		}
	}
	switch settings["acks"] {
	case "", "all", "-1":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, fmt.Errorf("Invalid value %s for configuration acks: String must be one of: all, -1, 0, 1", settings["acks"])
	}
	codec := kgo.NoCompression()
	if name := settings["compression.type"]; name != "" {
		var ok bool
		if codec, ok = Codecs[name]; !ok {
			return nil, fmt.Errorf("Invalid value %s for configuration compression.type", name)
		}
	}
	if id := settings["client.id"]; id != "" {
		opts = append(opts, kgo.ClientID(id))
	}
	return append(opts, kgo.ProducerBatchCompression(codec)), nil
}

func (p *perfProducer) parse() (err error) {
	if p.get("topic", "") == "" {
		return errors.New("kafka-producer-perf-test: error: argument --topic is required")
	}
	if !p.has("throughput") {
		return errors.New("kafka-producer-perf-test: error: argument --throughput is required")
	}
	if p.throughput, err = strconv.ParseFloat(p.get("throughput", ""), 64); err != nil {
		return fmt.Errorf("kafka-producer-perf-test: error: argument --throughput is a number, not %s", p.get("throughput", ""))
	}
	if p.records, err = p.number("num-records", 0); err == nil && p.records <= 0 {
		err = errors.New("--num-records should be greater than zero.")
	}
	if err != nil {
		return err
	}
	if p.warmup, err = p.number("warmup-records", 0); err == nil && p.warmup >= p.records {
		err = errors.New("The value for --warmup-records must be strictly fewer than the number of records in the test, --num-records.")
	}
	if err != nil {
		return err
	}
	interval, err := p.number("reporting-interval", 5000)
	if err != nil {
		return err
	}
	if p.interval = time.Duration(interval) * time.Millisecond; p.interval <= 0 {
		return errors.New("--reporting-interval should be greater than zero.")
	}
	seed, err := p.number("random-seed", 0)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	keys, err := p.number("record-key-range", 0)
	if err != nil {
		return err
	}
	if keys > 0 {
		p.key = func() []byte { return strconv.AppendInt(nil, rng.Int64N(keys), 10) }
	}
	return p.parsePayload(rng)
}

// parsePayload finds out what records hold: random letters of --record-size, lines of --payload-file, or numbers.
func (p *perfProducer) parsePayload(rng *rand.Rand) error {
	which, err := p.one("record-size", "payload-file", "payload-monotonic")
	if err != nil {
		return errors.New("kafka-producer-perf-test: error: one of the arguments --record-size --payload-file --payload-monotonic is required")
	}
	switch which {
	case "payload-monotonic":
		p.payload = func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	case "record-size":
		size, err := p.number("record-size", 0)
		if err != nil || size <= 0 || size > maxRecord {
			return fmt.Errorf("--record-size should be from 1 to %d.", maxRecord)
		}
		letters := make([]byte, size)
		p.payload = func(int64) []byte {
			for i := range letters {
				letters[i] = 'A' + byte(rng.IntN(26))
			}
			return bytes.Clone(letters)
		}
	default:
		data, err := os.ReadFile(p.get("payload-file", ""))
		if err != nil {
			return err
		}
		delimiter := strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(p.get("payload-delimiter", `\n`))
		lines := bytes.Split(bytes.TrimSuffix(data, []byte(delimiter)), []byte(delimiter))
		if len(data) == 0 {
			return fmt.Errorf("File does not exist or empty file provided: %s", p.get("payload-file", ""))
		}
		p.payload = func(int64) []byte { return lines[rng.IntN(len(lines))] }
	}
	return nil
}

// maxRecord bounds --record-size in bytes.
const maxRecord = 1 << 30

func (p *perfProducer) run(cl *kgo.Client) error {
	limit := rate.NewLimiter(rate.Inf, 1)
	if p.throughput >= 0 {
		const burst = 50 // a second's share of what may come together
		limit = rate.NewLimiter(rate.Limit(p.throughput), max(1, int(p.throughput/burst)))
	}
	p.begun = time.Now()
	p.windowT = p.begun
	for n := range p.records {
		if err := limit.Wait(p.ctx); err != nil {
			break
		}
		record := &kgo.Record{Key: p.key(), Value: p.payload(n)}
		sent := time.Now()
		cl.Produce(p.ctx, record, func(r *kgo.Record, err error) { p.took(time.Since(sent), len(r.Key)+len(r.Value), err) })
	}
	if err := cl.Flush(context.WithoutCancel(p.ctx)); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return p.failed
	}
	p.summary()
	return nil
}

// took counts a record, and tells of a window when it is full.
func (p *perfProducer) took(latency time.Duration, size int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.failed == nil {
			p.failed = err
		}
		return
	}
	now := time.Now()
	if p.done++; p.done == p.warmup {
		p.begun = now
	}
	if p.done > p.warmup {
		p.total.add(latency, size)
		if p.total.count%(p.records/sampled+1) == 0 {
			p.total.sample = append(p.total.sample, latency)
		}
	}
	p.window.add(latency, size)
	if passed := now.Sub(p.windowT); passed >= p.interval {
		mean, longest := p.window.extremes()
		fmt.Fprintf(p.out, "%d records sent, %.1f records/sec (%.2f MB/sec), %.1f ms avg latency, %.1f ms max latency.\n", p.window.count,
			float64(p.window.count)/passed.Seconds(), float64(p.window.bytes)/passed.Seconds()/(1<<20), mean, longest)
		p.window, p.windowT = latencies{}, now
	}
}

// summary tells of all records. mu is held.
func (p *perfProducer) summary() {
	passed := time.Since(p.begun).Seconds()
	mean, longest := p.total.extremes()
	slices.Sort(p.total.sample)
	quantile := func(q float64) int64 {
		n := len(p.total.sample)
		return p.total.sample[min(n-1, int(q*float64(n)))].Milliseconds()
	}
	fmt.Fprintf(p.out, "%d records sent, %f records/sec (%.2f MB/sec), %.2f ms avg latency, %.2f ms max latency, %d ms 50th, %d ms 95th, %d ms 99th, %d ms 99.9th.\n",
		p.total.count, float64(p.total.count)/passed, float64(p.total.bytes)/passed/(1<<20), mean, longest, quantile(0.5), quantile(0.95), quantile(0.99), quantile(0.999))
}

func (l *latencies) add(d time.Duration, size int) {
	l.count++
	l.bytes += int64(size)
	l.sum += d
	l.longest = max(l.longest, d)
}

// extremes are the mean and the longest, in milliseconds.
func (l *latencies) extremes() (mean, longest float64) {
	return float64(l.sum) / 1e6 / float64(max(l.count, 1)), float64(l.longest) / 1e6
}
