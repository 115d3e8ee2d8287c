package raftmeta

import (
	"strconv"
	"time"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire/defect"
)

// Settings are the values in force of those broker settings that are read while the node runs. A Settings never changes.
type Settings struct {
	NumPartitions            int32 `kafka:"num.partitions"`
	DefaultReplicationFactor int16 `kafka:"default.replication.factor"`
	MinInSyncReplicas        int64 `kafka:"min.insync.replicas"`
	AutoCreateTopics         bool  `kafka:"auto.create.topics.enable"`
	DeleteTopics             bool  `kafka:"delete.topic.enable"`
	DescribedPartitions      int   `kafka:"max.request.partition.size.limit"` // in one response

	HeartbeatInterval      time.Duration `kafka:"broker.heartbeat.interval.ms"`
	SessionTimeout         time.Duration `kafka:"broker.session.timeout.ms"`
	AutoLeaderRebalance    bool          `kafka:"auto.leader.rebalance.enable"`
	ImbalanceCheckInterval time.Duration `kafka:"leader.imbalance.check.interval.seconds"`

	AuthorizerMode         string `kafka:"authorizer.mode"`
	MaxConnections         int    `kafka:"max.connections"`
	MaxConnectionRate      int    `kafka:"max.connection.creation.rate"` // a second
	MaxConnectionsPerIP    int    `kafka:"max.connections.per.ip"`
	MaxConnectionsOverride string `kafka:"max.connections.per.ip.overrides"`

	TokenSecret   string        `kafka:"delegation.token.secret.key"` // "" for no delegation tokens
	TokenRenewal  time.Duration `kafka:"delegation.token.expiry.time.ms"`
	TokenLifetime time.Duration `kafka:"delegation.token.max.lifetime.ms"`
	TokenCheck    time.Duration `kafka:"delegation.token.expiry.check.interval.ms"`

	QuotaWindows    int           `kafka:"quota.window.num"`
	QuotaWindow     time.Duration `kafka:"quota.window.size.seconds"`
	MutationWindows int           `kafka:"controller.quota.window.num"`
	MutationWindow  time.Duration `kafka:"controller.quota.window.size.seconds"`

	FlushPolicy           string        `kafka:"log.flush.policy"`
	FetchMaxBytes         int           `kafka:"fetch.max.bytes"`
	FetchSessions         int           `kafka:"max.incremental.fetch.session.cache.slots"`
	ReplicaSelector       string        `kafka:"replica.selector.class"`
	ReplicaLagTime        time.Duration `kafka:"replica.lag.time.max.ms"`
	ReplicaFetchWait      int32         `kafka:"replica.fetch.wait.max.ms"` // milliseconds
	ReplicaFetchMinBytes  int32         `kafka:"replica.fetch.min.bytes"`
	ReplicaFetchMaxBytes  int32         `kafka:"replica.fetch.max.bytes"` // of a partition
	ReplicaFetchResponse  int32         `kafka:"replica.fetch.response.max.bytes"`
	LeaderThrottledRate   int64         `kafka:"leader.replication.throttled.rate"`   // bytes a second
	FollowerThrottledRate int64         `kafka:"follower.replication.throttled.rate"` // bytes a second

	CleanerThreads int           `kafka:"log.cleaner.threads"`
	CleanerMemory  int64         `kafka:"log.cleaner.dedupe.buffer.size"`
	CleanerBackoff time.Duration `kafka:"log.cleaner.backoff.ms"`
	CleanerIOBytes float64       `kafka:"log.cleaner.io.max.bytes.per.second"`
	MoveThreads    int           `kafka:"num.replica.alter.log.dirs.threads"`
	MoveBytes      int64         `kafka:"replica.alter.log.dirs.io.max.bytes.per.second"`

	GroupMinSession         time.Duration `kafka:"group.min.session.timeout.ms"`
	GroupMaxSession         time.Duration `kafka:"group.max.session.timeout.ms"`
	GroupMaxSize            int           `kafka:"group.max.size"`
	GroupInitialDelay       time.Duration `kafka:"group.initial.rebalance.delay.ms"`
	OffsetsRetention        time.Duration `kafka:"offsets.retention.minutes"`
	OffsetsRetentionCheck   time.Duration `kafka:"offsets.retention.check.interval.ms"`
	OffsetsCommitTimeout    time.Duration `kafka:"offsets.commit.timeout.ms"`
	OffsetMetadataMaxBytes  int           `kafka:"offset.metadata.max.bytes"`
	OffsetsTopicPartitions  int32         `kafka:"offsets.topic.num.partitions"`
	OffsetsTopicReplication int16         `kafka:"offsets.topic.replication.factor"`
	OffsetsTopicSegment     int64         `kafka:"offsets.topic.segment.bytes"`

	UnstableAPIs            bool          `kafka:"unstable.api.versions.enable"`
	VerifyTransactions      bool          `kafka:"transaction.partition.verification.enable"`
	TransactionTwoPhase     bool          `kafka:"transaction.two.phase.commit.enable"`
	TransactionMaxTimeout   time.Duration `kafka:"transaction.max.timeout.ms"`
	TransactionTimeoutCheck time.Duration `kafka:"transaction.abort.timed.out.transaction.cleanup.interval.ms"`
	TransactionalIDExpiry   time.Duration `kafka:"transactional.id.expiration.ms"`
	TransactionalIDCheck    time.Duration `kafka:"transaction.remove.expired.transaction.cleanup.interval.ms"`
	TransactionPartitions   int32         `kafka:"transaction.state.log.num.partitions"`
	TransactionReplication  int16         `kafka:"transaction.state.log.replication.factor"`
	TransactionMinISR       int64         `kafka:"transaction.state.log.min.isr"`
	TransactionSegment      int64         `kafka:"transaction.state.log.segment.bytes"`
}

