package raftmeta

import (
	"encoding/base64"

	"kraft/raftmeta/image"
	"kraft/wire"
)

// EncodeUUID is Kafka's text form of an id: 22 characters of unpadded base64url.
func EncodeUUID(id image.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// RegisterHandlers adds the APIs of this package to r.
func (m *Meta) RegisterHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 13, m.metadata)
	wire.Handle(r, 0, 0, m.describeTopicPartitions)
	m.registerAdminHandlers(r)
}

// registerAdminHandlers adds what both brokers and controllers answer; changes go to the active controller.
func (m *Meta) registerAdminHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 2, m.describeCluster)
	wire.Handle(r, 0, 7, forwarded(m, m.createTopics))
	wire.Handle(r, 0, 6, forwarded(m, m.deleteTopics))
	wire.Handle(r, 0, 3, forwarded(m, m.createPartitions))
	wire.Handle(r, 0, 4, m.describeConfigs)
	wire.Handle(r, 0, 1, m.incrementalAlterConfigs)
	wire.Handle(r, 0, 2, forwarded(m, m.alterConfigs))
	wire.Handle(r, 0, 1, m.listConfigResources)
	wire.Handle(r, 0, 1, m.describeClientQuotas)
	wire.Handle(r, 0, 1, forwarded(m, m.alterClientQuotas))
	wire.Handle(r, 0, 2, forwarded(m, m.updateFeatures))
	wire.Handle(r, 0, 0, m.describeUserScramCredentials)
	wire.Handle(r, 0, 3, m.describeACLs)
	wire.Handle(r, 0, 3, m.createACLs)
	wire.Handle(r, 0, 3, m.deleteACLs)
	wire.Handle(r, 0, 2, forwarded(m, m.electLeaders))
	wire.Handle(r, 0, 0, forwarded(m, m.unregisterBroker))
	wire.Handle(r, 0, 1, forwarded(m, m.alterPartitionReassignments))
	wire.Handle(r, 0, 0, forwarded(m, m.listPartitionReassignments))
	wire.Handle(r, 0, 1, forwarded(m, m.addRaftVoter))
	wire.Handle(r, 0, 0, forwarded(m, m.removeRaftVoter))
	wire.Handle(r, 0, 0, forwarded(m, m.unregisterController))
	wire.Handle(r, 0, 2, forwarded(m, m.describeQuorum))
}

// Operations allowed while there is no authorizer, as bits of Kafka's AclOperation.
const (
	noOperations      = -1 << 31 // not asked for
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)
