package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/cli/perf"
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
	load perf.Load
}

func producerPerf(c *call) error {
	p := &perfProducer{c, perf.Load{Key: perf.NoKey}}
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
	settings, err := c.clientSettings()
	if err != nil {
		return nil, err
	}
	for _, text := range c.givenProperties() {
		if !strings.Contains(text, "=") {
			return nil, fmt.Errorf("Invalid property: %s", text)
		}
	}
	if servers := settings["bootstrap.servers"]; servers != "" && !c.has("bootstrap-server") {
		c.values["bootstrap-server"] = []string{servers}
	}
	return settings, nil
}

// numbered makes options of the settings among some that are given, whose values are numbers.
func numbered(settings map[string]string, uses map[string]func(n int64) kgo.Opt) (opts []kgo.Opt, err error) {
	for _, key := range slices.Sorted(maps.Keys(uses)) {
		text, ok := settings[key]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("Invalid value %s for configuration %s: Not a number", text, key)
		}
		opts = append(opts, uses[key](n))
	}
	return opts, nil
}

// producerSettings make a client do what a Kafka producer's settings say, as far as it can.
func producerSettings(settings map[string]string) ([]kgo.Opt, error) {
	opts, err := numbered(settings, map[string]func(n int64) kgo.Opt{
		"linger.ms":        func(n int64) kgo.Opt { return kgo.ProducerLinger(time.Duration(n) * time.Millisecond) },
		"batch.size":       func(n int64) kgo.Opt { return kgo.ProducerBatchMaxBytes(int32(max(n, 1<<10))) },
		"buffer.memory":    func(n int64) kgo.Opt { return kgo.MaxBufferedBytes(int(n)) },
		"max.request.size": func(n int64) kgo.Opt { return kgo.BrokerMaxWriteBytes(int32(n)) },
	})
	if err != nil {
		return nil, err
	}
	acks, ok := Acks[settings["acks"]]
	if !ok {
		return nil, fmt.Errorf("Invalid value %s for configuration acks: String must be one of: all, -1, 0, 1", settings["acks"])
	}
	opts = append(opts, acks...)
	codec := kgo.NoCompression()
	if name := settings["compression.type"]; name != "" {
		var ok bool
		if codec, ok = Codecs[name]; !ok {
			return nil, fmt.Errorf("Invalid value %s for configuration compression.type", name)
		}
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
	if p.load.Rate, err = strconv.ParseFloat(p.get("throughput", ""), 64); err != nil {
		return fmt.Errorf("kafka-producer-perf-test: error: argument --throughput is a number, not %s", p.get("throughput", ""))
	}
	if p.load.Records, err = p.number("num-records", 0); err == nil && p.load.Records <= 0 {
		err = errors.New("--num-records should be greater than zero.")
	}
	if err != nil {
		return err
	}
	if p.load.Warmup, err = p.number("warmup-records", 0); err == nil && p.load.Warmup >= p.load.Records {
		err = errors.New("The value for --warmup-records must be strictly fewer than the number of records in the test, --num-records.")
	}
	if err != nil {
		return err
	}
	interval, err := p.number("reporting-interval", 5000)
	if err != nil {
		return err
	}
	if p.load.Interval = time.Duration(interval) * time.Millisecond; p.load.Interval <= 0 {
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
		p.load.Key = func() []byte { return strconv.AppendInt(nil, rng.Int64N(keys), 10) }
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
		p.load.Payload = func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	case "record-size":
		size, err := p.number("record-size", 0)
		if err != nil || size <= 0 || size > maxRecord {
			return fmt.Errorf("--record-size should be from 1 to %d.", maxRecord)
		}
		p.load.Payload = perf.RandomLetters(int(size), rng)
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
		p.load.Payload = func(int64) []byte { return lines[rng.IntN(len(lines))] }
	}
	return nil
}

// maxRecord bounds --record-size in bytes.
const maxRecord = 1 << 30

func (p *perfProducer) run(cl *kgo.Client) error {
	p.load.Report = func(w perf.Window) {
		records, bytes := w.PerSecond()
		fmt.Fprintf(p.out, "%d records sent, %.1f records/sec (%.2f MB/sec), %.1f ms avg latency, %.1f ms max latency.\n", w.Records, records, bytes/(1<<20), ms(w.Mean), ms(w.Longest))
	}
	r, err := perf.Produce(p.ctx, cl, p.load)
	if err != nil {
		return err
	}
	records, bytes := r.PerSecond()
	quantile := func(q float64) int64 { return r.Quantile(q).Milliseconds() }
	fmt.Fprintf(p.out, "%d records sent, %f records/sec (%.2f MB/sec), %.2f ms avg latency, %.2f ms max latency, %d ms 50th, %d ms 95th, %d ms 99th, %d ms 99.9th.\n",
		r.Records, records, bytes/(1<<20), ms(r.Mean), ms(r.Longest), quantile(0.5), quantile(0.95), quantile(0.99), quantile(0.999))
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