// SettingsOf returns the settings of this broker by img.
func (m *Meta) SettingsOf(img *image.Image) *Settings {
	s := new(Settings)
	m.Layers(img, "").ReadBroker(s)
	return s
}

// Settings returns the newest settings that took effect.
func (m *Meta) Settings() *Settings { return m.settings.Load() }

// followSettings is the first subscriber to metadata: all others find the settings of the image that they are shown.
func (m *Meta) followSettings(img *image.Image, changed *image.Delta) {
	if !changed.Configs {
		return
	}
	if err := defect.Contain("settings", func() error { m.settings.Store(m.SettingsOf(img)); return nil }); err != nil {
		defect.Tell(&m.log, err).Msg("settings stay as they are")
	}
}

// Layers are the places where img says that this broker's settings and a topic's come from. topic may
// be "".
func (m *Meta) Layers(img *image.Image, topic string) configs.Layers {
	l := configs.Layers{
		Broker:         img.Config(image.BrokerResource, strconv.Itoa(int(m.Config.NodeID))),
		ClusterDefault: img.Config(image.BrokerResource, ""),
		Static:         m.Config.Static,
	}
	if topic != "" {
		l.Topic = img.Config(image.TopicResource, topic)
	}
	return l
}

// Defaults are the partitions and the factor of topics that do not say.
func (m *Meta) Defaults() controller.Defaults {
	s := m.Settings()
	return controller.Defaults{Partitions: s.NumPartitions, Factor: s.DefaultReplicationFactor}
}

// OffsetsTopicDefaults are those of __consumer_offsets. A factor that the user never set shrinks to what the brokers allow.
func (m *Meta) OffsetsTopicDefaults() controller.Defaults {
	s := m.Settings()
	_, set := m.Config.Static["offsets.topic.replication.factor"]
	return controller.Defaults{Partitions: s.OffsetsTopicPartitions, Factor: s.OffsetsTopicReplication, Clamp: !set}
}

// TransactionTopicDefaults are those of __transaction_state. A factor that the user never set shrinks to what the brokers allow.
func (m *Meta) TransactionTopicDefaults() controller.Defaults {
	s := m.Settings()
	_, set := m.Config.Static["transaction.state.log.replication.factor"]
	return controller.Defaults{Partitions: s.TransactionPartitions, Factor: s.TransactionReplication, Clamp: !set}
}

var (
	minInSyncReplicas = configs.TopicKey("min.insync.replicas")
	uncleanElection   = configs.TopicKey("unclean.leader.election.enable")
)

// Policy is what topics' settings say about their leaders.
func (m *Meta) Policy() controller.Policy {
	return controller.Policy{
		MinISR: func(img *image.Image, topic string) int {
			n, err := strconv.Atoi(minInSyncReplicas(m.Layers(img, topic)))
			if err != nil {
				return 1 // all values were checked when they were set
			}
			return n
		},
		Unclean:  func(img *image.Image, topic string) bool { return uncleanElection(m.Layers(img, topic)) == "true" },
		Internal: image.IsInternal,
	}
}
