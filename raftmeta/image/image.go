// Package image holds the cluster's metadata as an immutable value, the records that change it, and
// what changed between two images. It is pure data: no I/O, no clocks, no goroutines.
package image

//go:generate protoc --go_out=. --go_opt=paths=source_relative records.proto

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	"kraft/wire/acl"
)

// NoLeader is the leader of a partition that has none.
const NoLeader = -1

// Image is all of the cluster's metadata at one point of its log. Whoever holds an *Image may read it
// for ever; only the goroutine that made a copy by Copy may apply records to it, until it hands it on.
type Image struct {
	ClusterID      string
	Secret         []byte // random bytes that only nodes know; nil in a cluster that is older
	Features       map[string]int16
	NextProducerID int64
	LastEpoch      int64 // the newest broker epoch given out
	FeaturesEpoch  int64 // one more with each change of Features

	brokers *btree.Map[int32, *Broker]
	topics  *btree.Map[string, *Topic]    // by name
	byID    *btree.Map[string, *Topic]    // by id
	configs *btree.Map[string, ConfigMap] // by ConfigResource.key
	voters  *btree.Map[int32, *Controller]
	quotas  *btree.Map[string, *Quota]           // by quotaKey
	scram   *btree.Map[string, *ScramCredential] // by scramKey
	acls    *acl.Rules
	tokens  *btree.Map[string, *Token] // by id

	// Topics that no other image shares, since the last Copy: many changes to one topic copy it once.
	own map[UUID]*Topic
}

// Broker is a registered broker.
type Broker struct {
	ID                   int32
	Incarnation          UUID
	Epoch                int64
	Endpoints            []*Endpoint
	Rack                 *string
	Fenced               bool
	InControlledShutdown bool
	LogDirs              []UUID              // those that work
	Scarce, Full         []UUID              // of LogDirs, those without room for producers' records, and those without any; Full is part of Scarce
	Features             map[string][2]int16 // levels that it supports
	Served               int64               // its newest epoch in which it was not fenced, 0 if none
}

// HasOnlineDir says that a directory is one of those that work. A replica without a directory has all its
// life before it, and a broker that named none has but one.
func (b *Broker) HasOnlineDir(id UUID) bool {
	return id == Unassigned || len(b.LogDirs) == 0 || slices.Contains(b.LogDirs, id)
}

// HasRoom reports whether records of a topic can be written to one of the broker's log directories: it works, and there is room. Records
// of internal topics may use more of a disk than producers' may. A replica without a directory is in the only one, or can still be put
// anywhere.
func (b *Broker) HasRoom(id UUID, internal bool) bool {
	if id == Unassigned && len(b.LogDirs) == 1 {
		id = b.LogDirs[0]
	}
	return b.HasOnlineDir(id) && !slices.Contains(b.Full, id) && (internal || !slices.Contains(b.Scarce, id))
}

// Endpoint returns the broker's address on the named listener.
func (b *Broker) Endpoint(listener string) (*Endpoint, bool) {
	for _, e := range b.Endpoints {
		if e.Listener == listener {
			return e, true
		}
	}
	return nil, false
}

// Address is the endpoint as host:port.
func (x *Endpoint) Address() string { return net.JoinHostPort(x.Host, strconv.Itoa(int(x.Port))) }

// QuorumTopic is what the protocol calls the quorum's log, and where an Apache Kafka that had the log directories before keeps its metadata.
const QuorumTopic = "__cluster_metadata"

// Topic is a topic with its partitions by number.
type Topic struct {
	Name       string
	ID         UUID
	Partitions []*Partition
}

// Partition finds a partition by its number; of no topic, nil, it finds none.
func (t *Topic) Partition(n int32) (*Partition, bool) {
	if t == nil || n < 0 || int(n) >= len(t.Partitions) {
		return nil, false
	}
	return t.Partitions[n], true
}

// Partition is one partition's assignment and leadership (Kafka's PartitionRegistration).
type Partition struct {
	Replicas       []int32
	ISR            []int32
	Leader         int32
	LeaderEpoch    int32
	PartitionEpoch int32
	Recovering     bool    // elected uncleanly, and not said to have recovered
	ELR            []int32 // eligible leader replicas: they have everything, though not in the ISR (KIP-966)
	LastKnownELR   []int32
	Adding         []int32 // replicas of a reassignment
	Removing       []int32
	Directories    []UUID // beside Replicas, the log directories they are in; empty where none is known (KIP-858)
}

