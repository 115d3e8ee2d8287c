package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// benchStart restarts the broker on empty data, watching its port from outside.
func benchStart(o options, t *target) (result, error) {
	if err := t.down(); err != nil {
		return nil, err
	}
	// A second start of the same directory: the program's files are in the page cache, as they are on a
	// machine where it is started often.
	r := result{}
	begun := time.Now()
	started := make(chan error, 1)
	go func() { started <- t.again() }()
	if err := answered(t.addr, kmsg.NewPtrMetadataRequest(), func(resp kmsg.Response) bool {
		return len(resp.(*kmsg.MetadataResponse).Brokers) > 0
	}); err != nil {
		return nil, err
	}
	r["to first Metadata"] = time.Since(begun).Seconds() * 1000
	c, err := dial(t.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := produceFirst(c); err != nil {
		return nil, err
	}
	r["to first acknowledged produce"] = time.Since(begun).Seconds() * 1000
	if err := <-started; err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second) // idle, as the figure's name says
	r["resident memory idle"] = t.memory()
	begun = time.Now()
	if err := t.down(); err != nil {
		return nil, err
	}
	r["clean stop"] = time.Since(begun).Seconds() * 1000
	return r, t.again()
}

// answered asks until the broker answers as wanted.
func answered(addr string, req *kmsg.MetadataRequest, good func(kmsg.Response) bool) error {
	req.Version = 9
	req.Topics = []kmsg.MetadataRequestTopic{}
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if c, err := dial(addr); err == nil {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			resp, err := c.ask(req)
			_ = c.Close()
			if err == nil && good(resp) {
				return nil
			}
		}
		time.Sleep(500 * time.Microsecond)
	}
	return errors.New("no answer within a minute")
}

// produceFirst creates a topic by asking for it, as clients do, and writes one record to it.
func produceFirst(c *rawConn) error {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	request := produceFrame("first", 0, -1, batchOf(1, 100))
	meta := kmsg.NewPtrMetadataRequest()
	meta.Version, meta.AllowAutoTopicCreation = 9, true
	name := "first"
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &name
	meta.Topics = append(meta.Topics, mt)
	for {
		if _, err := c.ask(meta); err != nil {
			return err
		}
		if _, err := c.Write(request); err != nil {
			return err
		}
		body, err := c.skip(300)
		if err != nil {
			return err
		}
		if checkProduced(body) == nil {
			return nil
		}
		time.Sleep(500 * time.Microsecond)
	}
}

// benchPerf runs Apache Kafka's own producer-perf-test and consumer-perf-test.
func benchPerf(parts int32) func(options, *target) (result, error) {
	return func(o options, t *target) (result, error) {
		jars, err := harness.KafkaJars()
		if err != nil {
			return nil, err
		}
		if err := createTopic(t.addr, topicName, parts); err != nil {
			return nil, err
		}
		n := o.megabytes(5_000_000, 500_000)
		conf := filepath.Join(t.dir, "client.properties")
		if err := os.WriteFile(conf, []byte("bootstrap.servers="+t.addr+"\n"), 0o644); err != nil {
			return nil, err
		}
		out, err := toolOutput(jars, "org.apache.kafka.tools.ProducerPerformance", "--topic", topicName, "--num-records", fmt.Sprint(n),
			"--record-size", "100", "--throughput", "-1", "--command-config", conf)
		if err != nil {
			return nil, err
		}
		r := result{}
		if r["producer-perf-test"], err = lastNumber(out, `([\d.]+) records/sec`); err != nil {
			return nil, err
		}
		out, err = toolOutput(jars, "org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", t.addr, "--topic", topicName, "--num-records", fmt.Sprint(n))
		if err != nil {
			return nil, err
		}
		r["consumer-perf-test"], err = consumerRate(out)
		return r, err
	}
}
