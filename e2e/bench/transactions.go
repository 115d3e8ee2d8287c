package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactors are the producers that make transactions at the same time.
const transactors = 8

// transactor makes a producer with a transactional id.
func (c *cluster) transactor(i int) (*kgo.Client, error) {
	return c.client(kgo.TransactionalID(fmt.Sprintf("transactor-%d", i)), kgo.DefaultProduceTopic(topicName), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
}

// transact makes one transaction with a record in each partition, and returns how long its commit took.
func transact(ctx context.Context, cl *kgo.Client, partitions int32) (time.Duration, error) {
	if err := cl.BeginTransaction(); err != nil {
		return 0, err
	}
	records := make([]*kgo.Record, partitions)
	for p := range records {
		records[p] = &kgo.Record{Partition: int32(p), Value: make([]byte, 100)}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return 0, err
	}
	begun := time.Now()
	err := cl.EndTransaction(ctx, kgo.TryCommit)
	return time.Since(begun), err
}

// benchTransactions has producers make transactions over all of a topic's partitions, which have three replicas.
func benchTransactions(partitions int32) func(options, *cluster) (result, error) {
	return func(o options, c *cluster) (result, error) {
		if _, err := c.create(partitions, nil); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		clients := make([]*kgo.Client, transactors)
		for i := range clients {
			cl, err := c.transactor(i)
			if err != nil {
				return nil, err
			}
			defer cl.Close()
			clients[i] = cl
		}
		run := func(d time.Duration) (took []float64, err error) {
			var mu sync.Mutex
			end := time.Now().Add(d)
			err = atOnce(transactors, func(i int) error {
				for time.Now().Before(end) {
					one, err := transact(ctx, clients[i], partitions)
					if err != nil {
						return err
					}
					mu.Lock()
					took = append(took, float64(one.Nanoseconds())/1e6)
					mu.Unlock()
				}
				return nil
			})
			return took, err
		}
		seconds := 8 * time.Second
		if o.quick {
			seconds = 3 * time.Second
		}
		if _, err := run(seconds); err != nil { // warm-up
			return nil, err
		}
		cpu, begun := c.cpu(), time.Now()
		took, err := run(seconds)
		if err != nil {
			return nil, err
		}
		elapsed, cpu := time.Since(begun).Seconds(), c.cpu()-cpu
		slices.Sort(took)
		return result{"transactions": float64(len(took)) / elapsed, "commit p50": took[len(took)/2], "commit p99": took[len(took)*99/100], "broker CPU": cpu * 1000 / float64(len(took))}, nil
	}
}

var transactionFigures = []figure{
	{name: "transactions", unit: "1/s", wanted: 2, more: true},
	{name: "commit p50", unit: "ms", wanted: 0.5},
	{name: "commit p99", unit: "ms", wanted: 0.5},
	{name: "broker CPU", unit: "ms a transaction", wanted: 0.3},
}

// coordinator asks for the broker that coordinates a transactional id.
func (c *cluster) coordinator(ctx context.Context, cl *kgo.Client, id string) (int32, error) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = 1, id, []string{id}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return 0, err
	}
	if len(resp.Coordinators) == 1 {
		return resp.Coordinators[0].NodeID, nil
	}
	return resp.NodeID, nil
}

// benchTransactionFailover kills the coordinator of a producer that makes one transaction after the other.
func benchTransactionFailover(o options, c *cluster) (result, error) {
	const partitions = 3
	if _, err := c.create(partitions, nil); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cl, err := c.transactor(0)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	longest, last := time.Duration(0), time.Now()
	run := func(d time.Duration) error {
		for end := time.Now().Add(d); time.Now().Before(end); {
			if _, err := transact(ctx, cl, partitions); err != nil {
				for cl.EndTransaction(ctx, kgo.TryAbort) != nil { // as an application does; the gap goes on
					if ctx.Err() != nil {
						return err
					}
					time.Sleep(5 * time.Millisecond)
				}
				continue
			}
			longest, last = max(longest, time.Since(last)), time.Now()
		}
		return nil
	}
	if err := run(3 * time.Second); err != nil {
		return nil, err
	}
	id, err := c.coordinator(ctx, cl, "transactor-0")
	if err != nil {
		return nil, err
	}
	longest, last = 0, time.Now()
	time.AfterFunc(time.Second, func() { c.nodes[id-1].process().Kill() })
	if err := run(15 * time.Second); err != nil {
		return nil, err
	}
	return result{"longest gap, the coordinator killed": float64(longest.Nanoseconds()) / 1e6}, nil
}

// benchReadCommitted reads a topic that transactions have written, once as it is and once with isolation.level=read_committed.
func benchReadCommitted(o options, c *cluster) (result, error) {
	leaders, err := c.create(partitions, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cl, err := c.transactor(0)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	const batches, size = 400, 1000 // records of a transaction, and their bytes
	mb := o.megabytes(400, 40)
	for n := range mb * 1_000_000 / batches / size {
		if err := cl.BeginTransaction(); err != nil {
			return nil, err
		}
		records := make([]*kgo.Record, batches)
		for i := range records {
			records[i] = &kgo.Record{Partition: int32(i % partitions), Value: make([]byte, size)}
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return nil, err
		}
		if err := cl.EndTransaction(ctx, n%20 != 0); err != nil {
			return nil, err
		}
	}
	rate := func(isolation int8) (float64, error) {
		begun, total := time.Now(), int64(0)
		for p, leader := range leaders {
			n, err := readAll(c.addrs[leader-1], int32(p), isolation)
			if err != nil {
				return 0, err
			}
			total += n
		}
		return float64(total) / 1e6 / time.Since(begun).Seconds(), nil
	}
	var plain, committed []float64
	for range 7 {
		for isolation, into := range []*[]float64{&plain, &committed} {
			v, err := rate(int8(isolation))
			if err != nil {
				return nil, err
			}
			*into = append(*into, v)
		}
	}
	return result{"read_committed": median(committed), "of the plain rate": median(committed) / median(plain)}, nil
}

// readAll reads a partition from its leader over a bare connection, to its end, and returns the bytes that came.
func readAll(leader string, partition int32, isolation int8) (total int64, err error) {
	conn, err := dial(leader)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for offset := int64(0); ; {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch, req.IsolationLevel = 11, 0, 0, 50<<20, -1, isolation
		t := kmsg.NewFetchRequestTopic()
		t.Topic = topicName
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, offset, 1<<20, -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		resp, err := conn.ask(req)
		if err != nil {
			return 0, err
		}
		answer := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if answer.ErrorCode != 0 {
			return 0, errors.New("a fetch failed")
		}
		next := lastOffset(answer.RecordBatches) + 1
		if next <= offset {
			return total, nil
		}
		total, offset = total+int64(len(answer.RecordBatches)), next
	}
}
