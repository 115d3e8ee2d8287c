package controller

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// Features are the cluster features that this version knows, with the range of levels it supports. A
// new cluster finalizes the highest of each. Features whose APIs are not served are not listed.
var Features = map[string][2]int16{
	"metadata.version": {7, 30}, // 30 is Kafka 4.3's, the newest that widespread tools can name
}

// FirstRecords are the first batch of a new cluster.
func FirstRecords(clusterID string) []*image.Record {
	records := []*image.Record{{Kind: &image.Record_Cluster{Cluster: &image.ClusterRecord{ClusterId: clusterID}}}}
	for name, r := range Features {
		records = append(records, &image.Record{Kind: &image.Record_Feature{Feature: &image.FeatureRecord{Name: name, Level: int32(r[1])}}})
	}
	return records
}

// RegisterBroker decides on a registration (BrokerRegistration, KIP-631). The broker comes in fenced,
// with a new epoch unless the same process registers again.
func RegisterBroker(m *image.Image, clusterID string, b image.Broker) ([]*image.Record, int64, error) {
	if clusterID != m.ClusterID {
		return nil, 0, fmt.Errorf("Expected cluster ID %s, but got cluster ID %s: %w", m.ClusterID, clusterID, kerr.InconsistentClusterID)
	}
	b.Fenced = true
	b.Epoch = m.LastEpoch + 1
	if old, ok := m.Broker(b.ID); ok {
		if old.Incarnation == b.Incarnation {
			b.Epoch, b.Fenced = old.Epoch, old.Fenced
		}
	}
	return []*image.Record{image.Register(&b)}, b.Epoch, nil
}

// Unfence decides on letting a broker serve, and gives leaders to partitions that waited for it. What it
// led before gets a new leader epoch too: a process that died may have come back with less (KIP-320).
func Unfence(m *image.Image, id int32, epoch int64) ([]*image.Record, error) {
	b, ok := m.Broker(id)
	if !ok || b.Epoch != epoch {
		return nil, fmt.Errorf("broker %d has no epoch %d: %w", id, epoch, kerr.StaleBrokerEpoch)
	}
	if !b.Fenced {
		return nil, nil
	}
	no := false
	records := []*image.Record{{Kind: &image.Record_BrokerChange{BrokerChange: &image.BrokerChangeRecord{Id: id, Epoch: epoch, Fenced: &no}}}}
	m.Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			online := b.HasOnlineDir(p.Directory(id))
			switch {
			case online && (p.Leader == id || p.Leader == image.NoLeader && slices.Contains(p.ISR, id)):
				records = append(records, changeLeader(t, n, id))
			case !online:
				records = append(records, loseReplica(m, t, n, id)...)
			}
		}
		return true
	})
	return records, nil
}

func changeLeader(t *image.Topic, n int, leader int32) *image.Record {
	change := partitionChange(t, n)
	change.Leader = &leader
	return changed(change)
}

// producerIDBlock is how many producer ids a broker gets at once.
const producerIDBlock = 1000

// AllocateProducerIDs decides on a block of producer ids for a broker (KIP-730): start and length.
func AllocateProducerIDs(m *image.Image, id int32, epoch int64) ([]*image.Record, int64, int32, error) {
	if b, ok := m.Broker(id); !ok || b.Epoch != epoch {
		return nil, 0, 0, fmt.Errorf("broker %d has no epoch %d: %w", id, epoch, kerr.StaleBrokerEpoch)
	}
	start := m.NextProducerID
	r := &image.Record{Kind: &image.Record_ProducerIds{ProducerIds: &image.ProducerIdsRecord{
		BrokerId: id, BrokerEpoch: epoch, NextProducerId: start + producerIDBlock,
	}}}
	return []*image.Record{r}, start, producerIDBlock, nil
}
