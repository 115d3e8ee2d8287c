package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topicName      = "bench"
	partitions     = 4
	recordBytes    = 1 << 10
	batchRecords   = 64
	unacknowledged = 5 // requests of a connection under way, as clients have it
)

func (o options) megabytes(full, quick int) int {
	if o.quick {
		return quick
	}
	return full * o.scale
}

// perGB turns seconds for so many megabytes into seconds for a thousand.
func perGB(seconds float64, megabytes int) float64 { return seconds * 1000 / float64(megabytes) }

// produceRaw sends megabytes over one connection for each partition.
func produceRaw(addr string, acks int16, megabytes int) error {
	return atOnce(partitions, func(p int) error { return producePartition(addr, int32(p), acks, megabytes/partitions) })
}

// producePartition sends megabytes to one partition over a connection of its own.
func producePartition(addr string, p int32, acks int16, megabytes int) error {
	batch := batchOf(batchRecords, recordBytes)
	each := megabytes * 1_000_000 / len(batch)
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	request := produceFrame(topicName, p, acks, batch)
	window := make(chan struct{}, unacknowledged)
	failed := make(chan error, 1)
	go func() {
		for range each {
			body, err := c.skip(200)
			if err == nil {
				err = checkProduced(body)
			}
			if err != nil {
				failed <- err
				return
			}
			<-window
		}
		failed <- nil
	}()
	for range each {
		select {
		case window <- struct{}{}:
		case err := <-failed:
			return err
		}
		if _, err := c.Write(request); err != nil {
			return err
		}
	}
	return <-failed
}

// atOnce runs f n times at once and returns the first error.
func atOnce(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = f(i)
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func benchProduce(acks int16) func(options, *target) (result, error) {
	return func(o options, t *target) (result, error) {
		if err := createTopic(t.addr, topicName, partitions); err != nil {
			return nil, err
		}
		if err := produceRaw(t.addr, acks, o.megabytes(500, 200)); err != nil { // warm-up
			return nil, err
		}
		mb := o.megabytes(2000, 300)
		cpu, begun := t.cpu(), time.Now()
		if err := produceRaw(t.addr, acks, mb); err != nil {
			return nil, err
		}
		took := time.Since(begun).Seconds()
		return result{"throughput": float64(mb) / took, "broker CPU": perGB(t.cpu()-cpu, mb)}, nil
	}
}

// fetchRaw reads the partitions given from their start until megabytes have come, again from the start
// when the end is reached.
func fetchRaw(addr string, parts []int32, megabytes int) error {
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	left := int64(megabytes) * 1_000_000
	offsets := map[int32]int64{}
	for left > 0 {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 11, 500, 1, 50<<20
		req.SessionEpoch = -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic = topicName
		for _, p := range parts {
			fp := kmsg.NewFetchRequestTopicPartition()
			fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = p, offsets[p], 1<<20, -1
			t.Partitions = append(t.Partitions, fp)
		}
		req.Topics = append(req.Topics, t)
		n, err := c.fetch(req, offsets)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// fetch sends one Fetch and reads its answer without keeping records; offsets move by whole batches,
// which all hold batchRecords records.
func (c *rawConn) fetch(req *kmsg.FetchRequest, offsets map[int32]int64) (int64, error) {
	resp, err := c.ask(req)
	if err != nil {
		return 0, err
	}
	batch := batchBytes
	var n int64
	for _, t := range resp.(*kmsg.FetchResponse).Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return 0, fmt.Errorf("partition %d at %d: %w", p.Partition, offsets[p.Partition], err)
			}
			n += int64(len(p.RecordBatches))
			offsets[p.Partition] += int64(len(p.RecordBatches) / batch * batchRecords)
			if offsets[p.Partition] >= p.HighWatermark {
				offsets[p.Partition] = 0
			}
		}
	}
	return n, nil
}

var batchBytes = len(batchOf(batchRecords, recordBytes))

func benchFetch(readers int) func(options, *target) (result, error) {
	return func(o options, t *target) (result, error) {
		if err := createTopic(t.addr, topicName, partitions); err != nil {
			return nil, err
		}
		if err := produceRaw(t.addr, 1, o.megabytes(1000, 300)); err != nil {
			return nil, err
		}
		read := func(mb int) error {
			return atOnce(readers, func(i int) error {
				if readers == 1 {
					return fetchRaw(t.addr, []int32{0, 1, 2, 3}, mb)
				}
				return fetchRaw(t.addr, []int32{int32(i % partitions)}, mb/readers)
			})
		}
		if err := read(o.megabytes(1000, 300)); err != nil { // warm-up
			return nil, err
		}
		mb := o.megabytes(8000, 1000)
		cpu, begun := t.cpu(), time.Now()
		if err := read(mb); err != nil {
			return nil, err
		}
		took := time.Since(begun).Seconds()
		return result{"throughput": float64(mb) / took, "broker CPU": perGB(t.cpu()-cpu, mb)}, nil
	}
}
