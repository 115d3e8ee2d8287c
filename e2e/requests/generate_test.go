package requests

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Names and ids in generated requests are symbols, since each try has names of its own and each server gives ids of its own. world replaces
// them: T1 is a topic of two partitions with three records in its first, T2 one of one empty partition, Tx and Ty are not there unless a
// request of the try makes them; G1 and G2 are groups, X1 and X2 transactional ids; M1 and M2 are the members that were named first and second.
var symbols = []string{"T1", "T2", "Tx", "Ty", "G1", "G2", "M1", "M2", "X1", "X2"}

// id is the symbol of an id: of a topic's, or of a telemetry client's.
func id(what string) (out [16]byte) {
	out[0] = 0xff
	copy(out[1:], what)
	return out
}

var noID, otherID = [16]byte{}, [16]byte{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0x4d, 0xef, 0x81, 1, 2, 3, 4, 5, 6, 7}

const (
	firstProducer = int64(1)<<61 + 1 // the producer id that was given first
	firstSession  = int32(0x5e550001)
)

// choice is what a field is filled with: mostly the usual.
type choice struct{ usual, odd []any }

func usually(values ...any) *choice        { return &choice{usual: values} }
func (c *choice) oddly(odd ...any) *choice { c.odd = odd; return c }

var (
	topicName  = usually("T1").oddly("Tx", "T2", "", "bad/name", "..", "__consumer_offsets", "__cluster_metadata", strings.Repeat("a", 250))
	topicID    = usually(id("T1")).oddly(id("T2"), noID, otherID)
	partition  = usually(0).oddly(1, 2, -1, math.MaxInt32)
	partitions = usually([]int32{0}, []int32{0, 1}).oddly([]int32{}, nil, []int32{0, 0}, []int32{2}, []int32{-1}, []int32{math.MaxInt32})
	groupName  = usually("G1").oddly("G2", "")
	memberID   = usually("M1").oddly("", "M2", "nobody")
	instance   = usually(nil).oddly("", "i1", "i2")
	generation = usually(1).oddly(-1, 0, 2, math.MaxInt32)
	settings   = usually("retention.ms", "cleanup.policy", "max.message.bytes").oddly("", "no.such.setting", "log.retention.ms")
	replicas   = usually([]int32{1}).oddly([]int32{}, nil, []int32{1, 1}, []int32{2}, []int32{1, 2}, []int32{-1})
	timeout    = usually(1000).oddly(0, -1, math.MaxInt32)

	aclOperation = usually(3, 8).oddly(0, 1, 2, 9, 12, 15, 16, -1)
)

