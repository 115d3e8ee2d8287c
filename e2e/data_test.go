package e2e

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

// batchAt is a batch of one record with the given timestamp and size.
func batchAt(t testing.TB, ms int64, size int) []byte {
	t.Helper()
	w := record.NewBuilder(record.None)
	w.Add(&record.Record{Timestamp: ms, Value: make([]byte, size)})
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sessionRequest is a Fetch in a session, of the given partitions of topic s.
func sessionRequest(id, epoch int32, offsets map[int32]int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 11, -1, 0, 1, 50<<20
	req.SessionID, req.SessionEpoch = id, epoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic = "s"
	for n, offset := range offsets {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = n, offset, 1<<20, -1
		t.Partitions = append(t.Partitions, p)
	}
	if len(t.Partitions) > 0 {
		req.Topics = append(req.Topics, t)
	}
	return req
}

func partitionsOf(resp *kmsg.FetchResponse) map[int32]kmsg.FetchResponseTopicPartition {
	out := map[int32]kmsg.FetchResponseTopicPartition{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out[p.Partition] = p
		}
	}
	return out
}

func TestFetchSessions(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "s", "-p", "3")
	c := dial(t, k.Addr)
	fetch := func(id, epoch int32, offsets map[int32]int64) *kmsg.FetchResponse {
		t.Helper()
		return c.ask(sessionRequest(id, epoch, offsets)).(*kmsg.FetchResponse)
	}
	first := fetch(0, 0, map[int32]int64{0: 0, 1: 0, 2: 0})
	if first.SessionID == 0 || len(partitionsOf(first)) != 3 {
		t.Fatalf("a full fetch opens session %d with %d partitions", first.SessionID, len(partitionsOf(first)))
	}
	id := first.SessionID
	if got := partitionsOf(fetch(id, 1, nil)); len(got) != 0 {
		t.Errorf("nothing changed, %d partitions are told", len(got))
	}
	if err := produceCode(c, produceRequest("s", 9, plainBatch())); err != nil {
		t.Fatal(err)
	}
	got := partitionsOf(fetch(id, 2, nil))
	if len(got) != 1 || len(got[0].RecordBatches) == 0 || got[0].HighWatermark != 1 {
		t.Errorf("one partition has a record: %+v", got)
	}
	if got := partitionsOf(fetch(id, 3, map[int32]int64{0: 1})); len(got) != 0 {
		t.Errorf("all read, %d partitions are told", len(got))
	}
	forget := sessionRequest(id, 4, nil)
	forget.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: "s", Partitions: []int32{0}}}
	c.ask(forget)
	if err := produceCode(c, produceRequest("s", 9, plainBatch())); err != nil {
		t.Fatal(err)
	}
	if got := partitionsOf(fetch(id, 5, nil)); len(got) != 0 {
		t.Errorf("a forgotten partition is told: %+v", got)
	}
	if got := fetch(id, 9, nil).ErrorCode; got != kerr.InvalidFetchSessionEpoch.Code {
		t.Errorf("wrong epoch: %v", kerr.ErrorForCode(got))
	}
	if got := fetch(id+1, 1, nil).ErrorCode; got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("unknown session: %v", kerr.ErrorForCode(got))
	}
	fetch(id, -1, nil)
	if got := fetch(id, 6, nil).ErrorCode; got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("a closed session: %v", kerr.ErrorForCode(got))
	}
}

func TestFetchWaitsAndLimits(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "f")
	c := dial(t, k.Addr)
	begun := time.Now()
	c.ask(fetchRequest("f", 0, 300))
	if took := time.Since(begun); took < 280*time.Millisecond {
		t.Errorf("an empty fetch with max.wait 300 ms came back after %v", took)
	}
	// A record that comes meanwhile is told at once.
	answered := make(chan time.Duration, 1)
	waiter := dial(t, k.Addr)
	go func() {
		if _, err := waiter.try(fetchRequest("f", 0, 20_000)); err != nil {
			t.Error(err)
		}
		answered <- time.Since(begun)
	}()
	// There is no outside sign of a parked fetch: whichever comes first, the answer must hold the record.
	if err := produceCode(c, produceRequest("f", 9, plainBatch())); err != nil {
		t.Fatal(err)
	}
	select {
	case <-answered:
	case <-time.After(5 * time.Second):
		t.Fatal("a waiting fetch does not notice a new record")
	}
	for range 20 {
		if err := produceCode(c, produceRequest("f", 9, batchAt(t, time.Now().UnixMilli(), 10_000))); err != nil {
			t.Fatal(err)
		}
	}
	size := func(change func(*kmsg.FetchRequest)) int {
		req := fetchRequest("f", 1, 0)
		change(req)
		return len(c.ask(req).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches)
	}
	if n := size(func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].PartitionMaxBytes = 35_000 }); n > 35_000 || n < 20_000 {
		t.Errorf("partition.max.bytes 35000 brings %d bytes", n)
	}
	if n := size(func(r *kmsg.FetchRequest) { r.MaxBytes = 25_000 }); n > 25_000 || n < 20_000 {
		t.Errorf("max.bytes 25000 brings %d bytes", n)
	}
	// KIP-74: the first batch comes whole, or nobody could pass it.
	if n := size(func(r *kmsg.FetchRequest) { r.MaxBytes, r.Topics[0].Partitions[0].PartitionMaxBytes = 10, 10 }); n < 10_000 || n > 11_000 {
		t.Errorf("a limit below one batch brings %d bytes", n)
	}
	minimum := fetchRequest("f", 20, 300)
	minimum.MinBytes = 100_000
	begun = time.Now()
	if got := c.ask(minimum).(*kmsg.FetchResponse).Topics[0].Partitions[0]; len(got.RecordBatches) == 0 || time.Since(begun) < 280*time.Millisecond {
		t.Errorf("min.bytes not there: %d bytes after %v", len(got.RecordBatches), time.Since(begun))
	}
}

