package replication

import (
	"slices"

	"kraft/raftmeta/image"
)

// follows is what this node follows, nil for nothing.
func (p *Partition) follows() *following {
	p.role.RLock()
	defer p.role.RUnlock()
	return p.following
}

// tellChange tells a change of a partition's state on this broker, as Kafka's state.change.logger does: what it led and followed
// before, and what it does now.
func (m *Manager) tellChange(p *Partition, reg *image.Partition, before, after *leadership, followed, follows *following) {
	e := m.changes.Info()
	if !e.Enabled() {
		return
	}
	e = e.Str("partition", p.String()).Int32("leader_epoch", reg.LeaderEpoch).Int32("partition_epoch", reg.PartitionEpoch).Ints32("isr", reg.ISR).Ints32("replicas", reg.Replicas)
	if log := p.Log(); log != nil {
		e = e.Int64("end_offset", log.EndOffset())
	}
	switch {
	case after != nil && (before == nil || before.epoch != after.epoch):
		e.Msg("leads")
	case after != nil && !slices.Equal(before.isr, after.isr):
		e.Msg("leads with another ISR")
	case follows != nil && follows != followed:
		e.Int32("leader", reg.Leader).Msg("follows")
	case after == nil && before != nil && follows == nil:
		e.Int32("leader", reg.Leader).Msg("leads no more")
	default:
		e.Discard()
	}
}
