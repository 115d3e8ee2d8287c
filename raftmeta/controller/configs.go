package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
)

// Op is what IncrementalAlterConfigs does to a key.
type Op int8

// Operations, numbered as in the protocol.
const (
	Set Op = iota
	Delete
	Append
	Subtract
)

// Alteration is one change of a resource's configuration.
type Alteration struct {
	Key   string
	Op    Op
	Value *string
}

// AlterConfigs decides on changes to one resource. effective gives the value in force, which Append and
// Subtract start from where the resource has none of its own.
func AlterConfigs(m *image.Image, resourceType int8, name string, changes []Alteration, effective func(key string) string) ([]*image.Record, error) {
	definitions, err := definitionsOf(m, resourceType, name)
	if err != nil {
		return nil, err
	}
	var records []*image.Record
	seen, after := map[string]bool{}, map[string]*string{}
	current := m.Config(resourceType, name)
	for _, c := range changes {
		if seen[c.Key] {
			return nil, fmt.Errorf("Error due to duplicate config keys: %s: %w", c.Key, kerr.InvalidRequest)
		}
		seen[c.Key] = true
		d, ok := definitions[c.Key]
		if !ok {
			if c.Op == Delete && (resourceType == image.GroupResource || resourceType == image.ClientMetricsResource) {
				continue
			}
			switch resourceType {
			case image.TopicResource:
				return nil, fmt.Errorf("Unknown topic config name: %s: %w", c.Key, kerr.InvalidConfig)
			case image.GroupResource:
				return nil, fmt.Errorf("Unknown group config name: %s: %w", c.Key, kerr.InvalidConfig)
			case image.ClientMetricsResource:
				return nil, fmt.Errorf("Unknown client metrics configuration: %s: %w", c.Key, kerr.InvalidRequest)
			}
			if d = configs.ListenerDefinition(c.Key); d == nil {
				d = &configs.Definition{Name: c.Key, Type: configs.String, Mode: configs.ClusterWide} // kept, as Kafka keeps what its plugins read
			}
		}
		if resourceType == image.BrokerResource {
			if c.Key == minInSyncReplicas && c.Value != nil {
				if err := d.Check(*c.Value); err != nil {
					return nil, fmt.Errorf("%v: %w", err, kerr.InvalidRequest)
				}
			}
			if c.Key == minInSyncReplicas && name != "" {
				return nil, fmt.Errorf("Broker-level min.insync.replicas cannot be altered while ELR is enabled.: %w", kerr.InvalidConfig)
			}
			if c.Key == minInSyncReplicas && c.Op == Delete {
				return nil, fmt.Errorf("Cluster-level min.insync.replicas cannot be removed while ELR is enabled.: %w", kerr.InvalidConfig)
			}
			if d.Mode == configs.ReadOnly || d.Mode == configs.PerBroker && name == "" {
				return nil, fmt.Errorf("Cannot update these configs dynamically: [%s]: %w", c.Key, kerr.InvalidRequest)
			}
		}
		value, err := altered(d, c, current, effective)
		if err != nil {
			return nil, err
		}
		if value == nil {
			if _, ok := current[c.Key]; !ok {
				continue
			}
		} else if err := d.Check(*value); err != nil {
			if _, unread := strconv.ParseInt(strings.TrimSpace(*value), 10, 32); resourceType == image.ClientMetricsResource && unread == nil {
				return nil, fmt.Errorf("Invalid value %s for %s, interval must be between 100 and 3600000 (1 hour): %w", *value, c.Key, kerr.InvalidRequest)
			}
			if resourceType == image.BrokerResource {
				return nil, fmt.Errorf("%v: %w", err, kerr.InvalidRequest)
			}
			return nil, fmt.Errorf("%v: %w", err, kerr.InvalidConfig)
		} else if resourceType == image.ClientMetricsResource && c.Key == "match" {
			if _, err := configs.ParseMatch(*value); err != nil {
				return nil, fmt.Errorf("%v: %w", err, kerr.InvalidConfig)
			}
		}
		if resourceType == image.GroupResource && value != nil {
			if err := configs.CheckGroup(c.Key, *value, effective); err != nil {
				return nil, fmt.Errorf("%v: %w", err, kerr.InvalidConfig)
			}
		}
		records = append(records, image.SetConfig(resourceType, name, c.Key, value))
		after[c.Key] = value
	}
	if resourceType == image.BrokerResource {
		if err := configs.CheckBroker(after, effective); err != nil {
			return nil, fmt.Errorf("%v: %w", err, kerr.InvalidRequest)
		}
	}
	if resourceType == image.TopicResource && slices.ContainsFunc(configs.TopicTogether, func(k string) bool { _, ok := after[k]; return ok }) {
		own := maps.Clone(map[string]string(current))
		if own == nil {
			own = map[string]string{}
		}
		for k, v := range after {
			if v == nil {
				delete(own, k)
			} else {
				own[k] = *v
			}
		}
		if err := checkTogether(own); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func definitionsOf(m *image.Image, resourceType int8, name string) (map[string]*configs.Definition, error) {
	switch resourceType {
	case image.TopicResource:
		if name == "" {
			return nil, fmt.Errorf("Default topic resources are not allowed.: %w", kerr.InvalidRequest)
		}
		if err := CheckTopicName(name); err != nil {
			return nil, err
		}
		if _, ok := m.Topic(name); !ok {
			return nil, fmt.Errorf("The topic '%s' does not exist.: %w", name, kerr.UnknownTopicOrPartition)
		}
		return configs.Topic, nil
	case image.BrokerResource:
		if name != "" {
			id, err := strconv.ParseInt(name, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("Node id must be an integer, but it is: %s: %w", name, kerr.InvalidRequest)
			}
			if _, ok := m.Broker(int32(id)); !ok {
				return nil, fmt.Errorf("Broker %d is not registered.: %w", id, kerr.InvalidRequest)
			}
		}
		return configs.Broker, nil
	case image.GroupResource:
		if name == "" {
			return nil, fmt.Errorf("Default group resources are not allowed.: %w", kerr.InvalidRequest)
		}
		return configs.Group, nil
	case image.ClientMetricsResource:
		if name == "" {
			return nil, fmt.Errorf("Subscription name can't be empty: %w", kerr.InvalidRequest)
		}
		return configs.ClientMetrics, nil
	}
	return nil, fmt.Errorf("Unexpected resource type %d: %w", resourceType, kerr.InvalidRequest)
}

func altered(d *configs.Definition, c Alteration, current image.ConfigMap, effective func(string) string) (*string, error) {
	switch c.Op {
	case Delete:
		return nil, nil
	case Set:
		if c.Value == nil {
			return nil, fmt.Errorf("Null value not supported for : %s: %w", c.Key, kerr.InvalidRequest)
		}
		return c.Value, nil
	case Append, Subtract:
		if d.Type != configs.List {
			return nil, fmt.Errorf("Can't %s to key %s because its type is not LIST.: %w", map[Op]string{Append: "APPEND", Subtract: "SUBTRACT"}[c.Op], c.Key, kerr.InvalidConfig)
		}
		old, ok := current[c.Key]
		if !ok {
			old = effective(c.Key)
		}
		list := configs.SplitList(old)
		if c.Value == nil {
			return nil, fmt.Errorf("Null value not supported for : %s: %w", c.Key, kerr.InvalidRequest)
		}
		for _, v := range configs.SplitList(*c.Value) {
			switch {
			case c.Op == Append && !slices.Contains(list, v):
				list = append(list, v)
			case c.Op == Subtract:
				list = slices.DeleteFunc(list, func(s string) bool { return s == v })
			}
		}
		text := strings.Join(list, ",")
		return &text, nil
	}
	return nil, fmt.Errorf("Unknown operation %d on %s: %w", c.Op, c.Key, kerr.InvalidRequest)
}

// ReplaceConfigs decides on AlterConfigs: the resource has exactly these values afterwards.
func ReplaceConfigs(m *image.Image, resourceType int8, name string, values map[string]*string, effective func(key string) string) ([]*image.Record, error) {
	var changes []Alteration
	for k, v := range values {
		changes = append(changes, Alteration{Key: k, Op: Set, Value: v})
	}
	for k := range m.Config(resourceType, name) {
		if _, keep := values[k]; !keep {
			changes = append(changes, Alteration{Key: k, Op: Delete})
		}
	}
	slices.SortFunc(changes, func(a, b Alteration) int { return strings.Compare(a.Key, b.Key) })
	return AlterConfigs(m, resourceType, name, changes, effective)
}
