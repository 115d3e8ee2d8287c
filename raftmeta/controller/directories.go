package controller

import (
	"slices"

	"kraft/raftmeta/image"
)

// directories chooses the log directories of new replicas: of a broker's that have room, the one with the fewest. The
// controller does it, where Kafka leaves it to a broker with several directories (KIP-858), so that no
// replica takes records before the cluster knows which failure would lose them.
type directories struct {
	image *image.Image
	load  map[image.UUID]int // replicas by directory; nil until a broker with several is met
}

func newDirectories(m *image.Image) *directories { return &directories{image: m} }

// place returns a directory for each replica.
func (d *directories) place(replicas []int32) []image.UUID {
	out := make([]image.UUID, len(replicas))
	for i, r := range replicas {
		b, ok := d.image.Broker(r)
		if !ok || len(b.LogDirs) == 0 {
			continue
		}
		out[i] = b.LogDirs[0]
		if len(b.LogDirs) == 1 {
			continue
		}
		if d.load == nil {
			d.count()
		}
		for _, id := range b.LogDirs[1:] {
			room, best := b.HasRoom(id, false), b.HasRoom(out[i], false)
			if room && !best || room == best && d.load[id] < d.load[out[i]] {
				out[i] = id
			}
		}
		d.load[out[i]]++
	}
	return out
}

func (d *directories) count() {
	d.load = map[image.UUID]int{}
	d.image.Topics("", func(t *image.Topic) bool {
		for _, p := range t.Partitions {
			for _, id := range p.Directories {
				d.load[id]++
			}
		}
		return true
	})
}

// Assignment says in which log directory a broker has its replica of a partition.
type Assignment struct {
	Topic     image.UUID
	Partition int32
	Directory image.UUID
}

// AssignDirectories decides on what a broker says of its replicas' directories (AssignReplicasToDirs,
// KIP-858). Replicas that it no longer has are passed over; those in directories that have failed leave the ISR.
func AssignDirectories(m *image.Image, policy Policy, broker int32, epoch int64, list []Assignment) ([]*image.Record, error) {
	b, err := registered(m, broker, epoch)
	if err != nil {
		return nil, err
	}
	var records []*image.Record
	for _, a := range list {
		t, _ := m.TopicByID(a.Topic)
		p, ok := t.Partition(a.Partition)
		if !ok {
			continue
		}
		i := slices.Index(p.Replicas, broker)
		if i < 0 || p.Directory(broker) == a.Directory {
			continue
		}
		dirs := make([]image.UUID, len(p.Replicas))
		copy(dirs, p.Directories)
		dirs[i] = a.Directory
		change := partitionChange(t, int(a.Partition))
		if !b.HasOnlineDir(a.Directory) { // it failed before its broker had said what is there
			if left := newBuilder(m, policy, t, int(a.Partition)).without(broker, false).build(); len(left) > 0 {
				change = left[0].GetPartitionChange()
			}
		}
		change.Directories = image.FromUUIDs(dirs)
		if p.Leader == image.NoLeader && (slices.Contains(p.ISR, broker) || slices.Contains(p.ELR, broker)) && !b.Fenced && b.HasOnlineDir(a.Directory) {
			change.Leader = &broker // it was away with its directory
			change.Isr, change.Elr = &image.Replicas{Ids: []int32{broker}}, &image.Replicas{Ids: minus(p.ELR, broker)}
		}
		records = append(records, changed(change))
	}
	return records, nil
}

// SetLogDirs decides on a broker's word that only the given log directories work (BrokerHeartbeat's
// OfflineLogDirs): replicas in others leave the ISR and lead no more.
func SetLogDirs(m *image.Image, policy Policy, broker int32, epoch int64, online []image.UUID) ([]*image.Record, error) {
	if _, err := registered(m, broker, epoch); err != nil {
		return nil, err
	}
	records := []*image.Record{{Kind: &image.Record_BrokerChange{BrokerChange: &image.BrokerChangeRecord{
		Id: broker, Epoch: epoch, LogDirs: &image.Directories{Ids: image.FromUUIDs(online)},
	}}}}
	return append(records, eachPartition(m, broker, func(t *image.Topic, n int, p *image.Partition) []*image.Record {
		if d := p.Directory(broker); d == image.Unassigned || slices.Contains(online, d) {
			return nil
		}
		return newBuilder(m, policy, t, n).without(broker, false).build()
	})...), nil
}

// SetRoom decides on a broker's word that records of producers, or any records, find no room in some of its log directories. Replicas
// there leave their ISRs, and others lead, where others can: they come back when the broker has room again and they have caught up.
func SetRoom(m *image.Image, policy Policy, broker int32, epoch int64, scarce, full []image.UUID) ([]*image.Record, error) {
	b, err := registered(m, broker, epoch)
	if err != nil {
		return nil, err
	}
	if slices.Equal(b.Scarce, scarce) && slices.Equal(b.Full, full) {
		return nil, nil
	}
	records := []*image.Record{{Kind: &image.Record_BrokerChange{BrokerChange: &image.BrokerChangeRecord{
		Id: broker, Epoch: epoch, ScarceDirs: &image.Directories{Ids: image.FromUUIDs(scarce)}, FullDirs: &image.Directories{Ids: image.FromUUIDs(full)},
	}}}}
	after := m.Copy()
	after.Apply(records[0])
	return append(records, eachPartition(after, broker, func(t *image.Topic, n int, p *image.Partition) []*image.Record {
		if hasRoom(after, policy, t, n, broker) || !slices.Contains(p.ISR, broker) {
			return nil
		}
		return newBuilder(after, policy, t, n).build()
	})...), nil
}
