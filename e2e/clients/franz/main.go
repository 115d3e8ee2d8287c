// franz-go, driven by the tests. The commands are described in drivers.go.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func main() {
	var err error
	switch a := os.Args[1:]; a[0] {
	case "produce":
		from, _ := strconv.Atoi(a[4])
		to, _ := strconv.Atoi(a[5])
		err = produce(a[1], a[2], a[3], from, to)
	case "stream":
		partitions, _ := strconv.Atoi(a[3])
		var opts []kgo.Opt // as they are, or of a producer without idempotence, which has one request at a time
		if len(a) > 5 {
			acks := map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck()}[a[5]]
			opts = []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks)}
		}
		err = stream(a[1], a[2], partitions, a[4], opts...)
	case "copy":
		err = copyRecords(a[1], a[2], a[3], a[4], a[5])
	default:
		err = consume(a[1], a[2], a[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func produce(addr, topic, codec string, from, to int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codecs[codec]))
	if err != nil {
		return err
	}
	defer cl.Close()
	var batch []*kgo.Record
	for i := from; i < to; i++ {
		batch = append(batch, &kgo.Record{
			Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "value-%d-%s", i, strings.Repeat("x", 50)),
			Headers: []kgo.RecordHeader{{Key: "i", Value: []byte(strconv.Itoa(i))}},
		})
	}
	return cl.ProduceSync(context.Background(), batch...).FirstErr()
}

func stream(addr, topic string, partitions int, name string, opts ...kgo.Opt) error {
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	end := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(end)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		value := fmt.Sprintf("%s-%d", name, i)
		fmt.Println("sent", value, i%partitions)
		cl.Produce(context.Background(), &kgo.Record{Partition: int32(i % partitions), Key: fmt.Appendf(nil, "key-%d", i), Value: []byte(value)}, func(r *kgo.Record, err error) {
			if err != nil {
				fmt.Println("error", value, err)
			} else {
				fmt.Println("ack", value, r.Offset)
			}
		})
		select {
		case <-tick.C:
		case <-end:
			if err := cl.Flush(context.Background()); err != nil {
				return err
			}
			fmt.Println("closed")
			return nil
		}
	}
}

func consume(addr, topic, group string) error {
	held := map[int32]bool{}
	show := func() {
		var list []string
		for p := range held {
			list = append(list, strconv.Itoa(int(p)))
		}
		sort.Strings(list)
		fmt.Println("assigned " + strings.Join(list, ","))
	}
	lose := func(ctx context.Context, cl *kgo.Client, lost map[string][]int32) {
		_ = cl.CommitMarkedOffsets(ctx)
		for _, p := range lost[topic] {
			delete(held, p)
		}
		show()
	}
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			for _, p := range got[topic] {
				held[p] = true
			}
			show()
		}),
		kgo.OnPartitionsRevoked(lose), kgo.OnPartitionsLost(lose),
	)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) {
			key, header := "-", "-"
			if len(r.Key) > 0 {
				key = string(r.Key)
			}
			for _, h := range r.Headers {
				if h.Key == "i" {
					header = string(h.Value)
				}
			}
			fmt.Println("record", r.Partition, r.Offset, key, string(r.Value), header)
			cl.MarkCommitRecords(r)
		})
		cl.AllowRebalance()
	}
	if err := cl.CommitMarkedOffsets(context.Background()); err != nil {
		return err
	}
	cl.Close()
	fmt.Println("closed")
	return nil
}

func copyRecords(addr, source, target, group, id string) error {
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Second),
		kgo.DefaultProduceTopic(target), kgo.ConsumeTopics(source), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond))
	if err != nil {
		return err
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	for ctx.Err() == nil {
		fetches := session.PollRecords(ctx, 500)
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return err
		}
		aborting := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(context.Background(), &kgo.Record{Key: r.Key, Value: r.Value}, aborting.Promise())
		})
		committed, err := session.End(context.Background(), aborting.Err() == nil)
		if err != nil {
			return err // the test starts the next one
		}
		if committed {
			fmt.Println("copied", fetches.NumRecords())
		}
	}
	fmt.Println("closed")
	return nil
}
