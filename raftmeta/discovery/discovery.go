// Package discovery answers what every client asks before anything else: which brokers there are, and which of them leads a partition.
package discovery

import (
	"github.com/rs/zerolog"

	"kraft/raftmeta"
	"kraft/raftmeta/broker"
	"kraft/wire"
	"kraft/wire/logging"
)

// Discovery answers Metadata, DescribeTopicPartitions and DescribeCluster from the image. Any goroutine may call its handlers.
type Discovery struct {
	meta   *raftmeta.Meta
	broker *broker.Broker // creates topics for Metadata
	log    zerolog.Logger
}

// New returns the discovery of a node.
func New(meta *raftmeta.Meta, b *broker.Broker) *Discovery {
	return &Discovery{meta: meta, broker: b, log: meta.Config.Logs.For(logging.Node)}
}

// RegisterHandlers adds the APIs of this package that brokers serve to r.
func (d *Discovery) RegisterHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 13, d.metadata)
	wire.Handle(r, 0, 0, d.describeTopicPartitions)
	d.RegisterControllerHandlers(r)
}

// RegisterControllerHandlers adds the APIs of this package that controllers serve to r.
func (d *Discovery) RegisterControllerHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 2, d.describeCluster)
}

// Operations allowed while there is no authorizer, as bits of Kafka's AclOperation.
const (
	noOperations      = -1 << 31 // not asked for
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)
