package controller

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// Policy is what a topic's settings say about its partitions' leaders.
type Policy struct {
	MinISR  func(m *image.Image, topic string) int  // min.insync.replicas
	Unclean func(m *image.Image, topic string) bool // unclean.leader.election.enable
	// Internal reports whether a topic is written by coordinators. Nil means that no topic is.
	Internal func(topic string) bool
}

// mode says how far an election may go.
type mode int

const (
	asNeeded  mode = iota // the leader stays if it can
	preferred             // the first replica leads if it can
	unclean               // somebody leads, whatever is lost
)

const nobody = image.NoLeader

// partitionBuilder works out what becomes of one partition (Kafka's PartitionChangeBuilder, KIP-966).
type partitionBuilder struct {
	image  *image.Image
	policy Policy
	topic  *image.Topic
	n      int

	replicas         []int32
	adding, removing []int32 // of a reassignment
	directories      []image.UUID
	isr              []int32 // wanted
	away             int32   // a replica that counts as gone, nobody for none
	unclean          bool    // what is away may have lost records
	mode             mode
	bump             bool // the leader gets a new epoch even if it stays
}

func newBuilder(m *image.Image, policy Policy, t *image.Topic, n int) *partitionBuilder {
	p := t.Partitions[n]
	return &partitionBuilder{image: m, policy: policy, topic: t, n: n, replicas: p.Replicas, adding: p.Adding, removing: p.Removing,
		directories: p.Directories, isr: p.ISR, away: nobody}
}

// without takes a replica out of the ISR.
func (b *partitionBuilder) without(replica int32, uncleanly bool) *partitionBuilder {
	b.isr, b.away, b.unclean = minus(b.isr, replica), replica, uncleanly
	return b
}

func minus(ids []int32, id int32) []int32 { return without(ids, []int32{id}) }

func (b *partitionBuilder) active(replica int32) bool {
	if replica == b.away || !slices.Contains(b.replicas, replica) || !b.image.ReplicaOnline(b.topic.Partitions[b.n], replica) {
		return false
	}
	broker, _ := b.image.Broker(replica)
	return !broker.InControlledShutdown
}

// hasRoom reports whether a replica's disk takes the topic's records.
func (b *partitionBuilder) hasRoom(replica int32) bool {
	return hasRoom(b.image, b.policy, b.topic, b.n, replica)
}

func hasRoom(m *image.Image, policy Policy, t *image.Topic, n int, replica int32) bool {
	broker, ok := m.Broker(replica)
	return !ok || broker.HasRoom(t.Partitions[n].Directory(replica), policy.Internal != nil && policy.Internal(t.Name))
}

// leaveFull takes the replicas whose disks are full out of the ISR, which would wait for them, unless all are.
func (b *partitionBuilder) leaveFull() {
	left := slices.DeleteFunc(slices.Clone(b.isr), func(r int32) bool { return !b.hasRoom(r) })
	if len(left) > 0 {
		b.isr = left
	}
}

// build returns the partition's change, nil if there is none.
func (b *partitionBuilder) build() []*image.Record {
	p := b.topic.Partitions[b.n]
	b.completeReassignment()
	b.leaveFull()
	elr := b.eligible(b.isr)
	leader, isr, recovering := b.elect(elr)
	if !slices.Equal(isr, b.isr) {
		b.isr = isr
		elr = minus(b.eligible(isr), leader)
	}
	c := partitionChange(b.topic, b.n)
	changes := false
	set := func(to **image.Replicas, have, want []int32) {
		if !slices.Equal(have, want) {
			*to, changes = &image.Replicas{Ids: want}, true
		}
	}
	set(&c.Replicas, p.Replicas, b.replicas)
	set(&c.Adding, p.Adding, b.adding)
	set(&c.Removing, p.Removing, b.removing)
	if c.Replicas != nil {
		c.Directories = image.FromUUIDs(b.directories)
	}
	set(&c.Isr, p.ISR, isr)
	set(&c.Elr, p.ELR, elr)
	known := p.LastKnownELR
	switch {
	case len(isr) == 0 && len(p.ISR) > 0 && p.Leader != nobody:
		known = []int32{p.Leader}
	case len(isr) >= b.minISR():
		known = nil
	}
	set(&c.LastKnownElr, p.LastKnownELR, known)
	if recovering && !p.Recovering {
		c.Recovering, changes = &recovering, true
	}
	if leader != p.Leader || b.bump && leader != nobody {
		c.Leader, changes = &leader, true
	}
	if !changes {
		return nil
	}
	return []*image.Record{changed(c)}
}

