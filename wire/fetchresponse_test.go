package wire

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// TestFetchResponseIsKmsgs holds the encoder that leaves room for file regions against kmsg's, in every
// version.
func TestFetchResponseIsKmsgs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := int16(rapid.IntRange(0, 18).Draw(t, "version"))
		ours, theirs := drawFetch(t, version)
		got, want := ours.AppendTo(nil), theirs.AppendTo(nil)
		if !bytes.Equal(got, want) {
			t.Fatalf("version %d:\ngot  %x\nwant %x", version, got, want)
		}
	})
}

func drawFetch(t *rapid.T, version int16) (*FetchResponse, *kmsg.FetchResponse) {
	i32 := rapid.Int32()
	ours := &FetchResponse{Version: version, ThrottleMillis: i32.Draw(t, "throttle"), SessionID: i32.Draw(t, "session")}
	theirs := kmsg.NewPtrFetchResponse()
	theirs.Version, theirs.ThrottleMillis, theirs.SessionID = version, ours.ThrottleMillis, ours.SessionID
	if version >= 7 {
		ours.ErrorCode = rapid.Int16().Draw(t, "error")
		theirs.ErrorCode = ours.ErrorCode
	}
	for range rapid.IntRange(0, 3).Draw(t, "topics") {
		name := rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "topic")
		id := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		ot := FetchTopic{Topic: name, TopicID: id}
		kt := kmsg.NewFetchResponseTopic()
		kt.Topic, kt.TopicID = name, id
		for range rapid.IntRange(0, 3).Draw(t, "partitions") {
			op, kp := drawPartition(t, version)
			ot.Partitions = append(ot.Partitions, op)
			kt.Partitions = append(kt.Partitions, kp)
		}
		ours.Topics = append(ours.Topics, ot)
		theirs.Topics = append(theirs.Topics, kt)
	}
	if version >= 16 {
		for range rapid.IntRange(0, 2).Draw(t, "brokers") {
			b := kmsg.NewFetchResponseBroker()
			b.NodeID, b.Host, b.Port = i32.Draw(t, "node"), "host", i32.Draw(t, "port")
			if rapid.Bool().Draw(t, "racked") {
				b.Rack = kmsg.StringPtr("rack")
			}
			ours.Brokers = append(ours.Brokers, b)
			theirs.Brokers = append(theirs.Brokers, b)
		}
	}
	return ours, theirs
}

func drawPartition(t *rapid.T, version int16) (FetchPartition, kmsg.FetchResponseTopicPartition) {
	i32, i64 := rapid.Int32(), rapid.Int64()
	op := NewFetchPartition(i32.Draw(t, "partition"))
	kp := kmsg.NewFetchResponseTopicPartition()
	kp.Partition = op.Partition
	op.ErrorCode = rapid.Int16().Draw(t, "error")
	op.HighWatermark, op.LastStableOffset, op.LogStartOffset = i64.Draw(t, "high"), i64.Draw(t, "stable"), i64.Draw(t, "start")
	op.PreferredReadReplica = i32.Draw(t, "preferred")
	kp.ErrorCode, kp.HighWatermark, kp.LastStableOffset, kp.LogStartOffset, kp.PreferredReadReplica = op.ErrorCode, op.HighWatermark, op.LastStableOffset, op.LogStartOffset, op.PreferredReadReplica
	if rapid.Bool().Draw(t, "aborted") {
		op.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		for range rapid.IntRange(0, 2).Draw(t, "transactions") {
			a := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			a.ProducerID, a.FirstOffset = i64.Draw(t, "producer"), i64.Draw(t, "first")
			op.AbortedTransactions = append(op.AbortedTransactions, a)
		}
	}
	kp.AbortedTransactions = op.AbortedTransactions
	data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "records")
	kp.RecordBatches = data
	if rapid.Bool().Draw(t, "inline") {
		op.Inline = data
	} else {
		lead := rapid.IntRange(0, 5).Draw(t, "lead")
		op.Region = Region{File: bytes.NewReader(append(make([]byte, lead), data...)), Offset: int64(lead), Length: len(data)}
	}
	if version >= 12 {
		if rapid.Bool().Draw(t, "diverges") {
			op.DivergingEpoch, op.DivergingEndOffset = 3, i64.Draw(t, "end")
			kp.DivergingEpoch.Epoch, kp.DivergingEpoch.EndOffset = op.DivergingEpoch, op.DivergingEndOffset
		}
		if rapid.Bool().Draw(t, "leader") {
			op.CurrentLeader, op.CurrentLeaderEpoch = 2, i32.Draw(t, "epoch")
			kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = op.CurrentLeader, op.CurrentLeaderEpoch
		}
	}
	return op, kp
}
