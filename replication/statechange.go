package replication

import (
	"slices"

	"kraft/raftmeta/image"
)

// tellChange tells a change of a partition's state on this broker, as Kafka's state.change.logger does.
func (m *Manager) tellChange(p *Partition, reg *image.Partition, before, after *leadership, follows *following) {
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
	case after == nil && follows != nil:
		e.Int32("leader", reg.Leader).Msg("follows")
	case after == nil && before != nil:
		e.Int32("leader", reg.Leader).Msg("leads no more")
	default:
		e.Discard()
	}
}
