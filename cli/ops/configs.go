package ops

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

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
			return nil, shard.Err
		}
		for _, found := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := Answered(found.ErrorCode, found.ErrorMessage); err != nil {
				return nil, fmt.Errorf("%v: %w", r, err)
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
			return shard.Err
		}
		for _, found := range shard.Resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
			if err := Answered(found.ErrorCode, found.ErrorMessage); err != nil {
				return fmt.Errorf("%v: %w", r, err)
			}
		}
	}
	return nil
}
