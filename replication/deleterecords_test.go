package replication

import (
	"testing"

	"kraft/raftmeta/image"
)

// TestMustDelete: a deletion waits for who fetches and for who may lead as it is.
func TestMustDelete(t *testing.T) {
	img, topic, dir := image.Empty(), image.UUID{1}, image.UUID{9}
	img.Apply(&image.Record{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Name: "t", Id: topic[:]}}})
	for id := range int32(5) {
		b := &image.RegisterBrokerRecord{Id: id, Epoch: 1, Incarnation: topic[:], LogDirs: [][]byte{dir[:]}, Fenced: id == 2 || id == 3}
		if id == 4 {
			b.ScarceDirs, b.FullDirs = b.LogDirs, b.LogDirs
		}
		img.Apply(&image.Record{Kind: &image.Record_RegisterBroker{RegisterBroker: b}})
	}
	img.Apply(image.NewPartition(topic, 0, &image.Partition{Replicas: []int32{0, 1, 2, 3, 4}, ISR: []int32{0}, ELR: []int32{2}}))
	for _, test := range []struct {
		what   string
		n, id  int32
		topic  image.UUID
		should bool
	}{
		{"a broker that is there", 0, 1, topic, true},
		{"one that is away and may lead", 0, 2, topic, true},
		{"one that is away", 0, 3, topic, false},
		{"one whose disk is full", 0, 4, topic, false},
		{"one that was never there", 0, 7, topic, false},
		{"of a partition that is not there", 1, 1, topic, false},
		{"of a deleted topic", 0, 1, image.UUID{2}, false},
	} {
		if got := mustDelete(img, test.topic, test.n, test.id); got != test.should {
			t.Errorf("%s: %v", test.what, got)
		}
	}
}