func TestListOffsetsByTime(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "times", "-c", "segment.bytes=1048576")
	c := dial(t, k.Addr)
	start := time.Now().Add(-time.Hour).UnixMilli()
	stamps := []int64{start, start + 100, start + 200, start + 150, start + 300, start + 250}
	for _, ms := range stamps {
		if err := produceCode(c, produceRequest("times", 9, batchAt(t, ms, 400_000))); err != nil { // several segments
			t.Fatal(err)
		}
	}
	list := func(version int16, ms int64) (int64, int64) {
		t.Helper()
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version, req.ReplicaID = version, -1
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp, p.CurrentLeaderEpoch = ms, -1
		req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "times", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
		r := c.ask(req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		if r.ErrorCode != 0 {
			t.Fatalf("%d: %v", ms, kerr.ErrorForCode(r.ErrorCode))
		}
		return r.Offset, r.Timestamp
	}
	for _, tc := range []struct{ ask, offset, stamp int64 }{
		{-1, 6, -1}, {-2, 0, -1}, {-3, 4, start + 300}, {-4, 0, -1}, {-5, -1, -1},
		{0, 0, start}, {start, 0, start}, {start + 1, 1, start + 100}, {start + 101, 2, start + 200},
		{start + 201, 4, start + 300}, {start + 300, 4, start + 300}, {start + 301, -1, -1},
	} {
		version := int16(9)
		if tc.ask > -3 {
			version = 1
		}
		if offset, stamp := list(version, tc.ask); offset != tc.offset || stamp != tc.stamp {
			t.Errorf("asked for %d: offset %d at %d, want %d at %d", tc.ask-start, offset, stamp-start, tc.offset, tc.stamp-start)
		}
	}
	old := kmsg.NewPtrListOffsetsRequest() // version 0: segment starts, newest first
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp, p.MaxNumOffsets = -1, 100
	old.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "times", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	if got := fmt.Sprint(c.ask(old).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].OldStyleOffsets); got != "[6 4 2 0]" {
		t.Errorf("version 0 lists %s", got)
	}
}