// Unassigned is the directory of a replica that is in none yet (Kafka's DirectoryId.UNASSIGNED).
var Unassigned UUID

// Directory is the log directory of a broker's replica, Unassigned while there is none.
func (p *Partition) Directory(broker int32) UUID {
	if i := slices.Index(p.Replicas, broker); i >= 0 && i < len(p.Directories) {
		return p.Directories[i]
	}
	return Unassigned
}

// ReplicaOnline says that a broker's replica can serve: the broker is not fenced, and the replica's log
// directory works.
func (m *Image) ReplicaOnline(p *Partition, broker int32) bool {
	b, ok := m.Broker(broker)
	return ok && !b.Fenced && b.HasOnlineDir(p.Directory(broker))
}

// Resource types of configurations, as in the protocol.
const (
	TopicResource         = 2
	BrokerLoggerResource  = 8
	ClientMetricsResource = 16
	GroupResource         = 32
	BrokerResource        = 4
)

// ConfigMap is one resource's dynamic configuration. It is never changed in place.
type ConfigMap map[string]string

// Empty is the image before any record.
func Empty() *Image {
	return &Image{
		Features: map[string]int16{},
		brokers:  btree.NewMap[int32, *Broker](0),
		topics:   btree.NewMap[string, *Topic](0),
		byID:     btree.NewMap[string, *Topic](0),
		configs:  btree.NewMap[string, ConfigMap](0),
		voters:   btree.NewMap[int32, *Controller](0),
		quotas:   btree.NewMap[string, *Quota](0),
		scram:    btree.NewMap[string, *ScramCredential](0),
		acls:     acl.NewRules(),
		tokens:   btree.NewMap[string, *Token](0),
	}
}

// Copy returns an image that may be changed without changing the original; both share what stays the same. Copy marks the original's maps
// as shared, so only one goroutine at a time may copy an image, or apply records to it; others may read it meanwhile.
func (m *Image) Copy() *Image {
	m.own = nil
	c := *m
	c.brokers, c.topics, c.byID, c.configs, c.voters, c.quotas, c.scram = m.brokers.Copy(), m.topics.Copy(), m.byID.Copy(), m.configs.Copy(), m.voters.Copy(), m.quotas.Copy(), m.scram.Copy()
	c.acls, c.tokens = m.acls.Copy(), m.tokens.Copy()
	return &c
}

// Topic finds a topic by name.
func (m *Image) Topic(name string) (*Topic, bool) { return m.topics.Get(name) }

// TopicByID finds a topic by id.
func (m *Image) TopicByID(id UUID) (*Topic, bool) { return m.byID.Get(string(id[:])) }

// Topics calls each with every topic in the order of names from the given one on, until it returns
// false.
func (m *Image) Topics(from string, each func(*Topic) bool) {
	m.topics.Ascend(from, func(_ string, t *Topic) bool { return each(t) })
}

// TopicCount is the number of topics.
func (m *Image) TopicCount() int { return m.topics.Len() }

// Broker finds a registered broker.
func (m *Image) Broker(id int32) (*Broker, bool) { return m.brokers.Get(id) }

// Brokers calls each with every registered broker by id.
func (m *Image) Brokers(each func(*Broker)) {
	m.brokers.Scan(func(_ int32, b *Broker) bool { each(b); return true })
}

// Controller is a member of the metadata quorum that has said who it is.
type Controller struct {
	ID      int32
	Member  string // of its metadata file
	Address string // host:port
}

// Controller finds a member of the quorum.
func (m *Image) Controller(id int32) (*Controller, bool) { return m.voters.Get(id) }

// Controllers calls each with every known member of the quorum by id.
func (m *Image) Controllers(each func(*Controller)) {
	m.voters.Scan(func(_ int32, c *Controller) bool { each(c); return true })
}

// ActiveBrokers lists the ids of brokers that are not fenced.
func (m *Image) ActiveBrokers() []int32 {
	var ids []int32
	m.Brokers(func(b *Broker) {
		if !b.Fenced {
			ids = append(ids, b.ID)
		}
	})
	return ids
}

// Config returns the dynamic configuration of a resource; the name "" of a broker is the cluster's
// default. The map must not be changed.
func (m *Image) Config(resourceType int8, name string) ConfigMap {
	c, _ := m.configs.Get(configKey(resourceType, name))
	return c
}

