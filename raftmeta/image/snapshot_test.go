package image

import (
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kraft/wire/acl"
)

// TestSnapshotKeepsAll: an image that was made from a snapshot has everything that the other had. No field of what is in it is empty, so
// that one that is new and forgotten is noticed.
func TestSnapshotKeepsAll(t *testing.T) {
	rack, id := "r", UUID{7}
	b := &Broker{ID: 3, Incarnation: UUID{1}, Epoch: 12, Endpoints: []*Endpoint{{Listener: "PLAINTEXT", Host: "h", Port: 1}}, Rack: &rack, Fenced: true, InControlledShutdown: true,
		LogDirs: []UUID{{2}, {3}}, Scarce: []UUID{{2}, {3}}, Full: []UUID{{3}}, Features: map[string][2]int16{"f": {1, 2}}, Served: 11}
	p := &Partition{Replicas: []int32{3, 4}, ISR: []int32{3}, Leader: 3, LeaderEpoch: 5, PartitionEpoch: 6, Recovering: true, ELR: []int32{4}, LastKnownELR: []int32{5},
		Adding: []int32{4}, Removing: []int32{3}, Directories: []UUID{{2}, {9}}}
	c := &Controller{ID: 3, Member: "m", Address: "h:2"}
	token := &Token{ID: "i", Owner: "User:o", Requester: "User:q", Renewers: []string{"User:r"}, Issued: 1, Expires: 2, Limit: 3}
	for _, v := range []any{*b, *p, *c, *token} {
		for i := range reflect.TypeOf(v).NumField() {
			if reflect.ValueOf(v).Field(i).IsZero() {
				t.Errorf("%T.%s is empty: the test does not see whether a snapshot keeps it", v, reflect.TypeOf(v).Field(i).Name)
			}
		}
	}
	value := "v"
	m := Empty()
	records := []*Record{
		{Kind: &Record_Cluster{&ClusterRecord{ClusterId: "c", LastEpoch: 40, Secret: []byte{1}}}},
		{Kind: &Record_Feature{&FeatureRecord{Name: "metadata.version", Level: 30, Epoch: 2}}},
		Register(b), RegisterController(c), token.Record(),
		{Kind: &Record_Topic{&TopicRecord{Name: "t", Id: id[:]}}}, NewPartition(id, 0, p), NewPartition(id, 1, p),
		SetConfig(TopicResource, "t", "retention.ms", &value), SetConfig(BrokerResource, "", "k", &value), SetConfig(BrokerResource, "3", "k", &value),
		{Kind: &Record_ProducerIds{&ProducerIdsRecord{NextProducerId: 5000}}},
		{Kind: &Record_ClientQuota{&ClientQuotaRecord{Entity: []*QuotaEntity{{Type: "user", Name: &rack}}, Key: "producer_byte_rate", Value: 7}}},
		SetScram(&ScramCredential{User: "u", Mechanism: ScramSHA512, Salt: []byte{1}, StoredKey: []byte{2}, ServerKey: []byte{3}, Iterations: 4096}),
		AddACL(acl.Binding{Resource: acl.Topic, Pattern: acl.Literal, Name: "t", Principal: "User:u", Host: "*", Operation: acl.Read, Permission: acl.Allow}),
		AddACL(acl.Binding{Resource: acl.Group, Pattern: acl.Prefixed, Name: "g", Principal: "User:v", Host: "::1", Operation: acl.All, Permission: acl.Deny}),
	}
	kindOfRecord := (&Record{}).ProtoReflect().Descriptor().Oneofs().ByName("kind")
	kinds := map[protoreflect.Name]bool{"broker_change": true, "unregister_broker": true, "remove_topic": true, "partition_change": true} // snapshots have none of these
	for _, r := range records {
		m.Apply(r)
		kinds[r.ProtoReflect().WhichOneof(kindOfRecord).Name()] = true
	}
	for i := range kindOfRecord.Fields().Len() {
		if name := kindOfRecord.Fields().Get(i).Name(); !kinds[name] {
			t.Errorf("no record %s: the test does not see whether a snapshot keeps what it says", name)
		}
	}
	data, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	n, err := FromSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	kept := n.records()
	for _, r := range records {
		if !slices.ContainsFunc(kept, func(k *Record) bool { return proto.Equal(k, r) }) {
			t.Errorf("the snapshot forgets %v", r)
		}
	}
	if n.ClusterID != m.ClusterID || n.LastEpoch != m.LastEpoch || n.NextProducerID != m.NextProducerID || n.FeaturesEpoch != m.FeaturesEpoch || !reflect.DeepEqual(n.Features, m.Features) {
		t.Errorf("%+v, not %+v", n, m)
	}
	got, _ := n.Broker(3)
	got.Endpoints[0] = b.Endpoints[0] // a message has more fields than its own
	if !reflect.DeepEqual(got, b) {
		t.Errorf("%+v, not %+v", got, b)
	}
	if got, _ := n.Controller(3); !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, not %+v", got, c)
	}
	topic, _ := n.Topic("t")
	if topic == nil || topic.ID != id || len(topic.Partitions) != 2 || !reflect.DeepEqual(topic.Partitions[1], p) {
		t.Errorf("%+v, not two of %+v", topic, p)
	}
	for kind, names := range map[int8][]string{TopicResource: {"t"}, BrokerResource: {"", "3"}} {
		for _, name := range names {
			if !reflect.DeepEqual(n.Config(kind, name), m.Config(kind, name)) || len(n.Config(kind, name)) != 1 {
				t.Errorf("%d %q: %v", kind, name, n.Config(kind, name))
			}
		}
	}
	if got, _ := n.Token("i"); !reflect.DeepEqual(got, token) {
		t.Errorf("%+v, not %+v", got, token)
	}
}