func (b *partitionBuilder) minISR() int {
	return min(b.policy.MinISR(b.image, b.topic.Name), len(b.replicas))
}

// eligible is the ELR beside an ISR: while that is smaller than min.insync.replicas nothing can be
// acknowledged that who left it does not have.
func (b *partitionBuilder) eligible(isr []int32) []int32 {
	p := b.topic.Partitions[b.n]
	if len(isr) >= b.minISR() {
		return nil
	}
	var out []int32
	for _, r := range slices.Concat(p.ISR, p.ELR) {
		if slices.Contains(b.replicas, r) && !slices.Contains(isr, r) && !slices.Contains(out, r) && !(r == b.away && b.unclean) {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

// elect chooses a leader, and the ISR that it leads.
func (b *partitionBuilder) elect(elr []int32) (leader int32, isr []int32, recovering bool) {
	p := b.topic.Partitions[b.n]
	valid := func(r int32) bool {
		return b.active(r) && (slices.Contains(b.isr, r) || len(b.isr) == 0 && slices.Contains(elr, r))
	}
	with := func(r int32) []int32 {
		if slices.Contains(b.isr, r) {
			return b.isr
		}
		return []int32{r}
	}
	// A replica whose disk is full leads only if no other can.
	for _, can := range []func(int32) bool{func(r int32) bool { return valid(r) && b.hasRoom(r) }, valid} {
		if leader := b.choose(can); leader != nobody {
			return leader, with(leader), false
		}
	}
	if len(b.isr) == 0 && len(elr) == 0 && len(p.LastKnownELR) == 1 && b.active(p.LastKnownELR[0]) {
		return p.LastKnownELR[0], []int32{p.LastKnownELR[0]}, true
	}
	if b.mode == unclean || b.policy.Unclean(b.image, b.topic.Name) {
		for _, r := range b.replicas {
			if b.active(r) {
				return r, []int32{r}, true
			}
		}
	}
	return nobody, b.isr, false
}

// RecountEligible adds to records of settings what they do to eligible leader replicas: where min.insync.replicas is lowered to
// the size of an ISR, that ISR alone acknowledges from then on, and replicas outside of it may no longer lead (KIP-966).
func RecountEligible(m *image.Image, policy Policy, records []*image.Record) []*image.Record {
	concerned := func(r *image.Record) bool { return r.GetConfig().GetKey() == minInSyncReplicas }
	if !slices.ContainsFunc(records, concerned) {
		return records
	}
	after := m.Copy()
	for _, r := range records {
		after.Apply(r)
	}
	after.Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			if len(p.ELR) > 0 {
				records = append(records, newBuilder(after, policy, t, n).build()...)
			}
		}
		return true
	})
	return records
}

// minInSyncReplicas is the setting that ELRs depend on.
const minInSyncReplicas = "min.insync.replicas"

// choose returns the replica that leads among those that can: the present leader, or the first in the order of replicas; in preferred
// mode the first replica, and otherwise the present leader. It returns nobody if none can.
func (b *partitionBuilder) choose(can func(int32) bool) int32 {
	present := b.topic.Partitions[b.n].Leader
	stays := present != nobody && can(present)
	if b.mode == preferred && can(b.replicas[0]) {
		return b.replicas[0]
	}
	if stays {
		return present
	}
	for _, r := range b.replicas {
		if can(r) {
			return r
		}
	}
	return nobody
}

// eachPartition calls f with every partition of which broker has a replica, and collects what it says.
func eachPartition(m *image.Image, broker int32, f func(t *image.Topic, n int, p *image.Partition) []*image.Record) (out []*image.Record) {
	m.Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			if slices.Contains(p.Replicas, broker) {
				out = append(out, f(t, n, p)...)
			}
		}
		return true
	})
	return out
}

// Member is one of a proposed ISR, with the epoch that its leader knows of it; -1 is not checked.
type Member struct {
	Broker int32
	Epoch  int64
}

// PartitionState is a leader's proposal for one of its partitions (AlterPartition).
type PartitionState struct {
	Topic          image.UUID
	Partition      int32
	LeaderEpoch    int32
	PartitionEpoch int32
	ISR            []Member
	Recovering     bool
}