// ConfigResources are the names of the resources of a type that have a configuration, in order.
func (m *Image) ConfigResources(resourceType int8) (names []string) {
	m.configs.Ascend(configKey(resourceType, ""), func(key string, _ ConfigMap) bool {
		if int8(key[0]) != resourceType {
			return false
		}
		names = append(names, key[1:])
		return true
	})
	return names
}

func configKey(resourceType int8, name string) string { return string(rune(resourceType)) + name }

// Apply changes the image by a record. It cannot fail: records of kinds from a newer version, and
// changes to what is gone, are passed over on every node alike.
func (m *Image) Apply(r *Record) {
	switch k := r.Kind.(type) {
	case *Record_Cluster:
		m.ClusterID, m.LastEpoch = k.Cluster.ClusterId, max(m.LastEpoch, k.Cluster.LastEpoch)
		if len(k.Cluster.Secret) > 0 {
			m.Secret = k.Cluster.Secret
		}
	case *Record_Feature:
		features := make(map[string]int16, len(m.Features)+1)
		for n, l := range m.Features {
			features[n] = l
		}
		features[k.Feature.Name] = int16(k.Feature.Level)
		if k.Feature.Level == 0 {
			delete(features, k.Feature.Name)
		}
		m.Features, m.FeaturesEpoch = features, max(m.FeaturesEpoch, k.Feature.Epoch)
	case *Record_RegisterBroker:
		m.registerBroker(k.RegisterBroker)
	case *Record_BrokerChange:
		m.changeBroker(k.BrokerChange)
	case *Record_UnregisterBroker:
		if b, ok := m.brokers.Get(k.UnregisterBroker.Id); ok && b.Epoch == k.UnregisterBroker.Epoch {
			m.brokers.Delete(b.ID)
		}
	case *Record_Topic:
		m.forgetTopic(m.topics.Get(k.Topic.Name))
		m.forgetTopic(m.byID.Get(string(k.Topic.Id)))
		m.setTopic(&Topic{Name: k.Topic.Name, ID: UUID(k.Topic.Id)})
	case *Record_RemoveTopic:
		if t, ok := m.TopicByID(UUID(k.RemoveTopic.Id)); ok {
			m.forgetTopic(t, ok)
			m.configs.Delete(configKey(TopicResource, t.Name))
		}
	case *Record_Partition:
		m.setPartition(k.Partition)
	case *Record_PartitionChange:
		m.changePartition(k.PartitionChange)
	case *Record_Config:
		m.setConfig(k.Config)
	case *Record_ClientQuota:
		m.setQuota(k.ClientQuota)
	case *Record_ScramCredential:
		m.setScram(k.ScramCredential)
	case *Record_Acl:
		m.setACL(k.Acl)
	case *Record_DelegationToken:
		m.setToken(k.DelegationToken)
	case *Record_ProducerIds:
		m.NextProducerID = k.ProducerIds.NextProducerId
	case *Record_Controller:
		if k.Controller.Gone {
			m.voters.Delete(k.Controller.Id)
		} else {
			m.voters.Set(k.Controller.Id, &Controller{ID: k.Controller.Id, Member: k.Controller.Member, Address: k.Controller.Address})
		}
	}
}

func (m *Image) registerBroker(r *RegisterBrokerRecord) {
	b := &Broker{ID: r.Id, Incarnation: UUID(r.Incarnation), Epoch: r.Epoch, Endpoints: r.Endpoints, Fenced: r.Fenced, InControlledShutdown: r.InControlledShutdown, Served: r.Served}
	if r.HasRack {
		b.Rack = &r.Rack
	}
	b.LogDirs, b.Scarce, b.Full = toUUIDs(r.LogDirs), toUUIDs(r.ScarceDirs), toUUIDs(r.FullDirs)
	b.Features = make(map[string][2]int16, len(r.Features))
	for name, f := range r.Features {
		b.Features[name] = [2]int16{int16(f.Min), int16(f.Max)}
	}
	m.brokers.Set(b.ID, b)
	m.LastEpoch = max(m.LastEpoch, r.Epoch)
}

