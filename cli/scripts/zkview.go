package scripts

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/ops"
)

// zkView shows the cluster's metadata as the read-only tree of nodes that brokers once kept in ZooKeeper, in the JSON of Kafka 3.
type zkView struct {
	ctx    context.Context
	client *kgo.Client
	admin  *kadm.Client
}

// zkNode is a node of the tree.
type zkNode struct {
	data     string   // "null" for none, as ZooKeeper's shell prints it
	children []string // in order
}

// branch is a node that has children and no data.
func branch(children ...string) *zkNode { return &zkNode{"null", children} }

// leaf is a node that has data and no children.
func leaf(data any) (*zkNode, error) {
	text, err := json.Marshal(data)
	return &zkNode{data: string(text)}, err
}

// node returns the node at an absolute path, nil if there is none.
func (v *zkView) node(path string) (*zkNode, error) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if len(parts) == 0 {
		return branch("admin", "brokers", "cluster", "config", "consumers", "controller", "controller_epoch", "isr_change_notification", "latest_producer_id_block", "log_dir_event_notification"), nil
	}
	rest := parts[1:]
	switch parts[0] {
	case "brokers":
		return v.brokers(rest)
	case "config":
		return v.config(rest)
	case "cluster", "controller", "controller_epoch":
		return v.cluster(parts)
	case "admin":
		return fixed(rest, map[string]*zkNode{"": branch("delete_topics"), "delete_topics": branch()}), nil
	case "consumers", "isr_change_notification", "latest_producer_id_block", "log_dir_event_notification":
		return fixed(rest, map[string]*zkNode{"": branch()}), nil
	}
	return nil, nil
}

// fixed finds a node of a subtree that is always the same, by its path below that.
func fixed(rest []string, nodes map[string]*zkNode) *zkNode { return nodes[strings.Join(rest, "/")] }

func (v *zkView) brokers(rest []string) (*zkNode, error) {
	switch {
	case len(rest) == 0:
		return branch("ids", "seqid", "topics"), nil
	case rest[0] == "seqid":
		return fixed(rest[1:], map[string]*zkNode{"": branch()}), nil
	case rest[0] == "ids":
		return v.ids(rest[1:])
	case rest[0] == "topics":
		return v.topics(rest[1:])
	}
	return nil, nil
}

func (v *zkView) ids(rest []string) (*zkNode, error) {
	meta, err := v.admin.BrokerMetadata(v.ctx)
	if err != nil {
		return nil, err
	}
	all := branch()
	for _, id := range meta.Brokers.NodeIDs() {
		all.children = append(all.children, strconv.Itoa(int(id)))
	}
	if len(rest) == 0 {
		return all, nil
	}
	for _, b := range meta.Brokers {
		if len(rest) == 1 && rest[0] == strconv.Itoa(int(b.NodeID)) {
			return leaf(struct {
				Protocols map[string]string `json:"listener_security_protocol_map"`
				Endpoints []string          `json:"endpoints"`
				Rack      *string           `json:"rack,omitempty"`
				JMX       int               `json:"jmx_port"`
				Host      string            `json:"host"`
				Port      int32             `json:"port"`
				Version   int               `json:"version"`
			}{map[string]string{"PLAINTEXT": "PLAINTEXT"}, []string{"PLAINTEXT://" + net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))}, b.Rack, -1, b.Host, b.Port, 5})
		}
	}
	return nil, nil
}

