package coordinator

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire"
	"kraft/wire/ident"
)

// groupPartition is a partition as a group reads it.
type groupPartition struct {
	group string
	ident.TopicPartition
}

// openOffsets are the offsets of transactions that have not ended: they count once their transactions are committed (Kafka's
// pendingTransactionalOffsets).
type openOffsets struct {
	byProducer map[int64]map[groupPartition]Offset
	unstable   map[groupPartition]int // transactions with an offset of the partition
}

func newOpenOffsets() openOffsets {
	return openOffsets{byProducer: map[int64]map[groupPartition]Offset{}, unstable: map[groupPartition]int{}}
}

// put notes an offset, and reports whether the transaction had none of that partition before.
func (o *openOffsets) put(producerID int64, of groupPartition, offset Offset) (isNew bool) {
	t := o.byProducer[producerID]
	if t == nil {
		t = map[groupPartition]Offset{}
		o.byProducer[producerID] = t
	}
	if _, had := t[of]; !had {
		o.unstable[of]++
		isNew = true
	}
	t[of] = offset
	return isNew
}

// settle forgets that a transaction has an offset of a partition.
func (o *openOffsets) settle(of groupPartition) {
	if o.unstable[of]--; o.unstable[of] == 0 {
		delete(o.unstable, of)
	}
}

// drop forgets all open offsets of a partition, and returns how many there were.
func (o *openOffsets) drop(of groupPartition) (n int) {
	if o.unstable[of] == 0 {
		return 0
	}
	for id, t := range o.byProducer {
		if _, has := t[of]; has {
			delete(t, of)
			n++
		}
		if len(t) == 0 {
			delete(o.byProducer, id)
		}
	}
	delete(o.unstable, of)
	return n
}

// EndTransaction implements runtime.Machine. An offset whose record is later in the log than the transaction's stays.
func (c *Coordinator) EndTransaction(producerID int64, committed bool) {
	ended := c.open.byProducer[producerID]
	delete(c.open.byProducer, producerID)
	for of, o := range ended {
		c.open.settle(of)
		g := c.group(of.group)
		g.open--
		if committed {
			if old, ok := g.offsets[of.TopicPartition]; !ok || o.at > old.at {
				g.offsets[of.TopicPartition] = o
			}
		}
		c.forgetIfVoid(g)
	}
}

// CommitInTransaction serves TxnOffsetCommit; the reply is the []Commit with their errors set. of is the producer, whose transaction the
// group's partition is part of.
func (c *Coordinator) CommitInTransaction(call runtime.Call, req *kmsg.TxnOffsetCommitRequest, of runtime.Producer, commits []Commit) runtime.Effects {
	if err := c.mayCommitInTransaction(call.Now, req); err != nil {
		return reply(call.To, failAll(commits, err))
	}
	records := c.offsetRecords(req.Group, commits)
	if err := call.Check(records); err != nil {
		return reply(call.To, failAll(commits, kerr.TypedErrorForCode(wire.ErrorCode(err))))
	}
	e := reply(call.To, commits)
	if e.Records = records; len(records) > 0 {
		e.Producer = &of
	}
	return e
}

// offsetRecords are the records of commits without error; those whose metadata is too long get one.
func (c *Coordinator) offsetRecords(group string, commits []Commit) (records []runtime.Record) {
	for i := range commits {
		cm := &commits[i]
		if cm.Err == nil && len(cm.Offset.Metadata) > c.config.MaxMetadata {
			cm.Err = kerr.OffsetMetadataTooLarge
		}
		if cm.Err == nil {
			records = append(records, offsetRecord(group, cm.TopicPartition, &cm.Offset))
		}
	}
	return records
}

// mayCommitInTransaction checks who commits (Kafka's ClassicGroup.validateOffsetCommit for transactions). A producer that does not name a
// member is fenced by its epoch only, and a rebalance does not matter.
func (c *Coordinator) mayCommitInTransaction(now time.Time, req *kmsg.TxnOffsetCommitRequest) *kerr.Error {
	generation, memberID, instance := req.Generation, req.MemberID, req.InstanceID
	if req.Version < 3 {
		generation, memberID, instance = -1, "", nil
	}
	g := c.groups[req.Group]
	switch {
	case g == nil && generation < 0:
		return nil // the commit makes the group
	case g == nil && req.Version >= 6:
		return kerr.GroupIDNotFound
	case g == nil:
		return kerr.IllegalGeneration
	case generation < 0 && (g.state == Empty || memberID == "" && instance == nil):
		return nil
	}
	m, err := g.find(memberID, instance)
	switch {
	case err != nil:
		return err
	case generation != g.generation:
		return kerr.IllegalGeneration
	}
	c.touch(g, m, now)
	return nil
}

// openOf lists the partitions of a group with open offsets and without committed ones.
func (c *Coordinator) openOf(g *group, wanted func(ident.TopicPartition) bool) (out []ident.TopicPartition) {
	if g.open == 0 {
		return nil
	}
	for of := range c.open.unstable {
		if _, committed := g.offsets[of.TopicPartition]; of.group == g.id && !committed && wanted(of.TopicPartition) {
			out = append(out, of.TopicPartition)
		}
	}
	return slices.Clip(out)
}
