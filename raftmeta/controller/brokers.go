package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// FirstRecords are the first batch of a new cluster, which finalizes the highest supported level of each feature. Its min.insync.replicas is one for all brokers from then on, as in a Kafka
// cluster with eligible leader replicas (KIP-966): they count by it.
func FirstRecords(supported map[string][2]int16, clusterID string, minInSync int64) []*image.Record {
	one, other := NewID(), NewID() // random
	records := []*image.Record{{Kind: &image.Record_Cluster{Cluster: &image.ClusterRecord{ClusterId: clusterID, Secret: slices.Concat(one[:], other[:])}}}}
	for name, r := range supported {
		records = append(records, &image.Record{Kind: &image.Record_Feature{Feature: &image.FeatureRecord{Name: name, Level: int32(r[1]), Epoch: 1}}})
	}
	value := strconv.FormatInt(minInSync, 10)
	return append(records, image.SetConfig(image.BrokerResource, "", "min.insync.replicas", &value))
}

// CheckFeatures says whether a node that supports these ranges of levels can be of the cluster: of what the cluster
// has finalized it must support the level (KIP-584). So an older version is kept out of a cluster whose records it
// would not understand, and a newer one writes none before their level is finalized. The error wraps
// kerr.UnsupportedVersion.
func CheckFeatures(m *image.Image, node int32, supported map[string][2]int16) error {
	for _, name := range slices.Sorted(maps.Keys(m.Features)) {
		level, has := m.Features[name], supported[name]
		if level > 0 && (level < has[0] || level > has[1]) {
			return fmt.Errorf("node %d supports %s from %d to %d, this cluster is at %d: run a version of kraft there that supports it: %w", node, name, has[0], has[1], level, kerr.UnsupportedVersion)
		}
	}
	return nil
}

// RegisterBroker decides on a registration (BrokerRegistration, KIP-631). The broker comes in fenced, with a
// new epoch unless the same process registers again. cleanEpoch is the epoch that its clean-shutdown file
// names, -1 without: a broker that stopped in another way may have lost what its disk had not (KIP-966).
func RegisterBroker(m *image.Image, policy Policy, clusterID string, b image.Broker, cleanEpoch int64) ([]*image.Record, int64, error) {
	if clusterID != m.ClusterID {
		return nil, 0, fmt.Errorf("Expected cluster ID %s, but got cluster ID %s: %w", m.ClusterID, clusterID, kerr.InconsistentClusterID)
	}
	b.Fenced = true
	b.Epoch = m.LastEpoch + 1
	old, ok := m.Broker(b.ID)
	if !ok {
		return []*image.Record{image.Register(&b)}, b.Epoch, nil
	}
	b.Served = old.Served
	if old.Incarnation == b.Incarnation {
		b.Epoch, b.Fenced, b.InControlledShutdown, b.Scarce, b.Full = old.Epoch, old.Fenced, old.InControlledShutdown, old.Scarce, old.Full
		return []*image.Record{image.Register(&b)}, b.Epoch, nil
	}
	if !old.Fenced && !sameDisk(old, &b) {
		return nil, 0, fmt.Errorf("Another broker is registered with that broker id: %w", kerr.DuplicateBrokerRegistration)
	}
	// A life in which it was never let in had nothing of its own to lose.
	uncleanly := cleanEpoch != old.Epoch && (cleanEpoch <= 0 || cleanEpoch != old.Served)
	records := eachPartition(m, b.ID, func(t *image.Topic, n int, p *image.Partition) []*image.Record {
		if len(p.Replicas) == 1 && p.Leader == b.ID {
			return nil // nobody else can lead: it gets a new epoch when the broker is let in
		}
		return newBuilder(m, policy, t, n).without(b.ID, uncleanly).build()
	})
	return append(records, image.Register(&b)), b.Epoch, nil
}

// sameDisk says that two registrations are of one disk, whose lock only one process at a time can have.
func sameDisk(old, b *image.Broker) bool {
	return len(old.LogDirs) == 0 || slices.ContainsFunc(b.LogDirs, func(d image.UUID) bool { return slices.Contains(old.LogDirs, d) })
}

// registered is the broker of that id, which must be of the given epoch.
func registered(m *image.Image, id int32, epoch int64) (*image.Broker, error) {
	b, ok := m.Broker(id)
	if !ok || b.Epoch != epoch {
		return nil, fmt.Errorf("broker %d has no epoch %d: %w", id, epoch, kerr.StaleBrokerEpoch)
	}
	return b, nil
}

