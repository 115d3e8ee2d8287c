package scripts

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
)

// What follows is records of __consumer_offsets and __transaction_state as JSON, as Kafka's message formatters and dump-log have
// them: {"type" or "version":..., "data":{...}}. Types are those of keys. dump-log has both as text, and what members say decoded.

type typed struct {
	Type any `json:"type"`
	Data any `json:"data"`
}

type versioned struct {
	Version any `json:"version"`
	Data    any `json:"data"`
}

// Types of keys in __consumer_offsets.
const (
	offsetKey = 1 // and 0
	groupKey  = 2
)

type offsetKeyData struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

type offsetValueData struct {
	Offset          int64   `json:"offset"`
	LeaderEpoch     *int32  `json:"leaderEpoch,omitempty"`
	Metadata        string  `json:"metadata"`
	CommitTimestamp int64   `json:"commitTimestamp"`
	ExpireTimestamp *int64  `json:"expireTimestamp,omitempty"`
	TopicID         *string `json:"topicId,omitempty"`
}

type groupKeyData struct {
	Group string `json:"group"`
}

type groupValueData struct {
	ProtocolType          string        `json:"protocolType"`
	Generation            int32         `json:"generation"`
	Protocol              *string       `json:"protocol"`
	Leader                *string       `json:"leader"`
	CurrentStateTimestamp *int64        `json:"currentStateTimestamp,omitempty"`
	Members               []groupMember `json:"members"`
}

type groupMember struct {
	MemberID         string  `json:"memberId"`
	GroupInstanceID  *string `json:"groupInstanceId"`
	ClientID         string  `json:"clientId"`
	ClientHost       string  `json:"clientHost"`
	RebalanceTimeout int32   `json:"rebalanceTimeout"`
	SessionTimeout   int32   `json:"sessionTimeout"`
	Subscription     any     `json:"subscription"`
	Assignment       any     `json:"assignment"`
}

type topicPartitions struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

type subscriptionData struct {
	Topics          []string          `json:"topics"`
	UserData        *string           `json:"userData"`
	OwnedPartitions []topicPartitions `json:"ownedPartitions"`
	GenerationID    int32             `json:"generationId"`
	RackID          *string           `json:"rackId"`
}

type assignmentData struct {
	AssignedPartitions []topicPartitions `json:"assignedPartitions"`
	UserData           *string           `json:"userData"`
}

func asJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// groupRecordText is a record of __consumer_offsets. What it cannot read is told as Kafka tells it.
func groupRecordText(key, value []byte) (string, string) {
	k, v := groupRecord(key, value, true)
	return textOf(k, v)
}

// textOf is a record for dump-log; k is nil for one that cannot be read.
func textOf(k *typed, v *versioned) (string, string) {
	if k == nil {
		return "<UNKNOWN>", "<UNKNOWN>"
	}
	k.Type = fmt.Sprint(k.Type)
	if v != nil {
		v.Version = fmt.Sprint(v.Version)
	}
	return asJSON(k), asJSON(v)
}

// groupRecord reads a record of __consumer_offsets, and if members is set what members say of themselves. It returns nil for what it
// cannot read, and no value for a tombstone.
func groupRecord(key, value []byte, members bool) (*typed, *versioned) {
	if len(key) < 2 {
		return nil, nil
	}
	kind := int16(binary.BigEndian.Uint16(key))
	k := &typed{Type: kind}
	var err error
	switch {
	case kind <= offsetKey && kind >= 0:
		var m kmsg.OffsetCommitKey
		err = m.ReadFrom(key)
		k.Data = offsetKeyData{m.Group, m.Topic, m.Partition}
	case kind == groupKey:
		var m kmsg.GroupMetadataKey
		err = m.ReadFrom(key)
		k.Data = groupKeyData{m.Group}
	default:
		return nil, nil
	}
	if err != nil {
		return nil, nil
	}
	if len(value) < 2 {
		return k, nil
	}
	v := &versioned{Version: binary.BigEndian.Uint16(value)}
	if kind == groupKey {
		v.Data, err = groupValue(value, members)
	} else {
		v.Data, err = offsetValue(value)
	}
	if err != nil {
		return nil, nil
	}
	return k, v
}

func offsetValue(value []byte) (any, error) {
	var m kmsg.OffsetCommitValue
	if err := m.ReadFrom(value); err != nil {
		return nil, err
	}
	d := offsetValueData{Offset: m.Offset, Metadata: m.Metadata, CommitTimestamp: m.CommitTimestamp}
	if m.Version >= 3 {
		d.LeaderEpoch = &m.LeaderEpoch
	}
	if m.Version == 1 {
		d.ExpireTimestamp = &m.ExpireTimestamp
	}
	if m.Version >= 4 {
		id := image.EncodeUUID(m.TopicID)
		d.TopicID = &id
	}
	return d, nil
}

func groupValue(value []byte, members bool) (any, error) {
	var m kmsg.GroupMetadataValue
	if err := m.ReadFrom(value); err != nil {
		return nil, err
	}
	d := groupValueData{ProtocolType: m.ProtocolType, Generation: m.Generation, Protocol: m.Protocol, Leader: m.Leader, Members: []groupMember{}}
	if m.Version >= 2 {
		d.CurrentStateTimestamp = &m.CurrentStateTimestamp
	}
	for _, x := range m.Members {
		member := groupMember{x.MemberID, x.InstanceID, x.ClientID, x.ClientHost, x.RebalanceTimeoutMillis, x.SessionTimeoutMillis, base64Text(x.Subscription), base64Text(x.Assignment)}
		if members && m.ProtocolType == "consumer" {
			if s, ok := subscription(x.Subscription); ok {
				member.Subscription = s
			}
			if a, ok := assigned(x.Assignment); ok {
				member.Assignment = a
			}
		}
		d.Members = append(d.Members, member)
	}
	return d, nil
}