// choices are by the end of a field's path.
var choices = map[string]*choice{
	"Topic": topicName, "TopicID": topicID, "Partition": partition, "Partitions": partitions, "Group": groupName,
	"MemberID": memberID, "InstanceID": instance, "Generation": generation, "TimeoutMillis": timeout,
	"ReplicaID": usually(-1).oddly(-2, 0, 1, 2, math.MaxInt32), "CurrentLeaderEpoch": usually(-1).oddly(0, 1, -2, math.MaxInt32),
	"Groups": usually([]string{"G1"}).oddly([]string{}, nil, []string{""}, []string{"G1", "G1"}, []string{"G1", "G2"}),
	"Rack":   usually("").oddly("r"),
	"Reason": usually(nil).oddly("", "why"),

	"Produce.TransactionID": usually(nil).oddly(""), "Acks": usually(-1).oddly(0, 1, 2, -2),
	"Records": usually("batch").oddly(nil, "", "garbage", "two batches", "old", "producer", "sequence 5"),

	"Mechanism": usually("PLAIN").oddly("", "SCRAM-SHA-256"), "SASLAuthBytes": usually("").oddly("garbage"),
	"ApiVersions.ClusterID": usually(nil).oddly("x"), "ApiVersions.NodeID": usually(-1).oddly(0, 1),

	"Fetch.ClusterID": usually(nil), "ReplicaState.ID": usually(-1).oddly(1, 2), "ReplicaState.Epoch": usually(-1).oddly(0, 5),
	"MaxWaitMillis": usually(50).oddly(0, -1), "MinBytes": usually(1, 0).oddly(-1, math.MaxInt32, 1000),
	"MaxBytes": usually(1<<20).oddly(0, 1, -1, math.MaxInt32), "IsolationLevel": usually(0, 1).oddly(2, -1),
	"SessionID": usually(0).oddly(firstSession, 1, -1), "SessionEpoch": usually(-1).oddly(0, 1, 2, -2),
	"FetchOffset": usually(0, 1).oddly(-1, 3, 4, -2, math.MaxInt64), "LastFetchedEpoch": usually(-1).oddly(0, 1),
	"Fetch.Topics.Partitions.LogStartOffset": usually(-1).oddly(0, 3), "PartitionMaxBytes": usually(1<<20).oddly(0, 1, -1),
	"ReplicaDirectoryID": usually(noID), "HighWatermark": usually(math.MaxInt64).oddly(0, -1, 5),

	"Timestamp":     usually(-1, -2, 1000).oddly(-3, -4, -5, -6, -7, 0, 1, 2500, 5000, math.MaxInt64, math.MinInt64),
	"MaxNumOffsets": usually(1).oddly(0, -1, 5),

	"Metadata.Topics.Topic": topicName, "Metadata.Topics.TopicID": usually(noID).oddly(id("T1"), otherID),
	"DeleteTopics.Topics.TopicID": usually(noID).oddly(id("T1"), id("T2"), otherID), "DeleteTopics.Topics.Topic": usually("T1").oddly(nil, "Tx", "", "bad/name"),
	"DeleteTopics.TopicNames": usually([]string{"T1"}).oddly([]string{}, []string{"T1", "T1"}, []string{"Tx"}, []string{"T1", "T2"}, []string{""}),

	"RetentionTimeMillis": usually(-1).oddly(0, 1000), "OffsetCommit.Topics.Partitions.Offset": usually(2).oddly(0, -1, -2, 1<<40, math.MaxInt64),
	"OffsetCommit.Topics.Partitions.Timestamp":   usually(-1).oddly(0, 1, 1<<40),
	"OffsetCommit.Topics.Partitions.LeaderEpoch": usually(-1).oddly(0, 5, -2), "OffsetCommit.Topics.Partitions.Metadata": usually("").oddly(nil, "m", strings.Repeat("m", 5000)),
	"OffsetCommit.Generation": usually(-1, 1).oddly(0, 2), "OffsetCommit.MemberID": usually("", "M1").oddly("nobody", "M2"),
	"OffsetFetch.Groups.MemberID": usually(nil).oddly("", "M1", "nobody"), "MemberEpoch": usually(-1).oddly(0, 1, 2),

	"CoordinatorKey":  usually("G1").oddly("", "T1", strings.Repeat("g", 1000)),
	"CoordinatorKeys": usually([]string{"G1"}).oddly([]string{}, nil, []string{"G1", "G1"}, []string{"", "G2"}), "CoordinatorType": usually(0).oddly(2, 3, -1, 127),

	"SessionTimeoutMillis": usually(10000).oddly(0, -1, 5999, 6000, math.MaxInt32), "RebalanceTimeoutMillis": usually(1500).oddly(0, -1),
	"JoinGroup.MemberID": usually("", "M1").oddly("nobody", "M2"), "ProtocolType": usually("consumer").oddly("", "other", nil),
	"Protocols.Name": usually("range").oddly("", "roundrobin"), "Protocol": usually("range").oddly("", nil, "roundrobin"),
	"Protocols.Metadata": usually("subscription").oddly("", "garbage"), "MemberAssignment": usually("assignment").oddly(""),

	"StatesFilter": usually([]string{}, nil).oddly([]string{"Empty"}, []string{"stable", "Stable"}, []string{"NoSuch"}, []string{""}),
	"TypesFilter":  usually([]string{}, nil).oddly([]string{"classic"}, []string{"Consumer"}, []string{"CLASSIC"}, []string{"nosuch"}, []string{""}),

	"ClientSoftwareName": usually("test").oddly("", "bad name", "-x", "x-", "x.y"), "ClientSoftwareVersion": usually("1.0").oddly("", "v 1", "-1"),

	"CreateTopics.Topics.Topic": usually("Tx").oddly("T1", "Ty", "", "bad/name", ".", "..", "__cluster_metadata", "__consumer_offsets", strings.Repeat("a", 250), "ä"),
	"NumPartitions":             usually(-1, 1, 3).oddly(0, -2, 1000000), "ReplicationFactor": usually(-1, 1).oddly(0, 2, -2, math.MaxInt16),
	"ReplicaAssignment.Partition": usually(0).oddly(1, -1, 5), "Replicas": replicas,
	"Configs.Name": settings, "Configs.Value": usually("1000").oddly(nil, "", "nonsense", "compact", "-1"),
	"DeleteRecords.Topics.Partitions.Offset": usually(1, -1).oddly(0, 3, 4, -2, math.MaxInt64),

	"TransactionalID": usually(nil), "TransactionTimeoutMillis": usually(1000).oddly(0, -1), "InitProducerID.ProducerID": usually(-1).oddly(firstProducer, 5, -2),
	"ProducerEpoch": usually(-1).oddly(0, 1, -2), "OffsetForLeaderEpoch.Topics.Partitions.LeaderEpoch": usually(0).oddly(-1, 1, -2, math.MaxInt32),

	"ResourceType": usually(2).oddly(0, 1, 3, 4, 8, 16, 32, 5, -1, 127), "ResourceName": usually("T1").oddly("", "1", "2", "Tx", "bad/name", "x"),
	"ConfigNames": usually(nil, []string{"retention.ms"}).oddly([]string{}, []string{""}, []string{"no.such.setting"}, []string{"retention.ms", "retention.ms"}, []string{"log.retention.ms"}),
	"Op":          usually(0, 1).oddly(2, 3, 4, -1),

	"ResourcePatternType": usually(3).oddly(0, 1, 2, 4, 5, -1), "PermissionType": usually(3, 2).oddly(0, 1, 4, -1),
	"DescribeACLs.Operation": aclOperation, "Creations.Operation": aclOperation, "Filters.Operation": aclOperation,
	"Principal": usually("User:u1").oddly("", "u1", "Group:g", "User:*"), "Host": usually("*").oddly("", "1.2.3.4", "nosuch"),

	"Dir":   usually("/no/such/dir").oddly("", "relative"),
	"Count": usually(4).oddly(3, 2, 1, 0, -1, 1000000), "Assignment.Replicas": replicas,
	"ElectionType": usually(0, 1).oddly(2, -1), "AllowReplicationFactorChange": usually(true, false),

	"EntityType": usually("client-id", "user").oddly("ip", "", "nosuch"), "MatchType": usually(0, 1, 2).oddly(3, -1), "Match": usually("c1").oddly(nil, ""),
	"Entity.Type": usually("client-id", "user").oddly("ip", "", "nosuch"), "Entity.Name": usually("c1").oddly("", "c2"),
	"Key":       usually("producer_byte_rate", "consumer_byte_rate").oddly("request_percentage", "", "nosuch", "controller_mutation_rate", "connection_creation_rate"),
	"Ops.Value": usually(1e6).oddly(0.0, -1.0, math.NaN(), math.Inf(1), 0.5), "Users.Name": usually("u1").oddly(""),

	"Feature": usually("metadata.version").oddly("", "nosuch", "kraft.version", "group.version", "transaction.version"), "MaxVersionLevel": usually(30).oddly(0, 1, 7, -1, 1000),
	"UpgradeType": usually(1, 2, 3).oddly(0, 4, -1), "UpdateFeatures.ValidateOnly": usually(true),
	"EndpointType": usually(1, 2).oddly(0, 3, -1), "BrokerID": usually(7).oddly(-1, 0, math.MaxInt32), "ControllerID": usually(7).oddly(-1),

	"ClientInstanceID": usually(id("C1"), noID).oddly(otherID), "SubscriptionID": usually(0).oddly(5, -1), "CompressionType": usually(0).oddly(1, 4, 5, -1),
	"Metrics": usually("").oddly("garbage"), "ResourceTypes": usually([]int8{}, []int8{2}).oddly(nil, []int8{0}, []int8{4}, []int8{16, 32, 8}, []int8{2, 2}, []int8{-1}, []int8{99}),
	"ResponsePartitionLimit": usually(2000).oddly(0, -1, 1, math.MaxInt32), "Cursor.Topic": usually("T1").oddly("", "Tx", "T2"), "Cursor.Partition": usually(0).oddly(1, 2, -1),
}

