package raftmeta

import (
	"fmt"
	"strconv"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
)

// Layers are the places where img says that this broker's settings and a topic's come from. topic may
// be "".
func (m *Meta) Layers(img *image.Image, topic string) configs.Layers {
	l := configs.Layers{
		Broker:         img.Config(image.BrokerResource, fmt.Sprint(m.Config.NodeID)),
		ClusterDefault: img.Config(image.BrokerResource, ""),
		Static:         m.Config.Static,
	}
	if topic != "" {
		l.Topic = img.Config(image.TopicResource, topic)
	}
	return l
}

// Setting is the value of a broker setting in force now.
func (m *Meta) Setting(name string) string { return m.Layers(m.Image(), "").EffectiveBroker(name) }

// IntSetting is Setting as a number.
func (m *Meta) IntSetting(name string) int64 { return m.Layers(m.Image(), "").EffectiveInt(name) }

// Defaults are the partitions and the factor of topics that do not say. A factor that the user never
// set shrinks to what the brokers allow.
func (m *Meta) Defaults() controller.Defaults {
	return controller.Defaults{
		Partitions: int32(m.IntSetting("num.partitions")),
		Factor:     int16(m.IntSetting("default.replication.factor")),
	}
}

// InternalDefaults are those of an internal topic, by the broker settings that name them.
func (m *Meta) InternalDefaults(partitions, factor string) controller.Defaults {
	_, set := m.Config.Static[factor]
	return controller.Defaults{Partitions: int32(m.IntSetting(partitions)), Factor: int16(m.IntSetting(factor)), Clamp: !set}
}

// Policy is what topics' settings say about their leaders.
func (m *Meta) Policy() controller.Policy {
	return controller.Policy{
		MinISR: func(img *image.Image, topic string) int {
			n, err := strconv.Atoi(m.Layers(img, topic).Effective("min.insync.replicas"))
			if err != nil {
				return 1 // all values were checked when they were set
			}
			return n
		},
		Unclean: func(img *image.Image, topic string) bool {
			return m.Layers(img, topic).Effective("unclean.leader.election.enable") == "true"
		},
		Internal: image.IsInternal,
	}
}