func base64Text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return &s
}

func subscription(b []byte) (out subscriptionData, ok bool) {
	var m kmsg.ConsumerMemberMetadata
	if m.ReadFrom(b) != nil {
		return out, false
	}
	out = subscriptionData{Topics: m.Topics, UserData: base64Text(m.UserData), OwnedPartitions: []topicPartitions{}, GenerationID: -1, RackID: m.Rack}
	if m.Version >= 2 {
		out.GenerationID = m.Generation
	}
	for _, p := range m.OwnedPartitions {
		out.OwnedPartitions = append(out.OwnedPartitions, topicPartitions{p.Topic, p.Partitions})
	}
	return out, true
}

func assigned(b []byte) (out assignmentData, ok bool) {
	var m kmsg.ConsumerMemberAssignment
	if m.ReadFrom(b) != nil {
		return out, false
	}
	out = assignmentData{[]topicPartitions{}, base64Text(m.UserData)}
	for _, p := range m.Topics {
		out.AssignedPartitions = append(out.AssignedPartitions, topicPartitions{p.Topic, p.Partitions})
	}
	return out, true
}

type transactionKeyData struct {
	TransactionalID string `json:"transactionalId"`
}

type transactionValueData struct {
	ProducerID    int64                  `json:"producerId"`
	PreviousID    *int64                 `json:"previousProducerId,omitempty"`
	NextID        *int64                 `json:"nextProducerId,omitempty"`
	ProducerEpoch int16                  `json:"producerEpoch"`
	Timeout       int32                  `json:"transactionTimeoutMs"`
	Status        string                 `json:"transactionStatus"`
	Partitions    []transactionPartition `json:"transactionPartitions"`
	LastUpdate    int64                  `json:"transactionLastUpdateTimestampMs"`
	Start         int64                  `json:"transactionStartTimestampMs"`
	ClientVersion int16                  `json:"clientTransactionVersion,omitempty"`
}

type transactionPartition struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitionIds"`
}

// transactionRecordText is a record of __transaction_state.
func transactionRecordText(key, value []byte) (string, string) {
	return textOf(transactionRecord(key, value))
}

func transactionRecord(key, value []byte) (*typed, *versioned) {
	var k kmsg.TxnMetadataKey
	if k.ReadFrom(key) != nil {
		return nil, nil
	}
	t := &typed{k.Version, transactionKeyData{k.TransactionalID}}
	if len(value) < 2 {
		return t, nil
	}
	var v kmsg.TxnMetadataValue
	if v.ReadFrom(value) != nil {
		return nil, nil
	}
	d := transactionValueData{ProducerID: v.ProducerID, ProducerEpoch: v.ProducerEpoch, Timeout: v.TimeoutMillis, Status: v.State.String(),
		LastUpdate: v.LastUpdateTimestamp, Start: v.StartTimestamp, ClientVersion: v.ClientTransactionVersion}
	if v.PreviousProducerID >= 0 {
		d.PreviousID = &v.PreviousProducerID
	}
	if v.NextProducerID >= 0 {
		d.NextID = &v.NextProducerID
	}
	if v.Topics != nil {
		d.Partitions = []transactionPartition{}
	}
	for _, p := range v.Topics {
		d.Partitions = append(d.Partitions, transactionPartition{p.Topic, p.Partitions})
	}
	return t, &versioned{v.Version, d}
}

// formatters are Kafka's of records (--formatter), by the names of their classes without packages.
var formatters = map[string]func(io.Writer, *kgo.Record){
	"NoOpMessageFormatter":          func(io.Writer, *kgo.Record) {},
	"OffsetsMessageFormatter":       ofGroups(func(kind int16) bool { return kind <= offsetKey }),
	"GroupMetadataMessageFormatter": ofGroups(func(kind int16) bool { return kind == groupKey }),
	"TransactionLogMessageFormatter": func(w io.Writer, r *kgo.Record) {
		writeInternal(w)(transactionRecord(r.Key, r.Value))
	},
}

// ofGroups writes records of __consumer_offsets whose keys are of some type.
func ofGroups(wanted func(kind int16) bool) func(io.Writer, *kgo.Record) {
	return func(w io.Writer, r *kgo.Record) {
		k, v := groupRecord(r.Key, r.Value, false)
		if k != nil && wanted(k.Type.(int16)) {
			writeInternal(w)(k, v)
		}
	}
}

// writeInternal writes a record as Kafka's formatters do, without the end of a line.
func writeInternal(w io.Writer) func(*typed, *versioned) {
	return func(k *typed, v *versioned) {
		if k == nil {
			return
		}
		fmt.Fprint(w, asJSON(struct {
			Key   *typed     `json:"key"`
			Value *versioned `json:"value"`
		}{k, v}))
	}
}

// formatter is what --formatter asks for: the default one is by properties.
func (c *call) formatter() (func(io.Writer, *kgo.Record), error) {
	class := c.get("formatter", "")
	name := class[strings.LastIndex(class, ".")+1:]
	if name == "" || name == "DefaultMessageFormatter" || name == "LoggingMessageFormatter" {
		properties, err := c.properties("formatter-property")
		return newRecordFormat(properties).write, err
	}
	if f := formatters[name]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("%s is a Java class, which kraft does not load: --formatter takes DefaultMessageFormatter, %s", class, strings.Join(slices.Sorted(maps.Keys(formatters)), ", "))
}