// AlterPartition decides on a leader's proposal. The order of the checks is Kafka's
// (ReplicationControlManager.validateAlterPartitionData): clients of the broker can tell.
func AlterPartition(m *image.Image, policy Policy, broker int32, s PartitionState) ([]*image.Record, error) {
	t, ok := m.TopicByID(s.Topic)
	if !ok {
		return nil, kerr.UnknownTopicID
	}
	p, ok := t.Partition(s.Partition)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition
	}
	var isr []int32
	for _, member := range s.ISR {
		isr = append(isr, member.Broker)
	}
	switch {
	case s.LeaderEpoch > p.LeaderEpoch || s.PartitionEpoch > p.PartitionEpoch:
		return nil, kerr.NotController // this one is behind
	case s.LeaderEpoch < p.LeaderEpoch:
		return nil, kerr.FencedLeaderEpoch
	case broker != p.Leader:
		return nil, kerr.InvalidRequest
	case s.PartitionEpoch < p.PartitionEpoch:
		return nil, kerr.InvalidUpdateVersion
	case !slices.Contains(isr, p.Leader) || slices.ContainsFunc(isr, func(r int32) bool { return !slices.Contains(p.Replicas, r) }):
		return nil, kerr.InvalidRequest
	case s.Recovering && (len(isr) > 1 || !p.Recovering):
		return nil, kerr.InvalidRequest
	}
	for _, member := range s.ISR {
		if sameSet(isr, p.ISR) {
			break // the leader wants the next partition epoch only
		}
		b, ok := m.Broker(member.Broker)
		joins := !slices.Contains(p.ISR, member.Broker)
		if !ok || b.Fenced || b.InControlledShutdown || member.Epoch != -1 && member.Epoch != b.Epoch || joins && !hasRoom(m, policy, t, int(s.Partition), member.Broker) {
			return nil, fmt.Errorf("broker %d may not join the ISR of %s-%d: %w", member.Broker, t.Name, s.Partition, kerr.IneligibleReplica)
		}
	}
	b := newBuilder(m, policy, t, int(s.Partition))
	b.isr = isr
	records := b.build()
	if len(records) == 0 {
		// A leader that asks for the ISR as it is wants the next partition epoch, by which all its earlier proposals are stale.
		records = []*image.Record{changed(partitionChange(t, int(s.Partition)))}
	}
	if p.Recovering && !s.Recovering {
		recovered := false
		records[0].GetPartitionChange().Recovering = &recovered
	}
	return records, nil
}

// sameSet reports whether two lists without repetitions have the same elements.
func sameSet(a, b []int32) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(id int32) bool { return !slices.Contains(b, id) })
}

// ElectLeader decides on an election that an operator asks for (ElectLeaders, KIP-460, and the rebalance of
// preferred leaders).
func ElectLeader(m *image.Image, policy Policy, topic string, n int32, uncleanly bool) ([]*image.Record, error) {
	t, ok := m.Topic(topic)
	if !ok {
		return nil, fmt.Errorf("No such topic as %s: %w", topic, kerr.UnknownTopicOrPartition)
	}
	p, ok := t.Partition(n)
	if !ok {
		return nil, fmt.Errorf("No such partition as %s-%d: %w", topic, n, kerr.UnknownTopicOrPartition)
	}
	if uncleanly && p.Leader != nobody || !uncleanly && p.Leader == p.Replicas[0] {
		return nil, kerr.ElectionNotNeeded
	}
	b := newBuilder(m, policy, t, int(n))
	b.mode = preferred
	if uncleanly {
		b.mode = unclean
	}
	records := b.build()
	if len(records) > 0 && records[0].GetPartitionChange().Leader != nil {
		return records, nil
	}
	if uncleanly {
		return nil, kerr.EligibleLeadersNotAvailable
	}
	return nil, kerr.PreferredLeaderNotAvailable
}

// ElectUnclean decides on leaders for the partitions of topics whose settings allow that records are lost,
// and for those that had none though they can have one.
func ElectUnclean(m *image.Image, policy Policy, limit int) (records []*image.Record) {
	m.Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			if p.Leader == nobody {
				records = append(records, newBuilder(m, policy, t, n).build()...)
			}
		}
		return len(records) < limit
	})
	return records
}
