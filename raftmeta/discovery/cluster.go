package discovery

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/raftmeta/tags"
	"kraft/wire"
)

// Endpoint types of DescribeCluster (KIP-919).
const (
	brokerEndpoint     = 1
	controllerEndpoint = 2
)

// clientsController is the broker to which clients send what the controller decides: the active controller or, where that is no broker,
// this node, which passes requests on. Apache Kafka names any broker that is alive. It is -1 while there is no controller.
func (d *Discovery) clientsController() int32 {
	leader := d.meta.Controller()
	if _, ok := d.meta.Image().Broker(leader); ok || leader < 0 {
		return leader
	}
	if _, ok := d.meta.Image().Broker(d.meta.Config.NodeID); ok {
		return d.meta.Config.NodeID
	}
	return leader
}

// endpoint is where clients of one of this node's listeners find a broker. Who asks at the quorum's listener, in place of ZooKeeper, is
// told the listener that brokers use among themselves.
func (d *Discovery) endpoint(b *image.Broker, listener string) (*image.Endpoint, bool) {
	if slices.ContainsFunc(d.meta.Config.Endpoints, func(e *image.Endpoint) bool { return e.Listener == listener }) {
		return b.Endpoint(listener)
	}
	if e, ok := b.Endpoint(d.meta.Config.InterBroker); ok || len(b.Endpoints) == 0 {
		return e, ok
	}
	return b.Endpoints[0], true // a node that is a controller only has no listener for brokers
}

// describeCluster answers brokers' endpoints (KIP-700); those of controllers are for other listeners.
func (d *Discovery) describeCluster(ctx *wire.Request, req *kmsg.DescribeClusterRequest) (*kmsg.DescribeClusterResponse, error) {
	resp := kmsg.NewPtrDescribeClusterResponse()
	img := d.meta.Image()
	resp.ClusterID, resp.ControllerID, resp.EndpointType = img.ClusterID, d.clientsController(), 1
	resp.ClusterAuthorizedOperations = wire.NoOperations
	if ctx.Version >= 1 && req.EndpointType != brokerEndpoint {
		err := fmt.Errorf("Unsupported endpoint type %d: %w", req.EndpointType, kerr.UnsupportedEndpointType)
		if req.EndpointType == controllerEndpoint {
			err = fmt.Errorf("The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER: %w", kerr.MismatchedEndpointType)
		}
		resp.ErrorCode, resp.ErrorMessage, resp.ControllerID = wire.ErrorCode(err), wire.ErrorMessage(err), -1
		return resp, nil
	}
	resp.ClusterAuthorizedOperations = clusterOperations(ctx, req.IncludeClusterAuthorizedOperations)
	img.Brokers(func(b *image.Broker) {
		e, ok := d.endpoint(b, ctx.Session.Listener)
		if !ok || b.Fenced && !req.IncludeFencedBrokers {
			return
		}
		n := kmsg.NewDescribeClusterResponseBroker()
		n.NodeID, n.Host, n.Port, n.Rack, n.IsFenced = b.ID, e.Host, e.Port, b.Rack, b.Fenced
		if len(b.Scarce) > 0 && req.IncludeFencedBrokers {
			tags.MarkDiskFull(&n)
		}
		if b.Fenced && b.Served < b.Epoch {
			tags.MarkStarting(&n)
		}
		resp.Brokers = append(resp.Brokers, n)
	})
	return resp, nil
}