func (m *Image) changeBroker(r *BrokerChangeRecord) {
	old, ok := m.brokers.Get(r.Id)
	if !ok || old.Epoch != r.Epoch {
		return
	}
	b := *old
	if r.Fenced != nil {
		if b.Fenced = *r.Fenced; !b.Fenced {
			b.Served = b.Epoch
		}
	}
	if r.InControlledShutdown != nil {
		b.InControlledShutdown = *r.InControlledShutdown
	}
	if r.LogDirs != nil {
		b.LogDirs = toUUIDs(r.LogDirs.Ids)
	}
	if r.ScarceDirs != nil {
		b.Scarce, b.Full = toUUIDs(r.ScarceDirs.Ids), toUUIDs(r.FullDirs.GetIds())
	}
	m.brokers.Set(b.ID, &b)
}

func (m *Image) setTopic(t *Topic) {
	m.topics.Set(t.Name, t)
	m.byID.Set(string(t.ID[:]), t)
}

// forgetTopic removes a topic, if there is one.
func (m *Image) forgetTopic(t *Topic, ok bool) {
	if ok {
		m.topics.Delete(t.Name)
		m.byID.Delete(string(t.ID[:]))
		delete(m.own, t.ID)
	}
}

// ownTopic returns a topic that may be changed in place.
func (m *Image) ownTopic(id UUID) (*Topic, bool) {
	if t, ok := m.own[id]; ok {
		return t, true
	}
	old, ok := m.TopicByID(id)
	if !ok {
		return nil, false
	}
	t := *old
	t.Partitions = slices.Clone(old.Partitions)
	m.setTopic(&t)
	if m.own == nil {
		m.own = map[UUID]*Topic{}
	}
	m.own[id] = &t
	return &t, true
}

func (m *Image) setPartition(r *PartitionRecord) {
	t, ok := m.ownTopic(UUID(r.TopicId))
	if !ok || r.Partition < 0 || int(r.Partition) > len(t.Partitions) { // they are made in order: none is missing in between
		return
	}
	p := &Partition{Replicas: r.Replicas, ISR: r.Isr, Leader: r.Leader, LeaderEpoch: r.LeaderEpoch, PartitionEpoch: r.PartitionEpoch, Directories: toUUIDs(r.Directories),
		Recovering: r.Recovering, ELR: r.Elr, LastKnownELR: r.LastKnownElr, Adding: r.Adding, Removing: r.Removing}
	if int(r.Partition) == len(t.Partitions) {
		t.Partitions = append(t.Partitions, p)
	} else {
		t.Partitions[r.Partition] = p
	}
}

func (m *Image) changePartition(r *PartitionChangeRecord) {
	t, ok := m.ownTopic(UUID(r.TopicId))
	if !ok || r.Partition < 0 || int(r.Partition) >= len(t.Partitions) {
		return
	}
	p := *t.Partitions[r.Partition]
	p.PartitionEpoch++
	if r.Isr != nil {
		p.ISR = r.Isr.Ids
	}
	if r.Leader != nil {
		p.Leader = *r.Leader
		p.LeaderEpoch++
	}
	if len(r.Directories) > 0 {
		p.Directories = toUUIDs(r.Directories)
	}
	if r.Recovering != nil {
		p.Recovering = *r.Recovering
	}
	for _, f := range []struct {
		to   *[]int32
		from *Replicas
	}{{&p.Replicas, r.Replicas}, {&p.ELR, r.Elr}, {&p.LastKnownELR, r.LastKnownElr}, {&p.Adding, r.Adding}, {&p.Removing, r.Removing}} {
		if f.from != nil {
			*f.to = f.from.Ids
		}
	}
	t.Partitions[r.Partition] = &p
}

func (m *Image) setConfig(r *ConfigRecord) {
	key := configKey(int8(r.ResourceType), r.ResourceName)
	old, _ := m.configs.Get(key)
	c := make(ConfigMap, len(old)+1)
	for k, v := range old {
		c[k] = v
	}
	if r.Value == nil {
		delete(c, r.Key)
	} else {
		c[r.Key] = *r.Value
	}
	if len(c) == 0 {
		m.configs.Delete(key)
		return
	}
	m.configs.Set(key, c)
}

// Snapshot encodes the image as the batch of records that makes it.
func (m *Image) Snapshot() ([]byte, error) { return proto.Marshal(&Batch{Records: m.records()}) }

// FromSnapshot is the inverse of Snapshot.
func FromSnapshot(data []byte) (*Image, error) {
	var b Batch
	if err := proto.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("metadata snapshot: %w", err)
	}
	m := Empty()
	for _, r := range b.Records {
		m.Apply(r)
	}
	return m, nil
}

