package ops

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Resource names a topic, a group, a broker or all brokers, whose settings are described or changed.
type Resource struct {
	Kind kmsg.ConfigResourceType
	Name string // "" is all brokers
}

// String names the resource in a sentence.
func (r Resource) String() string {
	switch {
	case r.Kind == kmsg.ConfigResourceTypeTopic:
		return "topic " + r.Name
	case r.Kind == kmsg.ConfigResourceTypeGroupConfig:
		return "group " + r.Name
	case r.Name == "":
		return "all brokers"
	}
	return "broker " + r.Name
}

// Config is a setting with the value in force.
type Config struct {
	Key       string  `json:"key"`
	Value     *string `json:"value"` // null also for what is secret
	From      string  `json:"from"`
	ReadOnly  bool    `json:"read_only"`
	Sensitive bool    `json:"sensitive"`
}

// configSources say in a word or two where a value comes from.
var configSources = map[kmsg.ConfigSource]string{
	kmsg.ConfigSourceDynamicTopicConfig: "the topic", kmsg.ConfigSourceDynamicBrokerConfig: "the broker", kmsg.ConfigSourceDynamicDefaultBrokerConfig: "all brokers",
	kmsg.ConfigSourceStaticBrokerConfig: "the broker's start", kmsg.ConfigSourceDefaultConfig: "default", kmsg.ConfigSourceGroupConfig: "the group",
}

// ListConfigs lists settings of a resource by key: those that are set or, with all, also defaults.
func ListConfigs(ctx context.Context, client *kgo.Client, r Resource, all bool) ([]Config, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	ask := kmsg.NewDescribeConfigsRequestResource()
	ask.ResourceType, ask.ResourceName = r.Kind, r.Name
	req.Resources = append(req.Resources, ask)
	out := []Config{}
	for _, shard := range client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, ofResource(ctx, client, r, shard.Err, nil)
		}
		for _, found := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
				return nil, ofResource(ctx, client, r, err, found.ErrorMessage)
			}
			for _, e := range found.Configs {
				if all || e.Source != kmsg.ConfigSourceDefaultConfig && (r.Kind != kmsg.ConfigResourceTypeTopic || e.Source == kmsg.ConfigSourceDynamicTopicConfig) {
					out = append(out, Config{e.Name, e.Value, configSources[e.Source], e.ReadOnly, e.IsSensitive})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Config) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// ChangeConfigs changes settings of a resource; a nil value removes one.
func ChangeConfigs(ctx context.Context, client *kgo.Client, r Resource, values map[string]*string) error {
	ask := kmsg.NewIncrementalAlterConfigsRequestResource()
	ask.ResourceType, ask.ResourceName = r.Kind, r.Name
	for _, key := range slices.Sorted(maps.Keys(values)) {
		c := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: key, Value: values[key]}
		if c.Value == nil {
			c.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		ask.Configs = append(ask.Configs, c)
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, ask)
	for _, shard := range client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return ofResource(ctx, client, r, shard.Err, nil)
		}
		for _, found := range shard.Resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
			if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
				return ofResource(ctx, client, r, err, found.ErrorMessage)
			}
		}
	}
	return nil
}

// ofResource makes one sentence of an error about a resource's settings.
func ofResource(ctx context.Context, client *kgo.Client, r Resource, err error, message *string) error {
	admin := kadm.NewClient(client)
	text := ""
	if message != nil {
		text = *message
	}
	switch id, noNumber := strconv.ParseInt(r.Name, 10, 32); {
	case r.Kind == kmsg.ConfigResourceTypeTopic:
		return ofTopic(ctx, admin, r.Name, err, text)
	case r.Kind == kmsg.ConfigResourceTypeBroker && noNumber == nil:
		listed, failed := admin.ListBrokers(ctx)
		if failed == nil && !slices.ContainsFunc(listed, func(b kadm.BrokerDetail) bool { return b.NodeID == int32(id) }) {
			return NoBroker(ctx, admin, int32(id))
		}
	}
	return fmt.Errorf("%v: %w", r, Explain(err, text))
}
