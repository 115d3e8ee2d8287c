// Package discovery answers what every client asks before anything else: which brokers there are, and which of them leads a partition.
package discovery

import (
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta"
	"kraft/raftmeta/broker"
	"kraft/wire"
	"kraft/wire/acl"
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
	wire.Handle(r, 0, 2, d.describeCluster)
}

// RegisterControllerHandlers adds the APIs of this package that controllers serve to r.
func (d *Discovery) RegisterControllerHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 2, func(ctx *wire.Request, req *kmsg.DescribeClusterRequest) (*kmsg.DescribeClusterResponse, error) {
		if err := ctx.MayCluster(acl.Alter); err != nil {
			resp := kmsg.NewPtrDescribeClusterResponse()
			resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
			return resp, nil
		}
		return d.describeCluster(ctx, req)
	})
}

// clusterOperations are what an answer tells of the operations on the cluster that a client may do.
func clusterOperations(ctx *wire.Request, asked bool) int32 {
	switch {
	case !asked:
		return wire.NoOperations
	case !ctx.CouldCluster(acl.Describe):
		return 0
	}
	return ctx.Authorized(acl.Cluster, acl.ClusterName)
}