func (v *zkView) topics(rest []string) (*zkNode, error) {
	if len(rest) == 0 {
		return v.topicNames()
	}
	details, err := v.admin.ListTopicsWithInternal(v.ctx, rest[0])
	if err != nil {
		return nil, err
	}
	t := details[rest[0]]
	if t.Err != nil || len(t.Partitions) == 0 {
		return nil, nil
	}
	numbers := branch()
	for _, p := range t.Partitions.Sorted() {
		numbers.children = append(numbers.children, strconv.Itoa(int(p.Partition)))
	}
	switch {
	case len(rest) == 1:
		replicas := map[string][]int32{}
		for _, p := range t.Partitions {
			replicas[strconv.Itoa(int(p.Partition))] = p.Replicas
		}
		n, err := leaf(struct {
			Removing   struct{}           `json:"removing_replicas"`
			Partitions map[string][]int32 `json:"partitions"`
			ID         string             `json:"topic_id"`
			Adding     struct{}           `json:"adding_replicas"`
			Version    int                `json:"version"`
		}{Partitions: replicas, ID: base64.RawURLEncoding.EncodeToString(t.ID[:]), Version: 3})
		n.children = []string{"partitions"}
		return n, err
	case rest[1] != "partitions":
		return nil, nil
	case len(rest) == 2:
		return numbers, nil
	case !slices.Contains(numbers.children, rest[2]):
		return nil, nil
	case len(rest) == 3:
		return branch("state"), nil
	case len(rest) > 4 || rest[3] != "state":
		return nil, nil
	}
	number, err := strconv.ParseInt(rest[2], 10, 32) // one of numbers
	if err != nil {
		return nil, err
	}
	epoch, err := v.epoch()
	if err != nil {
		return nil, err
	}
	p := t.Partitions[int32(number)]
	return leaf(struct {
		ControllerEpoch int32   `json:"controller_epoch"`
		Leader          int32   `json:"leader"`
		Version         int     `json:"version"`
		LeaderEpoch     int32   `json:"leader_epoch"`
		ISR             []int32 `json:"isr"`
	}{epoch, p.Leader, 1, p.LeaderEpoch, p.ISR})
}

func (v *zkView) topicNames() (*zkNode, error) {
	details, err := v.admin.ListTopicsWithInternal(v.ctx)
	if err != nil {
		return nil, err
	}
	return branch(details.Names()...), nil
}

func (v *zkView) config(rest []string) (*zkNode, error) {
	switch {
	case len(rest) == 0:
		return branch("brokers", "changes", "clients", "topics", "users"), nil
	case rest[0] != "topics":
		return fixed(rest, map[string]*zkNode{"brokers": branch(), "changes": branch(), "clients": branch(), "users": branch()}), nil
	case len(rest) == 1:
		return v.topicNames()
	case len(rest) > 2:
		return nil, nil
	}
	resources, err := v.admin.DescribeTopicConfigs(v.ctx, rest[1])
	if err != nil {
		return nil, err
	}
	if len(resources) != 1 || resources[0].Err != nil {
		return nil, nil
	}
	own := map[string]string{}
	for _, c := range resources[0].Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			own[c.Key] = c.MaybeValue()
		}
	}
	return leaf(struct {
		Version int               `json:"version"`
		Config  map[string]string `json:"config"`
	}{1, own})
}

func (v *zkView) cluster(parts []string) (*zkNode, error) {
	path := strings.Join(parts, "/")
	if path == "cluster" {
		return branch("id"), nil
	}
	if path == "controller_epoch" {
		epoch, err := v.epoch()
		return &zkNode{data: strconv.Itoa(int(epoch))}, err
	}
	meta, err := v.admin.BrokerMetadata(v.ctx)
	if err != nil {
		return nil, err
	}
	switch path {
	case "cluster/id":
		return leaf(struct {
			Version string `json:"version"`
			ID      string `json:"id"`
		}{"1", meta.Cluster})
	case "controller":
		return leaf(struct {
			Version int   `json:"version"`
			ID      int32 `json:"brokerid"`
		}{1, meta.Controller})
	}
	return nil, nil
}

// epoch is the controller's: the term of the metadata quorum's leader.
func (v *zkView) epoch() (int32, error) {
	_, q, err := ops.Quorum(v.ctx, v.client)
	if err != nil {
		return 0, err
	}
	return q.LeaderEpoch, nil
}
