package controller

import (
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"regexp"
	"slices"
	"sort"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
)

// maxTopicName is the longest topic name in bytes.
const maxTopicName = 249

// maxPartitions bounds the partitions of one topic, and of one request.
const maxPartitions = 10_000

var errTooManyPartitions = fmt.Errorf("Excessively large number of partitions: a topic has at most %d.: %w", maxPartitions, kerr.PolicyViolation)

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

// CheckTopicName returns the sentence that Kafka has for a bad name, nil for a good one.
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("Topic name is invalid: the empty string is not allowed: %w", kerr.InvalidTopicException)
	case name == "." || name == "..":
		return fmt.Errorf("Topic name is invalid: '%s' is not allowed: %w", name, kerr.InvalidTopicException)
	case len(name) > maxTopicName:
		return fmt.Errorf("Topic name is invalid: the length of '%s' is longer than the max allowed length %d: %w", name, maxTopicName, kerr.InvalidTopicException)
	case !topicName.MatchString(name):
		return fmt.Errorf("Topic name is invalid: '%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-': %w", name, kerr.InvalidTopicException)
	}
	return nil
}

// NewTopic is one topic to create.
type NewTopic struct {
	Name       string
	Partitions int32 // -1 for the default
	Factor     int16 // -1 for the default
	Assignment map[int32][]int32
	Configs    map[string]*string
}

// Defaults are what a topic gets that does not say.
type Defaults struct {
	Partitions int32
	Factor     int16
	// Clamp lets the default factor shrink to the number of registered brokers.
	Clamp bool
}

// FactorFor returns the replication factor of a topic created without one. It counts all registered brokers, including fenced ones:
// a topic that is created while a broker restarts has all its replicas once that broker is back.
func (d Defaults) FactorFor(m *image.Image) int16 {
	if !d.Clamp {
		return d.Factor
	}
	registered := int16(0)
	m.Brokers(func(*image.Broker) { registered = min(registered, 1<<15-2) + 1 })
	return max(1, min(d.Factor, registered))
}

// CreateTopic returns the records of a new topic with that id, and the topic as it will be. The error wraps a kerr code and is for the
// client. seed determines where the replicas are placed.
func CreateTopic(m *image.Image, t NewTopic, d Defaults, id image.UUID, seed uint64) ([]*image.Record, *image.Topic, error) {
	if err := CheckTopicName(t.Name); err != nil {
		return nil, nil, err
	}
	if t.Name == image.QuorumTopic {
		return nil, nil, fmt.Errorf("%s is the quorum's own log: %w", t.Name, kerr.InvalidRequest)
	}
	if _, ok := m.Topic(t.Name); ok {
		return nil, nil, fmt.Errorf("Topic '%s' already exists.: %w", t.Name, kerr.TopicAlreadyExists)
	}
	if err := checkCollision(m, t.Name); err != nil {
		return nil, nil, err
	}
	if err := checkConfigs(t.Configs); err != nil {
		return nil, nil, err
	}
	assignment, err := assign(m, t, d, seed)
	if err != nil {
		return nil, nil, err
	}
	topic := &image.Topic{Name: t.Name, ID: id}
	dirs := newDirectories(m)
	records := []*image.Record{{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Name: t.Name, Id: topic.ID[:]}}}}
	for n, replicas := range assignment {
		p, err := newPartition(m, n, replicas, dirs)
		if err != nil {
			return nil, nil, err
		}
		topic.Partitions = append(topic.Partitions, p)
		records = append(records, image.NewPartition(topic.ID, int32(n), p))
	}
	keys := make([]string, 0, len(t.Configs))
	for k := range t.Configs {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		records = append(records, image.SetConfig(image.TopicResource, t.Name, k, t.Configs[k]))
	}
	return records, topic, nil
}

// newPartition makes partition n of a topic: in sync are the replicas that are active, the first leads.
func newPartition(m *image.Image, n int, replicas []int32, dirs *directories) (*image.Partition, error) {
	p := &image.Partition{Replicas: replicas, Directories: dirs.place(replicas)}
	for _, r := range replicas {
		if b, ok := m.Broker(r); ok && !b.Fenced && !b.InControlledShutdown {
			p.ISR = append(p.ISR, r)
		}
	}
	if len(p.ISR) == 0 {
		return nil, fmt.Errorf("all brokers of partition %d are fenced or in controlled shutdown: %w", n, kerr.InvalidReplicaAssignment)
	}
	p.Leader = p.ISR[0]
	return p, nil
}