func (m *Image) records() []*Record {
	var out []*Record
	if m.ClusterID != "" {
		out = append(out, &Record{Kind: &Record_Cluster{&ClusterRecord{ClusterId: m.ClusterID, LastEpoch: m.LastEpoch, Secret: m.Secret}}})
	}
	for name, level := range m.Features {
		out = append(out, &Record{Kind: &Record_Feature{&FeatureRecord{Name: name, Level: int32(level), Epoch: m.FeaturesEpoch}}})
	}
	m.Quotas(func(q *Quota) { out = append(out, q.records()...) })
	m.ScramCredentials("", func(c *ScramCredential) bool {
		out = append(out, c.record(false))
		return true
	})
	m.acls.Each(func(b acl.Binding) bool {
		out = append(out, AddACL(b))
		return true
	})
	m.Tokens(func(t *Token) bool {
		out = append(out, t.Record())
		return true
	})
	m.Brokers(func(b *Broker) {
		out = append(out, Register(b))
	})
	m.Controllers(func(c *Controller) { out = append(out, RegisterController(c)) })
	m.Topics("", func(t *Topic) bool {
		out = append(out, &Record{Kind: &Record_Topic{&TopicRecord{Name: t.Name, Id: t.ID[:]}}})
		for i, p := range t.Partitions {
			out = append(out, NewPartition(t.ID, int32(i), p))
		}
		return true
	})
	m.configs.Scan(func(key string, c ConfigMap) bool {
		for k, v := range c {
			out = append(out, SetConfig(int8(key[0]), key[1:], k, &v))
		}
		return true
	})
	if m.NextProducerID > 0 {
		out = append(out, &Record{Kind: &Record_ProducerIds{&ProducerIdsRecord{NextProducerId: m.NextProducerID}}})
	}
	return out
}

// Register makes the record that registers b.
func Register(b *Broker) *Record {
	r := &RegisterBrokerRecord{Id: b.ID, Incarnation: b.Incarnation[:], Epoch: b.Epoch, Endpoints: b.Endpoints, Fenced: b.Fenced, InControlledShutdown: b.InControlledShutdown, Served: b.Served}
	if b.Rack != nil {
		r.Rack, r.HasRack = *b.Rack, true
	}
	r.LogDirs, r.ScarceDirs, r.FullDirs = FromUUIDs(b.LogDirs), FromUUIDs(b.Scarce), FromUUIDs(b.Full)
	r.Features = make(map[string]*FeatureRange, len(b.Features))
	for name, f := range b.Features {
		r.Features[name] = &FeatureRange{Min: int32(f[0]), Max: int32(f[1])}
	}
	return &Record{Kind: &Record_RegisterBroker{r}}
}

func toUUIDs(raw [][]byte) []UUID {
	if len(raw) == 0 {
		return nil
	}
	ids := make([]UUID, len(raw))
	for i, r := range raw {
		copy(ids[i][:], r)
	}
	return ids
}

// FromUUIDs is the form that ids have in records.
func FromUUIDs(ids []UUID) [][]byte {
	var raw [][]byte
	for i := range ids {
		raw = append(raw, ids[i][:])
	}
	return raw
}

// RegisterController makes the record of a member of the quorum.
func RegisterController(c *Controller) *Record {
	return &Record{Kind: &Record_Controller{&ControllerRecord{Id: c.ID, Member: c.Member, Address: c.Address}}}
}

// NewPartition makes the record of a whole partition.
func NewPartition(topic UUID, n int32, p *Partition) *Record {
	return &Record{Kind: &Record_Partition{&PartitionRecord{
		TopicId: topic[:], Partition: n, Replicas: p.Replicas, Isr: p.ISR,
		Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Directories: FromUUIDs(p.Directories),
		Recovering: p.Recovering, Elr: p.ELR, LastKnownElr: p.LastKnownELR, Adding: p.Adding, Removing: p.Removing,
	}}}
}

// SetConfig makes the record that sets a key of a resource's configuration, or removes it for nil.
func SetConfig(resourceType int8, name, key string, value *string) *Record {
	return &Record{Kind: &Record_Config{&ConfigRecord{ResourceType: int32(resourceType), ResourceName: name, Key: key, Value: value}}}
}
