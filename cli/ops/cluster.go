package ops

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// ClusterDescription is a cluster with what its brokers hold and lead.
type ClusterDescription struct {
	Cluster    string          `json:"cluster"`
	Controller int32           `json:"controller"`
	Partitions int             `json:"partitions"`
	Brokers    []BrokerSummary `json:"brokers"`
}

// BrokerSummary is a broker of a ClusterDescription.
type BrokerSummary struct {
	Broker   int32   `json:"broker"`
	Address  string  `json:"address"`
	Rack     *string `json:"rack"`
	Replicas int     `json:"replicas"`
	Leads    int     `json:"leads"`
}

// spread counts partitions, and by broker the replicas that it holds and the partitions that it leads.
func spread(topics kadm.TopicDetails) (partitions int, held, leads map[int32]int) {
	held, leads = map[int32]int{}, map[int32]int{}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		partitions++
		leads[p.Leader]++
		for _, r := range p.Replicas {
			held[r]++
		}
	})
	return partitions, held, leads
}

// DescribeCluster describes a cluster, with the brokers that run.
func DescribeCluster(ctx context.Context, admin *kadm.Client) (*ClusterDescription, error) {
	meta, err := admin.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	partitions, held, leads := spread(meta.Topics)
	out := &ClusterDescription{Cluster: meta.Cluster, Controller: meta.Controller, Partitions: partitions, Brokers: []BrokerSummary{}}
	for _, b := range meta.Brokers {
		out.Brokers = append(out.Brokers, BrokerSummary{b.NodeID, fmt.Sprintf("%s:%d", b.Host, b.Port), b.Rack, held[b.NodeID], leads[b.NodeID]})
	}
	return out, nil
}