// checkCollision refuses names that differ only in '.' and '_': metrics would mix them up.
func checkCollision(m *image.Image, name string) error {
	flat := func(s string) string {
		b := []byte(s)
		for i := range b {
			if b[i] == '.' {
				b[i] = '_'
			}
		}
		return string(b)
	}
	if !slices.ContainsFunc([]byte(name), func(c byte) bool { return c == '.' || c == '_' }) {
		return nil
	}
	want := flat(name)
	var hit string
	m.Topics("", func(t *image.Topic) bool {
		if len(t.Name) == len(want) && flat(t.Name) == want {
			hit = t.Name
		}
		return hit == ""
	})
	if hit != "" {
		return fmt.Errorf("Topic '%s' collides with existing topic: %s: %w", name, hit, kerr.InvalidTopicException)
	}
	return nil
}

// NewID makes a random topic id whose text form does not start with a dash, as Kafka's Uuid does: it is
// typed on command lines.
func NewID() image.UUID {
	for {
		var id image.UUID
		_, _ = rand.Read(id[:])
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id[0]>>2 != 62 {
			return id
		}
	}
}

func checkConfigs(c map[string]*string) error {
	for k, v := range c {
		d, ok := configs.Topic[k]
		if !ok {
			return fmt.Errorf("Unknown topic config name: %s: %w", k, kerr.InvalidConfig)
		}
		if v == nil {
			return fmt.Errorf("Null value not supported for topic configs: %s: %w", k, kerr.InvalidConfig)
		}
		if err := d.Check(*v); err != nil {
			return fmt.Errorf("%v: %w", err, kerr.InvalidConfig)
		}
	}
	own := make(map[string]string, len(c))
	for k, v := range c {
		own[k] = *v
	}
	return checkTogether(own)
}

// checkTogether checks a topic's own settings with each other, and with the defaults of those that it has not.
func checkTogether(own map[string]string) error {
	if err := configs.CheckTopic(configs.Layers{Topic: own}.Effective); err != nil {
		return fmt.Errorf("%v: %w", err, kerr.InvalidConfig)
	}
	return nil
}

func assign(m *image.Image, t NewTopic, d Defaults, seed uint64) ([][]int32, error) {
	if len(t.Assignment) > 0 {
		if t.Factor != -1 || t.Partitions != -1 {
			return nil, fmt.Errorf("A manual partition assignment was specified, but numPartitions or replicationFactor was not set to -1.: %w", kerr.InvalidRequest)
		}
		return manualAssignment(m, t.Assignment, 0)
	}
	partitions, factor := t.Partitions, t.Factor
	if partitions == -1 {
		partitions = d.Partitions
	}
	if factor == -1 {
		factor = d.FactorFor(m)
	}
	if partitions <= 0 {
		return nil, fmt.Errorf("Number of partitions was set to an invalid non-positive value.: %w", kerr.InvalidPartitions)
	}
	if partitions > maxPartitions {
		return nil, errTooManyPartitions
	}
	return place(m, int(partitions), factor, seed)
}

// manualAssignment checks assignments given by hand for partitions from first on.
func manualAssignment(m *image.Image, assignment map[int32][]int32, first int32) ([][]int32, error) {
	out := make([][]int32, len(assignment))
	for n, replicas := range assignment {
		if n < first || int(n-first) >= len(out) {
			return nil, fmt.Errorf("partitions should be a consecutive 0-based integer sequence: %w", kerr.InvalidReplicaAssignment)
		}
		if len(replicas) == 0 {
			return nil, fmt.Errorf("partition %d has no replicas: %w", n, kerr.InvalidReplicaAssignment)
		}
		for i, r := range replicas {
			if _, ok := m.Broker(r); !ok {
				return nil, fmt.Errorf("The manual partition assignment includes broker %d, but no such broker is registered.: %w", r, kerr.InvalidReplicaAssignment)
			}
			if slices.Contains(replicas[:i], r) {
				return nil, fmt.Errorf("The manual partition assignment includes the broker %d more than once.: %w", r, kerr.InvalidReplicaAssignment)
			}
		}
		out[n-first] = replicas
	}
	for i := range out {
		if len(out[i]) != len(out[0]) {
			return nil, fmt.Errorf("The manual partition assignment gives partitions different replication factors.: %w", kerr.InvalidReplicaAssignment)
		}
	}
	return out, nil
}

