package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// benchLatency sends 1,000 small records a second by franz-go and measures until a consumer has them.
func benchLatency(o options, t *target) (result, error) {
	if err := createTopic(t.addr, topicName, 1); err != nil {
		return nil, err
	}
	seconds, warmup := 15, 3
	if o.quick {
		seconds, warmup = 3, 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	producer, err := kgo.NewClient(kgo.SeedBrokers(t.addr), kgo.DefaultProduceTopic(topicName), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(t.addr), kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	const rate = 1000
	total := rate * (seconds + warmup)
	var cpu float64
	go func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for i := range total {
			<-tick.C
			if i == rate*warmup {
				cpu = t.cpu()
			}
			value := binary.BigEndian.AppendUint64(make([]byte, 0, 100), uint64(time.Now().UnixNano()))
			producer.Produce(ctx, &kgo.Record{Value: value[:100]}, func(_ *kgo.Record, err error) {
				if err != nil {
					cancel()
				}
			})
		}
	}()
	var took []float64
	for n := 0; n < total; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", n, total, err)
		}
		now := time.Now().UnixNano()
		fetches.EachRecord(func(r *kgo.Record) {
			if n++; n > rate*warmup {
				took = append(took, float64(now-int64(binary.BigEndian.Uint64(r.Value)))/1e6)
			}
		})
	}
	used := t.cpu() - cpu
	slices.Sort(took)
	return result{
		"end to end p50": took[len(took)/2], "end to end p99": took[len(took)*99/100],
		"broker CPU a record": used * 1000 / float64(len(took)),
	}, nil
}

// benchGroup measures from a new group member's start to its first record: for the first group that a
// broker ever has, and for the following ones.
func benchGroup(o options, t *target) (result, error) {
	if err := createTopic(t.addr, topicName, 1); err != nil {
		return nil, err
	}
	c, err := dial(t.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(produceFrame(topicName, 0, 1, batchOf(1, 100))); err != nil {
		return nil, err
	}
	if body, err := c.skip(300); err != nil || checkProduced(body) != nil {
		return nil, fmt.Errorf("produce: %v", err)
	}
	first := func(group string) (float64, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		cl, err := kgo.NewClient(kgo.SeedBrokers(t.addr), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			return 0, err
		}
		defer cl.Close()
		if err := cl.PollFetches(ctx).Err(); err != nil {
			return 0, err
		}
		return time.Since(begun).Seconds() * 1000, nil
	}
	r := result{}
	if r["first group of a new broker"], err = first("group-0"); err != nil {
		return nil, err
	}
	var later []float64
	for i := range 9 {
		ms, err := first(fmt.Sprintf("group-%d", i+1))
		if err != nil {
			return nil, err
		}
		later = append(later, ms)
	}
	r["a new group later"] = median(later)
	return r, nil
}

// benchConnections holds many idle connections and measures memory and how fast another is answered.
func benchConnections(o options, t *target) (result, error) {
	n := 10_000
	if o.quick {
		n = 1000
	}
	before := t.memory()
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.Version, versions.ClientSoftwareName, versions.ClientSoftwareVersion = 3, "bench", "1"
	for range n {
		c, err := dial(t.addr)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", len(conns), err)
		}
		conns = append(conns, c)
		if _, err := c.ask(versions); err != nil {
			return nil, fmt.Errorf("connection %d: %w", len(conns), err)
		}
	}
	c, err := dial(t.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	meta := kmsg.NewPtrMetadataRequest()
	meta.Version, meta.Topics = 9, []kmsg.MetadataRequestTopic{}
	var took []float64
	for range 2000 {
		begun := time.Now()
		if _, err := c.ask(meta); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun).Seconds()*1000)
	}
	time.Sleep(2 * time.Second)
	total := t.memory()
	return result{"resident memory in all": total, "memory a connection": (total - before) * 1000 / float64(n), "answer to another, median": median(took)}, nil
}
