package controller

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// withDirs is an image of brokers 1 to n that each have the given number of log directories.
func withDirs(t *testing.T, n, dirs int) *image.Image {
	t.Helper()
	m := image.Empty()
	apply(m, FirstRecords(Features, "c", 1))
	for i := range n {
		b := image.Broker{ID: int32(i + 1), Incarnation: NewID()}
		for d := range dirs {
			b.LogDirs = append(b.LogDirs, dirID(i+1, d))
		}
		admit(t, m, b)
	}
	return m
}

func dirID(broker, dir int) image.UUID { return image.UUID{byte(broker), byte(dir + 1)} }

func epochOf(m *image.Image, id int32) int64 {
	b, _ := m.Broker(id)
	return b.Epoch
}

func create(t *testing.T, m *image.Image, name string, partitions int32, factor int16) *image.Topic {
	t.Helper()
	records, _, err := CreateTopic(m, NewTopic{Name: name, Partitions: partitions, Factor: factor}, Defaults{}, NewID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	topic, _ := m.Topic(name)
	return topic
}

// TestDirectoriesAreSpread: new replicas go to the directory of their broker that has the fewest, within a
// request and over several, and a snapshot keeps where they are.
func TestDirectoriesAreSpread(t *testing.T) {
	m := withDirs(t, 2, 3)
	create(t, m, "a", 2, 2)
	create(t, m, "b", 5, 2)
	records, err := AddPartitions(m, "b", 7, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	load := map[image.UUID]int{}
	count := func(m *image.Image) {
		m.Topics("", func(topic *image.Topic) bool {
			for _, p := range topic.Partitions {
				for _, r := range p.Replicas {
					d := p.Directory(r)
					if int32(d[0]) != r {
						t.Errorf("replica of broker %d is in directory %x", r, d)
					}
					load[d]++
				}
			}
			return true
		})
	}
	count(m)
	for d, n := range load {
		if n != 3 {
			t.Errorf("directory %x holds %d replicas of 18 in 6 directories", d, n)
		}
	}
	data, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again, err := image.FromSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(load)
	clear(load)
	count(again)
	if fmt.Sprint(load) != before {
		t.Errorf("after a snapshot: %v, before: %s", load, before)
	}
}

// TestDirectoryFails follows partitions through the failure of a broker's directory and its return.
func TestDirectoryFails(t *testing.T) {
	for name, tc := range map[string]struct {
		factor     int16
		leader     int32 // after the failure of directory 0 of broker 1
		isr        []int32
		elsewhere  bool // the partition is in broker 1's other directory
		leaderBack int32
	}{
		"the only replica":          {factor: 1, leader: image.NoLeader, isr: nil, leaderBack: 1},
		"another can lead":          {factor: 2, leader: 2, isr: []int32{2}, leaderBack: 2},
		"in a directory that works": {factor: 1, leader: 1, isr: []int32{1}, elsewhere: true, leaderBack: 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := withDirs(t, 2, 2)
			assignment := []int32{1, 2}[:tc.factor]
			records, _, err := CreateTopic(m, NewTopic{Name: "t", Partitions: -1, Factor: -1, Assignment: map[int32][]int32{0: assignment}}, Defaults{}, NewID(), 1)
			if err != nil {
				t.Fatal(err)
			}
			apply(m, records)
			topic, _ := m.Topic("t")
			failed := topic.Partitions[0].Directory(1)
			if tc.elsewhere {
				failed = dirID(1, 1)
			}
			online := slices.DeleteFunc([]image.UUID{dirID(1, 0), dirID(1, 1)}, func(d image.UUID) bool { return d == failed })
			if _, err := SetLogDirs(m, testPolicy, 1, epochOf(m, 1)+7, online); !errors.Is(err, kerr.StaleBrokerEpoch) {
				t.Errorf("of another epoch: %v", err)
			}
			if records, err = SetLogDirs(m, testPolicy, 1, epochOf(m, 1), online); err != nil {
				t.Fatal(err)
			}
			apply(m, records)
			topic, _ = m.Topic("t")
			p := topic.Partitions[0]
			if p.Leader != tc.leader || !slices.Equal(p.ISR, tc.isr) {
				t.Errorf("leader %d, ISR %v; want %d, %v", p.Leader, p.ISR, tc.leader, tc.isr)
			}
			if m.ReplicaOnline(p, 1) != tc.elsewhere {
				t.Errorf("replica online: %v", !tc.elsewhere)
			}
			if again, err := SetLogDirs(m, testPolicy, 1, epochOf(m, 1), online); err != nil || len(again) != 1 {
				t.Errorf("said twice: %d records, %v", len(again), err)
			}
			// The broker starts again with both directories.
			b := image.Broker{ID: 1, Incarnation: NewID(), LogDirs: []image.UUID{dirID(1, 0), dirID(1, 1)}}
			records, epoch, err := RegisterBroker(m, testPolicy, "c", b, -1)
			if err != nil {
				t.Fatal(err)
			}
			apply(m, records)
			if records, err = Unfence(m, testPolicy, 1, epoch); err != nil {
				t.Fatal(err)
			}
			apply(m, records)
			topic, _ = m.Topic("t")
			if got := topic.Partitions[0].Leader; got != tc.leaderBack {
				t.Errorf("leader %d when the directory is back, want %d", got, tc.leaderBack)
			}
		})
	}
}

// TestAssignDirectories: the broker's word on where replicas are counts, and a partition that was away
// with its directory is led again.
func TestAssignDirectories(t *testing.T) {
	m := withDirs(t, 1, 2)
	topic := create(t, m, "t", 1, 1)
	old := topic.Partitions[0].Directory(1)
	other := dirID(1, 1)
	if old == other {
		other = dirID(1, 0)
	}
	say := func(d image.UUID) *image.Partition {
		records, err := AssignDirectories(m, testPolicy, 1, epochOf(m, 1), []Assignment{{topic.ID, 0, d}, {topic.ID, 9, d}, {NewID(), 0, d}})
		if err != nil {
			t.Fatal(err)
		}
		apply(m, records)
		topic, _ := m.Topic("t")
		return topic.Partitions[0]
	}
	if p := say(other); p.Directory(1) != other || p.PartitionEpoch != 1 || p.LeaderEpoch != 0 {
		t.Errorf("%+v", p)
	}
	if p := say(other); p.PartitionEpoch != 1 {
		t.Errorf("said twice: %+v", p)
	}
	records, err := SetLogDirs(m, testPolicy, 1, epochOf(m, 1), []image.UUID{old})
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	if p := say(old); p.Leader != 1 || p.Directory(1) != old {
		t.Errorf("found in the other directory: %+v", p)
	}
	if _, err := AssignDirectories(m, testPolicy, 1, 99, nil); !errors.Is(err, kerr.StaleBrokerEpoch) {
		t.Errorf("of another epoch: %v", err)
	}
}

// TestFailedDirectoriesJoinNoISR: the replicas of a directory that has failed are in no ISR, whatever a leader proposes that does not
// know of it yet, and whether or not the controller knew where they are.
func TestFailedDirectoriesJoinNoISR(t *testing.T) {
	for _, known := range []bool{true, false} {
		m := withDirs(t, 2, 2)
		topic := create(t, m, "t", 1, 2)
		p := topic.Partitions[0]
		leader, other := p.Replicas[0], p.Replicas[1]
		propose := func() ([]*image.Record, error) {
			topic, _ := m.Topic("t")
			p := topic.Partitions[0]
			return AlterPartition(m, testPolicy, leader, PartitionState{Topic: topic.ID, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: []Member{{leader, -1}, {other, -1}}})
		}
		do := func(records []*image.Record, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			apply(m, records)
		}
		do(propose())
		failed := p.Directory(other)
		online := dirID(int(other), 0)
		if failed == online {
			online = dirID(int(other), 1)
		}
		if !known { // it is moved, and the directory that it moved to fails before that was reported
			failed, online = online, failed
		}
		do(SetLogDirs(m, testPolicy, other, epochOf(m, other), []image.UUID{online}))
		if !known {
			do(AssignDirectories(m, testPolicy, other, epochOf(m, other), []Assignment{{topic.ID, 0, failed}}))
		}
		topic, _ = m.Topic("t")
		if got := topic.Partitions[0]; !slices.Equal(got.ISR, []int32{leader}) || got.Directory(other) != failed {
			t.Errorf("known %v: ISR %v, directory %v", known, got.ISR, got.Directory(other))
		}
		if _, err := propose(); !errors.Is(err, kerr.IneligibleReplica) {
			t.Errorf("known %v: proposed again: %v", known, err)
		}
	}
}
