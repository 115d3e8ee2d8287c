package groups

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta"
	"kraft/raftmeta/broker"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// internalTopic is a topic whose partitions have coordinators. Any goroutine may use it.
type internalTopic struct {
	meta   *raftmeta.Meta
	broker *broker.Broker
	log    zerolog.Logger
	name   string
	serves string // what is unavailable without the topic
	// settings adds to the settings that the topic is created with, and returns its partitions and factor.
	settings func(*raftmeta.Settings, map[string]*string) controller.Defaults

	mu locks.Mutex // guards the rest
	// Why the topic cannot be created, as it was logged, and until when that is not logged again.
	unavailable string
	quietUntil  time.Time
}

func text(n int64) *string {
	s := strconv.FormatInt(n, 10)
	return &s
}

// ensure creates the topic if it is missing, with the replication factor that the brokers allow unless the user set one.
func (i *internalTopic) ensure(ctx context.Context) (*image.Topic, error) {
	if t, ok := i.meta.Image().Topic(i.name); ok {
		return t, nil
	}
	c := controller.InternalConfigs(i.name)
	defaults := i.settings(i.meta.Settings(), c)
	if err := i.broker.CreateTopic(ctx, controller.NewTopic{Name: i.name, Partitions: -1, Factor: -1, Configs: c}, defaults); err != nil {
		return nil, err
	}
	t, ok := i.meta.Image().Topic(i.name)
	if !ok {
		return nil, kerr.CoordinatorNotAvailable
	}
	return t, nil
}

// partition is the partition that a key belongs to, kerr.NotCoordinator if the topic does not exist.
func (i *internalTopic) partition(key string) (int32, error) {
	t, ok := i.meta.Image().Topic(i.name)
	if !ok {
		return 0, kerr.NotCoordinator
	}
	return partitionFor(key, int32(len(t.Partitions))), nil
}

// leader is the broker that coordinates a key, kerr.CoordinatorNotAvailable if there is none at present.
func (i *internalTopic) leader(key string) (*image.Broker, error) {
	img := i.meta.Image()
	topic, ok := img.Topic(i.name)
	if !ok {
		return nil, kerr.CoordinatorNotAvailable
	}
	id, _ := leaderOf(img, ident.TopicPartition{Topic: i.name, Partition: partitionFor(key, int32(len(topic.Partitions)))})
	b, ok := img.Broker(id)
	if !ok {
		return nil, kerr.CoordinatorNotAvailable
	}
	return b, nil
}

// noBroker is the leader of a partition that has none at present.
const noBroker = -1

// leaderOf is the broker that leads a partition, noBroker without one; ok is false if there is no such partition.
func leaderOf(img *image.Image, tp ident.TopicPartition) (broker int32, ok bool) {
	t, _ := img.Topic(tp.Topic)
	p, ok := t.Partition(tp.Partition)
	if !ok {
		return noBroker, false
	}
	if b, is := img.Broker(p.Leader); !is || b.Fenced {
		return noBroker, true
	}
	return p.Leader, true
}

// unavailableInterval is how often the log says that an internal topic cannot be created, for the same reason.
const unavailableInterval = time.Minute

// logUnavailable logs why there are no coordinators. Clients look for their coordinator again and again.
func (i *internalTopic) logUnavailable(err error) {
	now, why := time.Now(), err.Error()
	i.mu.Lock()
	defer i.mu.Unlock()
	if why == i.unavailable && now.Before(i.quietUntil) {
		return
	}
	i.unavailable, i.quietUntil = why, now.Add(unavailableInterval)
	i.log.Error().Msg(fmt.Sprintf("cannot create %s: %s are unavailable: %s", i.name, i.serves, why))
}
