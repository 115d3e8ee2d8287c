package image

import (
	"testing"
)

func change(t UUID, n, leader int32) *Record {
	return &Record{Kind: &Record_PartitionChange{&PartitionChangeRecord{TopicId: t[:], Partition: n, Leader: &leader}}}
}

// TestCopiesAreApart: an image and its copy may both go on, and neither sees what becomes of the other.
func TestCopiesAreApart(t *testing.T) {
	id := UUID{1}
	a := Empty()
	a.Apply(&Record{Kind: &Record_Topic{&TopicRecord{Name: "t", Id: id[:]}}})
	for n := range int32(3) {
		a.Apply(NewPartition(id, n, &Partition{Replicas: []int32{1}, ISR: []int32{1}, Leader: 1}))
	}
	leader := func(m *Image, n int) int32 { topic, _ := m.Topic("t"); return topic.Partitions[n].Leader }
	a.Apply(change(id, 0, 5))
	b := a.Copy()
	a.Apply(change(id, 1, 6))
	b.Apply(change(id, 1, 7))
	c := b.Copy()
	b.Apply(change(id, 2, 8))
	c.Apply(NewPartition(id, 3, &Partition{Leader: 9}))
	for name, tc := range map[string]struct {
		m    *Image
		want []int32
	}{"a": {a, []int32{5, 6, 1}}, "b": {b, []int32{5, 7, 8}}, "c": {c, []int32{5, 7, 1, 9}}} {
		topic, _ := tc.m.Topic("t")
		byID, _ := tc.m.TopicByID(id)
		if len(topic.Partitions) != len(tc.want) || byID != topic {
			t.Errorf("%s has %d partitions, want %d", name, len(topic.Partitions), len(tc.want))
			continue
		}
		for n, want := range tc.want {
			if got := leader(tc.m, n); got != want {
				t.Errorf("%s: partition %d has leader %d, want %d", name, n, got, want)
			}
		}
	}
	// A topic that was removed and made again is another.
	c.Apply(&Record{Kind: &Record_RemoveTopic{&RemoveTopicRecord{Id: id[:]}}})
	c.Apply(change(id, 0, 3))
	c.Apply(&Record{Kind: &Record_Topic{&TopicRecord{Name: "t", Id: id[:]}}})
	if topic, _ := c.Topic("t"); len(topic.Partitions) != 0 {
		t.Errorf("a topic made again has %d partitions", len(topic.Partitions))
	}
}

// BenchmarkChanges is what a restart of a broker with many partitions of one topic applies.
func BenchmarkChanges(b *testing.B) {
	id := UUID{1}
	m := Empty()
	m.Apply(&Record{Kind: &Record_Topic{&TopicRecord{Name: "t", Id: id[:]}}})
	for n := range int32(10_000) {
		m.Apply(NewPartition(id, n, &Partition{Replicas: []int32{1}, ISR: []int32{1}, Leader: 1}))
	}
	for b.Loop() {
		m = m.Copy()
		for n := range int32(10_000) {
			m.Apply(change(id, n, 1))
		}
	}
}