// Unfence decides on letting a broker serve, and gives leaders to partitions that waited for it. What it
// led before gets a new leader epoch too: a process that died may have come back with less (KIP-320).
func Unfence(m *image.Image, policy Policy, id int32, epoch int64) ([]*image.Record, error) {
	b, err := registered(m, id, epoch)
	if err != nil {
		return nil, err
	}
	if !b.Fenced {
		return nil, nil
	}
	no := false
	records := []*image.Record{brokerChange(b, &image.BrokerChangeRecord{Fenced: &no, InControlledShutdown: &no})}
	after := m.Copy()
	after.Apply(records[0])
	return append(records, eachPartition(after, id, func(t *image.Topic, n int, p *image.Partition) []*image.Record {
		if p.Leader != id && p.Leader != nobody {
			return nil
		}
		builder := newBuilder(after, policy, t, n)
		builder.bump = true
		return builder.build()
	})...), nil
}

// Fence decides on shutting a broker out that is gone: it leaves every ISR, and others lead.
func Fence(m *image.Image, policy Policy, id int32, epoch int64) ([]*image.Record, error) {
	b, err := registered(m, id, epoch)
	if err != nil {
		return nil, err
	}
	if b.Fenced {
		return nil, nil
	}
	yes := true
	return append([]*image.Record{brokerChange(b, &image.BrokerChangeRecord{Fenced: &yes})}, leaveAll(m, policy, id)...), nil
}

// BeginShutdown decides on a broker's wish to stop: others lead, and it may go when it leads nothing that
// another could (KIP-631's controlled shutdown).
func BeginShutdown(m *image.Image, policy Policy, id int32, epoch int64) ([]*image.Record, error) {
	b, err := registered(m, id, epoch)
	if err != nil {
		return nil, err
	}
	if b.Fenced || b.InControlledShutdown {
		return nil, nil
	}
	yes := true
	return append([]*image.Record{brokerChange(b, &image.BrokerChangeRecord{InControlledShutdown: &yes})}, leaveAll(m, policy, id)...), nil
}

// Unregister decides on forgetting a broker (UnregisterBroker).
func Unregister(m *image.Image, policy Policy, id int32) ([]*image.Record, error) {
	b, ok := m.Broker(id)
	if !ok {
		return nil, fmt.Errorf("Broker ID %d is not currently registered: %w", id, kerr.BrokerIDNotRegistered)
	}
	return append(leaveAll(m, policy, id), &image.Record{Kind: &image.Record_UnregisterBroker{UnregisterBroker: &image.UnregisterBrokerRecord{Id: id, Epoch: b.Epoch}}}), nil
}

// leaveAll takes a broker out of every ISR.
func leaveAll(m *image.Image, policy Policy, id int32) []*image.Record {
	return eachPartition(m, id, func(t *image.Topic, n int, p *image.Partition) []*image.Record {
		if p.Leader != id && !slices.Contains(p.ISR, id) {
			return nil
		}
		return newBuilder(m, policy, t, n).without(id, false).build()
	})
}

func brokerChange(b *image.Broker, c *image.BrokerChangeRecord) *image.Record {
	c.Id, c.Epoch = b.ID, b.Epoch
	return &image.Record{Kind: &image.Record_BrokerChange{BrokerChange: c}}
}

// producerIDBlock is how many producer ids a broker gets at once.
const producerIDBlock = 1000

// AllocateProducerIDs decides on a block of producer ids for a broker (KIP-730): start and length.
func AllocateProducerIDs(m *image.Image, id int32, epoch int64) ([]*image.Record, int64, int32, error) {
	if _, err := registered(m, id, epoch); err != nil {
		return nil, 0, 0, err
	}
	start := m.NextProducerID
	r := &image.Record{Kind: &image.Record_ProducerIds{ProducerIds: &image.ProducerIdsRecord{
		BrokerId: id, BrokerEpoch: epoch, NextProducerId: start + producerIDBlock,
	}}}
	return []*image.Record{r}, start, producerIDBlock, nil
}

// RememberMember notes who a member of the quorum is, unless that is known. A member that is known with
// another disk stays as it is.
func RememberMember(m *image.Image, c *image.Controller) []*image.Record {
	if old, ok := m.Controller(c.ID); ok && (old.Member != c.Member || old.Address == c.Address) {
		return nil
	}
	return []*image.Record{image.RegisterController(c)}
}

// ForgetMember drops what is known of a node that is of the quorum no more, so that another may have its id.
func ForgetMember(m *image.Image, id int32) []*image.Record {
	if _, ok := m.Controller(id); !ok {
		return nil
	}
	return []*image.Record{{Kind: &image.Record_Controller{Controller: &image.ControllerRecord{Id: id, Gone: true}}}}
}
