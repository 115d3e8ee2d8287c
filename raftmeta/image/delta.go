package image

// Delta is what a run of records changed: enough for subscribers to look only at that.
type Delta struct {
	Topics  map[UUID]struct{} // created, changed or with new configuration
	Removed map[UUID]*Topic   // as they were
	Brokers map[int32]struct{}
	Configs bool // any configuration changed
	General bool // a broker's, or all brokers', did: it may hold for any topic
	Cluster bool // the cluster's id or the members of its quorum changed
	Other   bool // something else did: features, quotas, producer ids
}

// NewDelta is the empty change.
func NewDelta() *Delta {
	return &Delta{Topics: map[UUID]struct{}{}, Removed: map[UUID]*Topic{}, Brokers: map[int32]struct{}{}}
}

// Note adds what r is about to change in before; call it ahead of Apply.
func (d *Delta) Note(before *Image, r *Record) {
	switch k := r.Kind.(type) {
	case *Record_RegisterBroker:
		d.Brokers[k.RegisterBroker.Id] = struct{}{}
	case *Record_BrokerChange:
		d.Brokers[k.BrokerChange.Id] = struct{}{}
	case *Record_UnregisterBroker:
		d.Brokers[k.UnregisterBroker.Id] = struct{}{}
	case *Record_Topic:
		d.Topics[UUID(k.Topic.Id)] = struct{}{}
	case *Record_RemoveTopic:
		id := UUID(k.RemoveTopic.Id)
		if t, ok := before.TopicByID(id); ok {
			d.Removed[id] = t
		}
		delete(d.Topics, id)
	case *Record_Partition:
		d.Topics[UUID(k.Partition.TopicId)] = struct{}{}
	case *Record_PartitionChange:
		d.Topics[UUID(k.PartitionChange.TopicId)] = struct{}{}
	case *Record_Cluster, *Record_Controller:
		d.Cluster = true
	case *Record_Config:
		d.Configs = true
		d.General = d.General || k.Config.ResourceType == BrokerResource
		if k.Config.ResourceType == TopicResource {
			if t, ok := before.Topic(k.Config.ResourceName); ok {
				d.Topics[t.ID] = struct{}{}
			}
		}
	default:
		d.Other = true
	}
}

// Empty says that nothing changed.
func (d *Delta) Empty() bool {
	return len(d.Topics) == 0 && len(d.Removed) == 0 && len(d.Brokers) == 0 && !d.Configs && !d.Cluster && !d.Other
}

// Replaced is the change from before to m, a snapshot, as far as subscribers need it: everything in m, and the topics and brokers that
// are only in before.
func Replaced(before, m *Image) *Delta {
	d := All(m)
	before.Topics("", func(t *Topic) bool {
		if _, ok := m.TopicByID(t.ID); !ok {
			d.Removed[t.ID] = t
		}
		return true
	})
	before.Brokers(func(b *Broker) { d.Brokers[b.ID] = struct{}{} })
	return d
}

// All is the change from nothing to m.
func All(m *Image) *Delta {
	d := NewDelta()
	m.Topics("", func(t *Topic) bool { d.Topics[t.ID] = struct{}{}; return true })
	m.Brokers(func(b *Broker) { d.Brokers[b.ID] = struct{}{} })
	d.Configs, d.General, d.Cluster, d.Other = true, true, true, true
	return d
}
