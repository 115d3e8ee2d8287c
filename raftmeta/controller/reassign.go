package controller

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// Reassign decides on moving a partition to other replicas (AlterPartitionReassignments, KIP-455). Those that are
// new are added first; when they are in sync, one change drops those that are to go. A nil target takes back a
// reassignment that is under way. keepFactor refuses another number of replicas.
func Reassign(m *image.Image, policy Policy, topic string, n int32, target []int32, keepFactor bool) ([]*image.Record, error) {
	t, _ := m.Topic(topic)
	p, ok := t.Partition(n)
	if !ok {
		return nil, fmt.Errorf("The topic or partition %s-%d does not exist.: %w", topic, n, kerr.UnknownTopicOrPartition)
	}
	b := newBuilder(m, policy, t, int(n))
	if target == nil {
		if len(p.Adding)+len(p.Removing) == 0 {
			return nil, kerr.NoReassignmentInProgress
		}
		left := without(p.Replicas, p.Adding)
		isr := without(p.ISR, p.Adding)
		if len(isr) == 0 && len(p.ISR) > 0 {
			return nil, fmt.Errorf("none of the replicas before the reassignment is in sync: %w", kerr.InvalidReplicaAssignment)
		}
		if b.losesSafety(left) {
			return nil, fmt.Errorf("of the replicas before the reassignment only %d are in sync, fewer than min.insync.replicas: %w", len(isr), kerr.InvalidReplicaAssignment)
		}
		b.isr, b.adding, b.removing, b.bump = isr, nil, nil, true
		b.setReplicas(left)
		return b.build(), nil
	}
	if _, err := manualAssignment(m, map[int32][]int32{0: target}, 0); err != nil {
		return nil, err
	}
	if before := len(p.Replicas) - len(p.Adding); keepFactor && len(target) != before {
		return nil, fmt.Errorf("The replication factor is changed from %d to %d: %w", before, len(target), kerr.InvalidReplicationFactor)
	}
	b.reassign(target)
	return b.build(), nil
}

// reassign makes the replicas those of target and, behind them, those that are to go.
func (b *partitionBuilder) reassign(target []int32) {
	p := b.topic.Partitions[b.n]
	b.adding = without(target, without(p.Replicas, p.Adding))
	b.removing = without(p.Replicas, target)
	b.setReplicas(slices.Concat(target, b.removing))
}

// losesSafety reports whether too few copies of acknowledged records would remain if only the replicas in left stayed: fewer than
// min.insync.replicas, and fewer than now. The replicas of the ISR and of the ELR have all records that were acknowledged with acks=all. Apache
// Kafka does not check this.
func (b *partitionBuilder) losesSafety(left []int32) bool {
	want := min(b.policy.MinISR(b.image, b.topic.Name), len(left))
	loses := func(have []int32) bool {
		n := len(have) - len(without(have, left))
		return n < len(have) && n < want
	}
	return loses(b.isr) || loses(slices.Concat(b.isr, b.eligible(b.isr)))
}

// completeReassignment ends a reassignment once all replicas that it adds are in sync, and enough of those that stay.
func (b *partitionBuilder) completeReassignment() {
	if len(b.adding)+len(b.removing) == 0 {
		return
	}
	isr, left := without(b.isr, b.removing), without(b.replicas, b.removing)
	if len(isr) == 0 || len(without(b.adding, isr)) > 0 || b.losesSafety(left) {
		return
	}
	// Who is dropped must not go on as if it were a replica (KIP-903): a new leader epoch says so.
	b.bump = b.bump || len(b.removing) > 0
	b.isr, b.adding, b.removing = isr, nil, nil
	b.setReplicas(left)
}

// without returns ids but those that are in others.
func without(ids, others []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { return slices.Contains(others, id) })
}

// setReplicas keeps the directories beside their replicas, and gives new ones one.
func (b *partitionBuilder) setReplicas(replicas []int32) {
	p := b.topic.Partitions[b.n]
	placing := newDirectories(b.image)
	dirs := make([]image.UUID, len(replicas))
	for i, r := range replicas {
		if slices.Contains(p.Replicas, r) {
			dirs[i] = p.Directory(r)
		} else {
			dirs[i] = placing.place([]int32{r})[0]
		}
	}
	b.replicas, b.directories = replicas, dirs
}

// ElectPreferred decides on giving leadership back to the first replicas that can take it.
func ElectPreferred(m *image.Image, policy Policy, limit int) (records []*image.Record) {
	m.Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			if p.Leader != nobody && p.Leader != p.Replicas[0] && len(p.Adding)+len(p.Removing) == 0 {
				b := newBuilder(m, policy, t, n)
				b.mode = preferred
				records = append(records, b.build()...)
			}
		}
		return len(records) < limit
	})
	return records
}

func partitionChange(t *image.Topic, n int) *image.PartitionChangeRecord {
	return &image.PartitionChangeRecord{TopicId: t.ID[:], Partition: int32(n)}
}

func changed(c *image.PartitionChangeRecord) *image.Record {
	return &image.Record{Kind: &image.Record_PartitionChange{PartitionChange: c}}
}