// generator fills requests by chance.
type generator struct {
	*rand.Rand
	versions map[int16][2]int16 // of each API, least and highest
	own      map[string]*choice // in place of choices
	oddity   float64            // how probable an odd value is, for each field
}

// request is one of an API in a version.
func (g *generator) request(key, version int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	v := reflect.ValueOf(req).Elem()
	g.oddity = []float64{0, 0.05, 0.1, 0.25}[g.IntN(4)]
	g.fill(v, kmsg.NameForKey(key))
	if fetch, ok := req.(*kmsg.FetchRequest); ok && version < 15 {
		fetch.ReplicaState = kmsg.NewFetchRequestReplicaState() // kmsg writes it in versions that do not have it, which Apache Kafka refuses
	}
	if fetch, ok := req.(*kmsg.FetchRequest); ok && version < 18 { // likewise
		for i := range fetch.Topics {
			for j := range fetch.Topics[i].Partitions {
				fetch.Topics[i].Partitions[j].HighWatermark = math.MaxInt64
			}
		}
	}
	return plain(req)
}

// plain is a request as a server sees it: without what its version does not have.
func plain(req kmsg.Request) kmsg.Request {
	out := kmsg.RequestForKey(req.Key())
	out.SetVersion(req.GetVersion())
	if err := out.ReadFrom(req.AppendTo(nil)); err != nil {
		panic(fmt.Sprintf("%s does not read what it wrote: %v", kmsg.NameForKey(req.Key()), err))
	}
	return out
}