// TestDeletedTopicComesBackEmpty: neither records, offsets nor producers of a topic survive its deletion.
func TestDeletedTopicComesBackEmpty(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "one\ntwo\n", "produce", "phoenix")
	k.CLI(t, "", "consume", "phoenix", "--from-beginning", "-n", "2", "-g", "g")
	k.CLI(t, "", "topic", "delete", "phoenix")
	k.CLI(t, "", "topic", "create", "phoenix")
	if err := harness.Eventually(5*time.Second, func() error {
		offsets, err := kadm.NewClient(client(t, k)).FetchOffsets(timeout(t, 5*time.Second), "g")
		if err != nil {
			return err
		}
		if len(offsets) > 0 {
			return fmt.Errorf("offsets %v of a deleted topic", offsets)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	k.CLI(t, "three\n", "produce", "phoenix")
	if out := k.CLI(t, "", "consume", "phoenix", "--from-beginning", "-n", "1"); out != "three\n" {
		t.Errorf("reads %q", out)
	}
	k.Restart(t)
	if out := k.CLI(t, "", "consume", "phoenix", "--from-beginning", "-n", "1", "-m"); !bytes.HasPrefix([]byte(out), []byte("0\t0\t")) {
		t.Errorf("after a restart reads %q", out)
	}
}

// TestRetention: old segments go by size and by time while the broker runs.
func TestRetention(t *testing.T) {
	k := harness.NewKraft(t, "--override", "log.retention.check.interval.ms=100", "--override", "log.segment.delete.delay.ms=0")
	k.CLI(t, "", "topic", "create", "small", "-c", "segment.bytes=1048576", "-c", "retention.bytes=3000000")
	k.CLI(t, "", "topic", "create", "brief", "-c", "segment.bytes=1048576", "-c", "retention.ms=60000")
	c := dial(t, k.Addr)
	for i := range 20 {
		if err := produceCode(c, produceRequest("small", 9, batchAt(t, time.Now().UnixMilli(), 500_000))); err != nil {
			t.Fatal(err)
		}
		age := time.Hour
		if i > 15 {
			age = 0
		}
		if err := produceCode(c, produceRequest("brief", 9, batchAt(t, time.Now().Add(-age).UnixMilli(), 500_000))); err != nil {
			t.Fatal(err)
		}
	}
	admin := kadm.NewClient(client(t, k))
	if err := harness.Eventually(10*time.Second, func() error {
		offsets, err := admin.ListStartOffsets(timeout(t, 5*time.Second), "small", "brief")
		if err != nil {
			return err
		}
		small, _ := offsets.Lookup("small", 0)
		brief, _ := offsets.Lookup("brief", 0)
		// Segments of two records go as a whole; retention at work meanwhile may have moved their borders by one.
		if small.Offset < 12 || small.Offset > 14 || brief.Offset < 15 || brief.Offset > 16 {
			return fmt.Errorf("logs start at %d and %d, want 13 and 16, or one less or more", small.Offset, brief.Offset)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestIdempotenceOverRestart: a batch that is sent again after a restart is not written twice.
func TestIdempotenceOverRestart(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "once")
	init := kmsg.NewPtrInitProducerIDRequest()
	init.Version = 4
	init.ProducerID, init.ProducerEpoch = -1, -1
	id := dial(t, k.Addr).ask(init).(*kmsg.InitProducerIDResponse).ProducerID
	send := func(sequence int32) (int64, error) {
		t.Helper()
		w := record.NewBuilder(record.None)
		w.ProducerID, w.ProducerEpoch, w.BaseSequence = id, 0, sequence
		w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		r := dial(t, k.Addr).ask(produceRequest("once", 9, b)).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		return r.BaseOffset, kerr.ErrorForCode(r.ErrorCode)
	}
	for seq := range int32(3) {
		if offset, err := send(seq); err != nil || offset != int64(seq) {
			t.Fatalf("sequence %d: offset %d, %v", seq, offset, err)
		}
	}
	for _, restart := range []func(){func() { k.Restart(t) }, func() {
		k.Kill()
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
	}} {
		restart()
		if offset, err := send(2); err != nil || offset != 2 {
			t.Errorf("sent again after a restart: offset %d, %v", offset, err)
		}
		if _, err := send(7); err != kerr.OutOfOrderSequenceNumber {
			t.Errorf("a gap in the sequence: %v", err)
		}
	}
	again := dial(t, k.Addr).ask(init).(*kmsg.InitProducerIDResponse).ProducerID
	if again == id {
		t.Errorf("producer id %d is given out twice", id)
	}
}

// TestConfigsTakeEffect: a topic's setting changes at once what the broker does.
func TestConfigsTakeEffect(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "tuned")
	admin := kadm.NewClient(client(t, k))
	ctx := timeout(t, 30*time.Second)
	alter := func(key string, value *string) error {
		op := kadm.SetConfig
		if value == nil {
			op = kadm.DeleteConfig
		}
		resp, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: key, Value: value}}, "tuned")
		if err != nil {
			return err
		}
		return resp[0].Err
	}
	s := func(v string) *string { return &v }
	c := dial(t, k.Addr)
	if err := alter("max.message.bytes", s("100")); err != nil {
		t.Fatal(err)
	}
	if err := produceCode(c, produceRequest("tuned", 9, batchAt(t, time.Now().UnixMilli(), 200))); err != kerr.MessageTooLarge {
		t.Errorf("max.message.bytes=100: %v", err)
	}
	if err := alter("max.message.bytes", nil); err != nil {
		t.Fatal(err)
	}
	if err := alter("message.timestamp.type", s("LogAppendTime")); err != nil {
		t.Fatal(err)
	}
	if err := produceCode(c, produceRequest("tuned", 9, batchAt(t, 5, 200))); err != nil {
		t.Fatal(err)
	}
	cl := client(t, k, kgo.ConsumeTopics("tuned"))
	records := cl.PollFetches(ctx).Records()
	if len(records) != 1 || time.Since(records[0].Timestamp) > time.Minute {
		t.Errorf("LogAppendTime: %v", records)
	}
	for key, value := range map[string]string{"retention.ms": "soon", "cleanup.policy": "shred", "segment.bytes": "-5", "no.such.key": "1", "compression.type": "rar"} {
		if err := alter(key, s(value)); err != kerr.InvalidConfig {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
	configs, err := admin.DescribeTopicConfigs(ctx, "tuned")
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range configs[0].Configs {
		if kv.Key == "message.timestamp.type" && (kv.MaybeValue() != "LogAppendTime" || kv.Source.String() != "DYNAMIC_TOPIC_CONFIG") {
			t.Errorf("described as %s from %v", kv.MaybeValue(), kv.Source)
		}
		if kv.Key == "retention.ms" && (kv.MaybeValue() != "604800000" || kv.Source.String() != "DEFAULT_CONFIG") {
			t.Errorf("retention.ms described as %s from %v", kv.MaybeValue(), kv.Source)
		}
	}
	k.Restart(t)
	if out := k.CLI(t, "", "topic", "describe", "tuned"); !bytes.Contains([]byte(out), []byte("message.timestamp.type=LogAppendTime")) {
		t.Errorf("lost by a restart: %s", out)
	}
}
