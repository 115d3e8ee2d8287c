package e2e

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

func produceRequest(topic string, version int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 1000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = records
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{p}}}
	return req
}

func produceCode(c *conn, req *kmsg.ProduceRequest) error {
	c.t.Helper()
	return kerr.ErrorForCode(c.ask(req).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

func compressedBatch(t testing.TB, codec record.Codec, value []byte) []byte {
	t.Helper()
	w := record.NewBuilder(codec)
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: value})
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// memory is a process's resident size in MB.
func memory(t testing.TB, k *harness.Kraft) int {
	t.Helper()
	size, err := k.Resident()
	if err != nil {
		harness.Skip(t, "memory is read from /proc: %v", err)
	}
	return size >> 10 / 1000
}

func TestBadRecords(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "plain")
	k.CLI(t, "", "topic", "create", "compacted", "-c", "cleanup.policy=compact")
	k.CLI(t, "", "topic", "create", "recompressed", "-c", "compression.type=gzip", "-c", "max.decompressed.message.bytes=1000000")
	c := dial(t, k.Addr)
	good := plainBatch()
	flipped := append([]byte{}, good...)
	flipped[len(flipped)-1] ^= 1
	two := append(append([]byte{}, good...), good...)
	for name, tc := range map[string]struct {
		req  *kmsg.ProduceRequest
		want error
	}{
		"good":                  {produceRequest("plain", 9, good), nil},
		"wrong checksum":        {produceRequest("plain", 9, flipped), kerr.CorruptMessage},
		"cut batch":             {produceRequest("plain", 9, good[:len(good)-3]), kerr.InvalidRecord},
		"nothing":               {produceRequest("plain", 9, nil), kerr.InvalidRecord},
		"two batches":           {produceRequest("plain", 9, two), kerr.InvalidRecord},
		"old format":            {produceRequest("plain", 9, legacySet(t, 1)), kerr.InvalidRecord},
		"too large":             {produceRequest("plain", 9, compressedBatch(t, record.None, make([]byte, 2<<20))), kerr.MessageTooLarge},
		"zstd too early":        {produceRequest("plain", 6, compressedBatch(t, record.Zstd, []byte("v"))), kerr.UnsupportedCompressionType},
		"unknown topic":         {produceRequest("nothing", 9, good), kerr.UnknownTopicOrPartition},
		"no key":                {produceRequest("compacted", 9, withoutKey(t)), kerr.InvalidRecord},
		"bomb, to be opened":    {produceRequest("recompressed", 9, compressedBatch(t, record.Zstd, make([]byte, 100<<20))), kerr.InvalidRecord},
		"bomb in a message set": {produceRequest("recompressed", 2, legacyBomb(t)), kerr.InvalidRecord},
		"acks 7":                {func() *kmsg.ProduceRequest { r := produceRequest("plain", 9, good); r.Acks = 7; return r }(), kerr.InvalidRequiredAcks},
		"internal topic":        {produceRequest("__consumer_offsets", 9, good), kerr.UnknownTopicOrPartition},
	} {
		if got := produceCode(c, tc.req); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	// KIP-467: the records at fault are named.
	resp := c.ask(produceRequest("compacted", 9, withoutKey(t))).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if len(resp.ErrorRecords) != 1 || resp.ErrorRecords[0].RelativeOffset != 1 {
		t.Errorf("errors of records: %+v", resp.ErrorRecords)
	}
	// acks=0: the connection closes, there is nobody else to tell.
	silent := produceRequest("nothing", 9, good)
	silent.Acks = 0
	other := dial(t, k.Addr)
	if _, err := other.Write(kmsg.NewRequestFormatter().AppendRequest(nil, silent, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.read(); err == nil {
		t.Error("a failed produce with acks=0 is answered, or nothing happens")
	}
	fetch := fetchRequest("plain", 5000, 0)
	if got := c.ask(fetch).(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.OffsetOutOfRange.Code {
		t.Errorf("fetch beyond the end: %v", kerr.ErrorForCode(got))
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version = 7
	for _, name := range []string{"", ".", "..", "a b", "ä", strings.Repeat("x", 250), "per/haps"} {
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = name, 1, 1
		create.Topics = append(create.Topics, ct)
	}
	for _, r := range c.ask(create).(*kmsg.CreateTopicsResponse).Topics {
		if r.ErrorCode != kerr.InvalidTopicException.Code {
			t.Errorf("topic %q: %v", r.Topic, kerr.ErrorForCode(r.ErrorCode))
		}
	}
}

func withoutKey(t testing.TB) []byte {
	w := record.NewBuilder(record.None)
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte("v")})
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func legacyBomb(t testing.TB) []byte {
	set, err := record.ToLegacy(nil, 1, record.Gzip, false, []record.Record{{Timestamp: 1, Value: make([]byte, 100<<20)}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func fetchRequest(topic string, offset int64, wait int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, -1, wait, 1, 50<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = offset, 1<<20, -1
	req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return req
}

// TestHostilePeers throws what a network can at the broker, from many connections, while one client goes
// about its business: it must not notice, and the broker's memory must stay bounded.
func TestHostilePeers(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "plain")
	good := dial(t, k.Addr)
	if err := produceCode(good, produceRequest("plain", 9, plainBatch())); err != nil {
		t.Fatal(err)
	}
	before := memory(t, k)
	stop := make(chan struct{})
	var peers sync.WaitGroup
	attack := func(n int, what func(r *rand.Rand, c *conn)) {
		for i := range n {
			peers.Add(1)
			go func() {
				defer peers.Done()
				r := rand.New(rand.NewPCG(uint64(n), uint64(i)))
				for {
					select {
					case <-stop:
						return
					default:
					}
					c := dial(t, k.Addr)
					_ = c.SetDeadline(time.Now().Add(2 * time.Second))
					what(r, c)
					_ = c.Close()
				}
			}()
		}
	}
	attack(4, func(r *rand.Rand, c *conn) { // noise
		b := make([]byte, 1+r.IntN(5000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		_, _ = c.Write(b)
	})
	attack(8, func(r *rand.Rand, c *conn) { // a large frame that never comes
		_, _ = c.Write(binary.BigEndian.AppendUint32(nil, uint32(r.IntN(100<<20))))
		_, _ = c.Write([]byte{0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff})
		_, _ = c.Write(make([]byte, 10_000))
	})
	attack(4, func(r *rand.Rand, c *conn) { // arrays that claim much: eight million empty topics
		const size = 8<<20 - 100
		head := []byte{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff}
		_, _ = c.Write(binary.BigEndian.AppendUint32(nil, size))
		_, _ = c.Write(head)
		body := binary.BigEndian.AppendUint32(nil, (size-14)/2)
		_, _ = c.Write(append(body, make([]byte, size-len(head)-len(body))...))
		_, _ = c.read()
	})
	attack(2, func(r *rand.Rand, c *conn) { // valid requests, cut anywhere
		b := kmsg.NewRequestFormatter().AppendRequest(nil, fetchRequest("plain", 0, 100), 1)
		_, _ = c.Write(b[:r.IntN(len(b))])
	})
	worst, peak := time.Duration(0), 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		begun := time.Now()
		if err := produceCode(good, produceRequest("plain", 9, plainBatch())); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(begun))
		peak = max(peak, memory(t, k))
	}
	close(stop)
	peers.Wait()
	t.Logf("resident memory %d MB before, at most %d MB; slowest produce %v", before, peak, worst)
	// One request of eight MiB may become 64 times that while it is decoded; more must wait for it.
	if limit := before + 1500; peak > limit {
		t.Errorf("resident memory rose from %d MB to %d MB, more than %d", before, peak, limit)
	}
	if worst > 5*time.Second {
		t.Errorf("a produce took %v", worst)
	}
}
