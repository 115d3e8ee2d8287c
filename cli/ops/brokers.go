package ops

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/tags"
)

// Broker is a registered broker.
type Broker struct {
	Broker   int32   `json:"broker"`
	Address  string  `json:"address"`
	Rack     *string `json:"rack"`
	State    string  `json:"state"` // as kraft broker list --help says
	Replicas int     `json:"replicas"`
	Leads    int     `json:"leads"`
	Bytes    int64   `json:"bytes"` // of its logs, -1 where they cannot be asked for
}

// Brokers lists all registered brokers, also those that do not run.
func Brokers(ctx context.Context, client *kgo.Client) ([]Broker, error) {
	admin := kadm.NewClient(client)
	cluster, states, err := BrokerStates(ctx, client)
	if err != nil {
		return nil, err
	}
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	_, held, leads := spread(topics)
	dirs, _ := admin.DescribeAllLogDirs(ctx, nil) // of those that run
	out := []Broker{}
	for _, b := range cluster.Brokers {
		line := Broker{Broker: b.NodeID, Address: fmt.Sprintf("%s:%d", b.Host, b.Port), Rack: b.Rack, State: states[b.NodeID], Replicas: held[b.NodeID], Leads: leads[b.NodeID], Bytes: -1}
		d, answers := dirs[b.NodeID]
		if cluster.ControllerID < 0 && !answers { // nobody fences it
			line.State = NoAnswer
		}
		if answers {
			line.Bytes = 0
			d.EachPartition(func(p kadm.DescribedLogDirPartition) { line.Bytes += p.Size })
		}
		out = append(out, line)
	}
	slices.SortFunc(out, func(a, b Broker) int { return int(a.Broker - b.Broker) })
	return out, nil
}

// The states of brokers; kraft broker list --help says what they mean.
const (
	Running  = "running"
	Starting = "starting"
	DiskFull = "disk full"
	Fenced   = "fenced"
	Down     = "down"
	NoAnswer = "no answer"
)

// BrokerStates asks a cluster for all its brokers, and what state each is in.
func BrokerStates(ctx context.Context, client *kgo.Client) (*kmsg.DescribeClusterResponse, map[int32]string, error) {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeFencedBrokers = true
	cluster, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	if err := Answered(cluster.ErrorCode, cluster.ErrorMessage); err != nil {
		return nil, nil, err
	}
	alive := func(int32) bool { return false }
	if slices.ContainsFunc(cluster.Brokers, func(b kmsg.DescribeClusterResponseBroker) bool { return b.IsFenced }) && cluster.ControllerID >= 0 {
		if _, q, err := Quorum(ctx, client); err == nil {
			alive = heardFrom(q)
		}
	}
	states := map[int32]string{}
	for _, b := range cluster.Brokers {
		switch {
		case b.IsFenced && !alive(b.NodeID):
			states[b.NodeID] = Down
		case b.IsFenced && tags.Starting(&b):
			states[b.NodeID] = Starting
		case b.IsFenced:
			states[b.NodeID] = Fenced
		case tags.DiskFull(&b):
			states[b.NodeID] = DiskFull
		default:
			states[b.NodeID] = Running
		}
	}
	return cluster, states, nil
}

// silence is how much longer than of the others nothing has been heard of a broker that counts as Down.
const silence = 3 * time.Second

// heardFrom reports, by a description of the quorum, from which nodes the controller has heard lately.
func heardFrom(q *kmsg.DescribeQuorumResponseTopicPartition) func(node int32) bool {
	at, newest := map[int32]int64{}, int64(-1)
	for _, r := range slices.Concat(q.CurrentVoters, q.Observers) {
		at[r.ReplicaID] = r.LastFetchTimestamp
		newest = max(newest, r.LastFetchTimestamp)
	}
	return func(node int32) bool {
		t, known := at[node]
		return known && t >= 0 && newest-t < silence.Milliseconds()
	}
}

// brokerLogger is the kind of resource that a broker's loggers are.
const brokerLogger = kmsg.ConfigResourceTypeBrokerLogger

// noBroker says that there is no such broker, and which there are.
func noBroker(id int32, brokers []Broker) error {
	var known []string
	for _, b := range brokers {
		known = append(known, fmt.Sprint(b.Broker))
	}
	return fmt.Errorf("broker %d does not exist: the brokers are %s", id, strings.Join(known, ", "))
}

// NoBroker returns the error for a broker id that is not registered.
func NoBroker(ctx context.Context, admin *kadm.Client, id int32) error {
	listed, err := admin.ListBrokers(ctx)
	if err != nil {
		return err
	}
	var brokers []Broker
	for _, b := range listed {
		brokers = append(brokers, Broker{Broker: b.NodeID})
	}
	return noBroker(id, brokers)
}

// CheckRemoval says why RemoveBroker would not forget a broker: it runs, or holds replicas.
func CheckRemoval(ctx context.Context, client *kgo.Client, id int32) error {
	brokers, err := Brokers(ctx, client)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(brokers, func(b Broker) bool { return b.Broker == id })
	switch {
	case i < 0:
		return noBroker(id, brokers)
	case brokers[i].State != Down:
		return fmt.Errorf("broker %d runs, and would register again: drain it (kraft broker drain %d) and stop it first", id, id)
	case brokers[i].Replicas > 0:
		return fmt.Errorf("broker %d still holds %d replicas: move them first (kraft broker drain %d)", id, brokers[i].Replicas, id)
	}
	return nil
}

// RemoveBroker forgets a broker that does not run and holds nothing.
func RemoveBroker(ctx context.Context, client *kgo.Client, id int32) error {
	if err := CheckRemoval(ctx, client, id); err != nil {
		return err
	}
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.BrokerID = id
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return Answered(resp.ErrorCode, resp.ErrorMessage)
}

// SetLogLevels changes how much parts of a broker log, until it stops.
func SetLogLevels(ctx context.Context, client *kgo.Client, id int32, levels map[string]string) error {
	changes := kmsg.NewIncrementalAlterConfigsRequestResource()
	changes.ResourceType, changes.ResourceName = brokerLogger, fmt.Sprint(id)
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		level := levels[name]
		changes.Configs = append(changes.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Value: &level})
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, changes)
	resp, err := client.Broker(int(id)).RetriableRequest(ctx, req)
	if err != nil {
		return fmt.Errorf("broker %d: %w", id, err)
	}
	for _, r := range resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
		if err := Answered(r.ErrorCode, r.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

// LogLevels returns how much each part of a broker logs.
func LogLevels(ctx context.Context, client *kgo.Client, id int32) (map[string]string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = brokerLogger, fmt.Sprint(id)
	req.Resources = append(req.Resources, r)
	resp, err := client.Broker(int(id)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", id, err)
	}
	out := map[string]string{}
	for _, r := range resp.(*kmsg.DescribeConfigsResponse).Resources {
		if err := Answered(r.ErrorCode, r.ErrorMessage); err != nil {
			return nil, err
		}
		for _, l := range r.Configs {
			if out[l.Name] = "null"; l.Value != nil {
				out[l.Name] = *l.Value
			}
		}
	}
	return out, nil
}
