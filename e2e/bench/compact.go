package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/wire/record"
)

// What the two brokers say of a compaction.
var (
	kraftCompacted = regexp.MustCompile(`compacted .*partition=bench-0 read=(\d+) took=([\d.]+)`)
	kafkaCompacted = regexp.MustCompile(`([\d,.]+) MB of log processed in ([\d,.]+) seconds`)
)

// benchCompact fills a log in which each key is written about forty times, lets the cleaner at it and reads
// from the broker's own log how fast it was.
func benchCompact(o options, t *target) (result, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(t.addr))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	s := func(v string) *string { return &v }
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{
		"cleanup.policy": s("compact"), "segment.bytes": s("104857600"), "min.cleanable.dirty.ratio": s("1"),
	}, topicName); err != nil {
		return nil, err
	}
	if err := fillKeyed(t.addr, o.megabytes(1000, 300)); err != nil {
		return nil, err
	}
	if _, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.cleanable.dirty.ratio", Value: s("0.01")}}, topicName); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		if rate, ok := compacted(t.process.Output()); ok {
			return result{"log compacted": rate}, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("no compaction within three minutes")
}

// compacted finds what a broker said of its first compaction, in MB/s.
func compacted(output string) (float64, bool) {
	if m := kraftCompacted.FindStringSubmatch(output); m != nil {
		read, _ := strconv.ParseFloat(m[1], 64)
		millis, _ := strconv.ParseFloat(m[2], 64)
		// Both passes over the log are counted by kraft, only the log's size by Apache Kafka.
		return read / 2 / 1000 / millis, true
	}
	if m := kafkaCompacted.FindStringSubmatch(output); m != nil {
		mb, _ := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64)
		seconds, _ := strconv.ParseFloat(strings.ReplaceAll(m[2], ",", ""), 64)
		return mb * 1.048576 / seconds, true
	}
	return 0, false
}

// fillKeyed writes batches whose 12,800 keys come round and round.
func fillKeyed(addr string, megabytes int) error {
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	value := make([]byte, recordBytes)
	var requests [][]byte
	for i := range 200 {
		w := record.NewBuilder(record.None)
		for j := range batchRecords {
			w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Appendf(nil, "key-%d", i*batchRecords+j), Value: value})
		}
		b, err := w.Build()
		if err != nil {
			return err
		}
		requests = append(requests, produceFrame(topicName, 0, 1, b))
	}
	for i := 0; i*len(requests[0]) < megabytes*1_000_000; i++ {
		if _, err := c.Write(requests[i%len(requests)]); err != nil {
			return err
		}
		body, err := c.skip(300)
		if err != nil {
			return err
		}
		if err := checkProduced(body); err != nil {
			if i > 0 {
				return err
			}
			i-- // its leader is not ready yet
		}
	}
	return nil
}