func find(choices map[string]*choice, path string) *choice {
	for {
		if c := choices[path]; c != nil {
			return c
		}
		_, rest, ok := strings.Cut(path, ".")
		if !ok {
			return nil
		}
		path = rest
	}
}

func (g *generator) fill(v reflect.Value, path string) {
	switch {
	case v.Kind() == reflect.Struct:
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok && strings.Contains(path, ".") {
			d.Default()
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "Version" && f.Name != "UnknownTags" {
				g.fill(v.Field(i), path+"."+f.Name)
			}
		}
		return
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		g.structs(v, path)
		return
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		if g.IntN(3) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			g.fill(v.Elem(), path)
		}
		return
	}
	c := find(g.own, path)
	if c == nil {
		c = find(choices, path)
	}
	if c == nil {
		c = byKind(v)
	}
	values := c.usual
	if len(c.odd) > 0 && g.Float64() < g.oddity {
		values = c.odd
	}
	set(v, values[g.IntN(len(values))])
}

// structs fills a list: mostly one entry, sometimes none, null, two, or one twice.
func (g *generator) structs(v reflect.Value, path string) {
	n := 1
	if g.Float64() < 2*g.oddity {
		n = []int{0, 0, 2, 2, 3}[g.IntN(5)]
		if n == 0 && g.IntN(2) == 0 {
			return // null, where a version has it
		}
	}
	optional := strings.HasSuffix(path, "ReplicaAssignment") || strings.HasSuffix(path, "ForgottenTopics") || strings.HasSuffix(path, "Assignment") ||
		strings.HasSuffix(path, "CreateTopics.Topics.Configs")
	if optional && g.IntN(3) > 0 {
		n = 0
	}
	out := reflect.MakeSlice(v.Type(), n, n)
	for i := range n {
		if i > 0 && g.IntN(2) == 0 {
			out.Index(i).Set(out.Index(i - 1))
			continue
		}
		g.fill(out.Index(i), path)
	}
	v.Set(out)
}

func byKind(v reflect.Value) *choice {
	switch v.Kind() {
	case reflect.Bool:
		return usually(false, true)
	case reflect.String:
		return usually("")
	case reflect.Pointer:
		return usually(nil)
	case reflect.Slice, reflect.Array:
		return usually(reflect.Zero(v.Type()).Interface())
	default:
		return usually(v.Interface()).oddly(0, 1, -1)
	}
}

// set gives a field a value of a choice.
func set(v reflect.Value, value any) {
	switch {
	case value == nil:
		v.SetZero()
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(reflect.ValueOf(value).Convert(v.Type().Elem()))
		v.Set(p)
	case v.Type() == reflect.TypeFor[[]byte]() && reflect.TypeOf(value).Kind() == reflect.String:
		v.SetBytes([]byte(value.(string)))
	default:
		v.Set(reflect.ValueOf(value).Convert(v.Type()))
	}
}
