//go:build !race

// The race detector allocates by itself.

package node

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/record"
)

// frame encodes a request with its header.
func frame(req kmsg.Request, version int16) []byte {
	req.SetVersion(version)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("c")).AppendRequest(nil, req, 1)
}

// TestAllocations bounds what a Produce and a Fetch allocate: a number for the request, and another for each of its partitions, whatever the
// number of records and their size is. Other goroutines of the node allocate, too, but rarely; of several rounds the best counts.
func TestAllocations(t *testing.T) {
	n := start(t, t.TempDir())
	defer func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const partitions = 64
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", n.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	into := make([]byte, 4<<20)
	ask := func(request []byte) {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, into[:4]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, into[:binary.BigEndian.Uint32(into)]); err != nil {
			t.Fatal(err)
		}
	}
	count := func(request []byte) float64 {
		const asked = 100
		best := uint64(1 << 40)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range asked {
				ask(request)
			}
			runtime.ReadMemStats(&after)
			best = min(best, after.Mallocs-before.Mallocs)
		}
		return float64(best) / asked
	}
	produce := func(parts, records int) []byte {
		b := record.NewBuilder(record.None)
		for range records {
			b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, 100)})
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = 1, 1000
		topic := kmsg.NewProduceRequestTopic()
		topic.Topic = "t"
		for i := range parts {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = int32(i), batch
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
		return frame(req, 11)
	}
	fetch := func(parts, bytes int) []byte {
		req := kmsg.NewPtrFetchRequest()
		req.MaxBytes, req.MinBytes = 1<<20, 1
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic = "t"
		for i := range parts {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.PartitionMaxBytes = int32(i), int32(bytes)
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
		return frame(req, 12)
	}
	ask(produce(partitions, 100)) // so that all have records
	for _, tc := range []struct {
		what              string
		request           func(parts, size int) []byte
		large             int     // records, or bytes
		one, much, eachOf float64 // bounds: one partition, one with large, and each further partition
	}{
		{"Produce", produce, 100, 16, 16, 2.2},
		{"Fetch", fetch, 1 << 20, 18, 32, 0.4}, // with large, by sendfile
	} {
		one, much, many := count(tc.request(1, 1)), count(tc.request(1, tc.large)), count(tc.request(partitions, 1))
		each := (many - one) / (partitions - 1)
		t.Logf("%s: %.1f for one partition, %.1f with much in it, %.2f for each further partition", tc.what, one, much, each)
		if one > tc.one || much > tc.much || each > tc.eachOf {
			t.Errorf("%s allocates more than %v, %v, and %v for each further partition", tc.what, tc.one, tc.much, tc.eachOf)
		}
	}
}