// place stripes replicas over racks and brokers from a random start, as Kafka's StripedReplicaPlacer does: leaders
// are spread evenly, and a partition's replicas over racks. Fenced brokers get replicas only if there are fewer unfenced brokers
// than the replication factor.
func place(m *image.Image, partitions int, factor int16, seed uint64) ([][]int32, error) {
	racks := map[string][]int32{}
	var total int
	var fenced []int32
	m.Brokers(func(b *image.Broker) {
		if b.Fenced {
			fenced = append(fenced, b.ID)
			return
		}
		rack := ""
		if b.Rack != nil {
			rack = *b.Rack
		}
		racks[rack] = append(racks[rack], b.ID)
		total++
	})
	if factor <= 0 {
		return nil, fmt.Errorf("Replication factor must be larger than 0, or -1 to use the default value.: %w", kerr.InvalidReplicationFactor)
	}
	if registered := total + len(fenced); int(factor) > registered {
		return nil, fmt.Errorf("Unable to replicate the partition %d time(s): The target replication factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.: %w", factor, factor, registered, kerr.InvalidReplicationFactor)
	}
	if total == 0 {
		return nil, fmt.Errorf("Unable to replicate the partition %d time(s): All brokers are currently fenced or have all their log directories cordoned.: %w", factor, kerr.InvalidReplicationFactor)
	}
	names := make([]string, 0, len(racks))
	for r := range racks {
		names = append(names, r)
	}
	sort.Strings(names)
	rng := mrand.New(mrand.NewPCG(seed, 0))
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	// One ring in which neighbours are of different racks as far as sizes allow.
	var ring []int32
	start := make([]int, len(names))
	for i, r := range names {
		start[i] = rng.IntN(len(racks[r]))
	}
	for round := 0; len(ring) < total; round++ {
		for i, r := range names {
			if b := racks[r]; round < len(b) {
				ring = append(ring, b[(start[i]+round)%len(b)])
			}
		}
	}
	out := make([][]int32, partitions)
	for p := range out {
		shift := p / total // another set of followers each time round
		for i := range min(int(factor), total) {
			step := 0
			if i > 0 && total > 1 {
				step = 1 + (i-1+shift)%(total-1)
			}
			out[p] = append(out[p], ring[(p+step)%total])
		}
		for i := range int(factor) - len(out[p]) {
			out[p] = append(out[p], fenced[(p+i)%len(fenced)])
		}
	}
	return out, nil
}

// DeleteTopic decides on the removal of a topic.
func DeleteTopic(t *image.Topic) []*image.Record {
	return []*image.Record{{Kind: &image.Record_RemoveTopic{RemoveTopic: &image.RemoveTopicRecord{Id: t.ID[:]}}}}
}

// AddPartitions decides on growing a topic to count partitions, with an assignment for the new ones or nil.
func AddPartitions(m *image.Image, name string, count int32, assignment [][]int32, seed uint64) ([]*image.Record, error) {
	t, ok := m.Topic(name)
	if !ok {
		return nil, fmt.Errorf("topic '%s' does not exist: %w", name, kerr.UnknownTopicOrPartition)
	}
	have := int32(len(t.Partitions))
	switch {
	case count == have:
		return nil, fmt.Errorf("Topic already has %d partition(s).: %w", have, kerr.InvalidPartitions)
	case count < have:
		return nil, fmt.Errorf("The topic %s currently has %d partition(s); %d would not be an increase.: %w", name, have, count, kerr.InvalidPartitions)
	case count > maxPartitions:
		return nil, errTooManyPartitions
	}
	var placed [][]int32
	var err error
	if assignment != nil {
		if int32(len(assignment)) != count-have {
			return nil, fmt.Errorf("Attempted to add %d additional partition(s), but %d assignment(s) were specified.: %w", count-have, len(assignment), kerr.InvalidReplicaAssignment)
		}
		byNumber := map[int32][]int32{}
		for i, r := range assignment {
			byNumber[have+int32(i)] = r
		}
		placed, err = manualAssignment(m, byNumber, have)
	} else {
		placed, err = place(m, int(count-have), int16(len(t.Partitions[0].Replicas)), seed)
	}
	if err != nil {
		return nil, err
	}
	var records []*image.Record
	dirs := newDirectories(m)
	for i, replicas := range placed {
		p, err := newPartition(m, int(have)+i, replicas, dirs)
		if err != nil {
			return nil, err
		}
		records = append(records, image.NewPartition(t.ID, have+int32(i), p))
	}
	return records, nil
}

// InternalConfigs are the settings that an internal topic is created with, as Kafka's coordinators ask.
func InternalConfigs(topic string) map[string]*string {
	set := func(kv ...string) map[string]*string {
		c := map[string]*string{}
		for i := 0; i < len(kv); i += 2 {
			c[kv[i]] = &kv[i+1]
		}
		return c
	}
	switch topic {
	case "__consumer_offsets":
		return set("cleanup.policy", "compact", "segment.bytes", "104857600", "compression.type", "producer")
	case "__transaction_state":
		return set("cleanup.policy", "compact", "segment.bytes", "104857600", "compression.type", "uncompressed", "unclean.leader.election.enable", "false")
	}
	return set("cleanup.policy", "delete", "retention.ms", "-1", "segment.bytes", "104857600", "compression.type", "producer")
}

// FindTopic returns the topic of that name or, if name is nil, of that id.
func FindTopic(img *image.Image, name *string, id image.UUID) (*image.Topic, bool) {
	if name != nil {
		return img.Topic(*name)
	}
	return img.TopicByID(id)
}
