package e2e

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

type versionRange struct {
	min, max int16
	name     string
}

// kafkaVersions reads what Apache Kafka serves.
func kafkaVersions(t *testing.T) map[int16]versionRange {
	t.Helper()
	f, err := os.Open("testdata/api-versions.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[int16]versionRange{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		var key int16
		var r versionRange
		if _, err := fmt.Sscan(s.Text(), &key, &r.min, &r.max, &r.name); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		out[key] = r
	}
	return out
}

// TestServedVersions: of every API that kraft lists, it lists all versions from 0 to Apache Kafka's highest.
func TestServedVersions(t *testing.T) {
	k := harness.NewKraft(t)
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, "e2e", "1"
	kafka := kafkaVersions(t)
	served := map[int16]bool{}
	for _, a := range dial(t, k.Addr).ask(req).(*kmsg.ApiVersionsResponse).ApiKeys {
		served[a.ApiKey] = true
		if want := kafka[a.ApiKey]; a.MinVersion != 0 || a.MaxVersion != want.max {
			t.Errorf("%s: versions %d to %d, Apache Kafka has %d to %d", kmsg.NameForKey(a.ApiKey), a.MinVersion, a.MaxVersion, want.min, want.max)
		}
	}
	for _, name := range []string{
		"ApiVersions", "Metadata", "DescribeTopicPartitions", "Produce", "Fetch", "ListOffsets", "OffsetForLeaderEpoch", "InitProducerId",
		"CreateTopics", "DeleteTopics", "CreatePartitions", "DeleteRecords", "DescribeConfigs", "IncrementalAlterConfigs", "AlterConfigs",
		"DescribeCluster", "FindCoordinator", "JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup", "OffsetCommit", "OffsetFetch", "OffsetDelete",
		"ListGroups", "DescribeGroups", "DeleteGroups", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "WriteTxnMarkers", "TxnOffsetCommit",
		"DescribeProducers", "DescribeTransactions", "ListTransactions",
	} {
		found := false
		for key, r := range kafka {
			found = found || r.name == name && served[key]
		}
		if !found {
			t.Errorf("%s is not served", name)
		}
	}
}

// TestEveryVersion sends each API in each version with plain contents, and decodes the answers.
func TestEveryVersion(t *testing.T) {
	k := harness.NewKraft(t)
	c := dial(t, k.Addr)
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version = 7
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = "versions", 2, 1
	create.Topics = append(create.Topics, ct)
	id := c.ask(create).(*kmsg.CreateTopicsResponse).Topics[0].TopicID
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = "versions-group"
	c.ask(find)
	kafka := kafkaVersions(t)
	for key := range int16(100) { // in order: offsets are committed before they are fetched
		r, build := kafka[key], plainRequests[key]
		if build == nil {
			continue
		}
		for v := int16(0); v <= r.max; v++ {
			req := kmsg.RequestForKey(key)
			req.SetVersion(v)
			check := build(req, v, id)
			resp := c.ask(req)
			if check != nil {
				if code := check(resp); code != 0 {
					t.Errorf("%s version %d: %v", r.name, v, kerr.ErrorForCode(code))
				}
			}
		}
	}
}

// legacySet is a message set as clients before 0.11 send it.
func legacySet(t interface{ Fatal(...any) }, magic int8) []byte {
	set, err := record.ToLegacy(nil, magic, record.None, false, []record.Record{{Timestamp: 1, Key: []byte("k"), Value: []byte("v")}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func plainBatch() []byte {
	w := record.NewBuilder(record.None)
	w.Add(&record.Record{Timestamp: 1, Key: []byte("k"), Value: []byte("v")})
	b, err := w.Build()
	if err != nil {
		panic(err)
	}
	return b
}

type panicker struct{}

func (panicker) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// plainRequests fill in a request of each kind and say where its answer has an error.
var plainRequests = map[int16]func(req kmsg.Request, v int16, id [16]byte) func(kmsg.Response) int16{
	0: func(req kmsg.Request, v int16, id [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.ProduceRequest)
		r.Acks, r.TimeoutMillis = -1, 1000
		data := plainBatch()
		switch {
		case v < 2:
			data = legacySet(panicker{}, 0)
		case v < 3:
			data = legacySet(panicker{}, 1)
		}
		p := kmsg.NewProduceRequestTopicPartition()
		p.Records = data
		r.Topics = []kmsg.ProduceRequestTopic{{Topic: "versions", TopicID: id, Partitions: []kmsg.ProduceRequestTopicPartition{p}}}
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode }
	},
	1: func(req kmsg.Request, _ int16, id [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.FetchRequest)
		r.ReplicaID, r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = -1, 10, 1, 1<<20, -1
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes = 1 << 20
		r.Topics = []kmsg.FetchRequestTopic{{Topic: "versions", TopicID: id, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode }
	},
	2: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.ListOffsetsRequest)
		r.ReplicaID = -1
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp, p.MaxNumOffsets = -1, 1
		r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "versions", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode
		}
	},
	3: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr("versions")
		req.(*kmsg.MetadataRequest).Topics = []kmsg.MetadataRequestTopic{t}
		return func(resp kmsg.Response) int16 {
			m := resp.(*kmsg.MetadataResponse)
			if len(m.Brokers) != 1 || len(m.Topics[0].Partitions) != 2 {
				return -1
			}
			return m.Topics[0].ErrorCode
		}
	},
	8: func(req kmsg.Request, _ int16, id [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.OffsetCommitRequest)
		r.Group, r.Generation, r.RetentionTimeMillis = "versions-group", -1, -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset, p.Timestamp, p.Metadata = 1, -1, kmsg.StringPtr("")
		r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "versions", TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
		}
	},
	9: func(req kmsg.Request, v int16, id [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.OffsetFetchRequest)
		r.Group = "versions-group"
		r.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "versions", Partitions: []int32{0}}}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = "versions-group"
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "versions", TopicID: id, Partitions: []int32{0}}}
		r.Groups = []kmsg.OffsetFetchRequestGroup{g}
		return func(resp kmsg.Response) int16 {
			f := resp.(*kmsg.OffsetFetchResponse)
			if v >= 8 {
				return f.Groups[0].Topics[0].Partitions[0].ErrorCode
			}
			return f.Topics[0].Partitions[0].ErrorCode
		}
	},
	10: func(req kmsg.Request, v int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.FindCoordinatorRequest)
		r.CoordinatorKey, r.CoordinatorKeys = "versions-group", []string{"versions-group"}
		return func(resp kmsg.Response) int16 {
			if v >= 4 {
				return resp.(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode
			}
			return resp.(*kmsg.FindCoordinatorResponse).ErrorCode
		}
	},
	11: func(req kmsg.Request, v int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.JoinGroupRequest)
		r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = fmt.Sprint("join-", v), 10_000, 10_000, "consumer"
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0}}}
		return func(resp kmsg.Response) int16 {
			if code := resp.(*kmsg.JoinGroupResponse).ErrorCode; v < 4 || code != kerr.MemberIDRequired.Code {
				return code
			}
			return 0
		}
	},
	12: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		req.(*kmsg.HeartbeatRequest).Group = "nobody"
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.HeartbeatResponse).ErrorCode - kerr.UnknownMemberID.Code
		}
	},
	13: func(req kmsg.Request, v int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.LeaveGroupRequest)
		r.Group, r.Members = "nobody", []kmsg.LeaveGroupRequestMember{kmsg.NewLeaveGroupRequestMember()}
		return func(resp kmsg.Response) int16 {
			l := resp.(*kmsg.LeaveGroupResponse)
			if v >= 3 {
				return l.Members[0].ErrorCode - kerr.UnknownMemberID.Code
			}
			return l.ErrorCode - kerr.UnknownMemberID.Code
		}
	},
	14: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.SyncGroupRequest)
		r.Group, r.ProtocolType, r.Protocol = "nobody", kmsg.StringPtr("consumer"), kmsg.StringPtr("range") // needed from version 5 on (KIP-559)
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.SyncGroupResponse).ErrorCode - kerr.UnknownMemberID.Code
		}
	},
	15: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		req.(*kmsg.DescribeGroupsRequest).Groups = []string{"versions-group"}
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.DescribeGroupsResponse).Groups[0].ErrorCode }
	},
	16: func(kmsg.Request, int16, [16]byte) func(kmsg.Response) int16 {
		return func(resp kmsg.Response) int16 {
			if len(resp.(*kmsg.ListGroupsResponse).Groups) == 0 {
				return -1
			}
			return resp.(*kmsg.ListGroupsResponse).ErrorCode
		}
	},
	18: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.ApiVersionsRequest)
		r.ClientSoftwareName, r.ClientSoftwareVersion, r.NodeID = "e2e", "1", -1
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.ApiVersionsResponse).ErrorCode }
	},
	19: func(req kmsg.Request, v int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.CreateTopicsRequest)
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprint("created-", v), 1, 1
		r.Topics, r.TimeoutMillis = []kmsg.CreateTopicsRequestTopic{t}, 5000
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode }
	},
	20: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.DeleteTopicsRequest)
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr("missing")
		r.TopicNames, r.Topics = []string{"missing"}, []kmsg.DeleteTopicsRequestTopic{t}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode - kerr.UnknownTopicOrPartition.Code
		}
	},
	21: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.DeleteRecordsRequest)
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition = 1
		r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "versions", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{p}}}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode
		}
	},
	22: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.InitProducerIDRequest)
		r.TransactionTimeoutMillis, r.ProducerID, r.ProducerEpoch = 1000, -1, -1
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.InitProducerIDResponse).ErrorCode }
	},
	23: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.OffsetForLeaderEpochRequest)
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch = -1
		r.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "versions", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0].ErrorCode
		}
	},
	29: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.DescribeACLsRequest)
		r.ResourceType, r.ResourcePatternType, r.Operation, r.PermissionType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.DescribeACLsResponse).ErrorCode - kerr.SecurityDisabled.Code
		}
	},
	30: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.CreateACLsRequest)
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.Principal, c.Host = kmsg.ACLResourceTypeTopic, "versions", "User:u", "*"
		c.Operation, c.PermissionType = kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
		r.Creations = []kmsg.CreateACLsRequestCreation{c}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.CreateACLsResponse).Results[0].ErrorCode - kerr.SecurityDisabled.Code
		}
	},
	31: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.DeleteACLsRequest)
		f := kmsg.NewDeleteACLsRequestFilter()
		f.ResourceType, f.Operation, f.PermissionType = kmsg.ACLResourceTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
		r.Filters = []kmsg.DeleteACLsRequestFilter{f}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.DeleteACLsResponse).Results[0].ErrorCode - kerr.SecurityDisabled.Code
		}
	},
	32: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.DescribeConfigsRequest)
		t := kmsg.NewDescribeConfigsRequestResource()
		t.ResourceType, t.ResourceName = kmsg.ConfigResourceTypeTopic, "versions"
		r.Resources = []kmsg.DescribeConfigsRequestResource{t}
		return func(resp kmsg.Response) int16 {
			if len(resp.(*kmsg.DescribeConfigsResponse).Resources[0].Configs) < 30 {
				return -1
			}
			return resp.(*kmsg.DescribeConfigsResponse).Resources[0].ErrorCode
		}
	},
	33: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.AlterConfigsRequest)
		t := kmsg.NewAlterConfigsRequestResource()
		t.ResourceType, t.ResourceName = kmsg.ConfigResourceTypeTopic, "versions"
		t.Configs = []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: kmsg.StringPtr("86400000")}}
		r.Resources = []kmsg.AlterConfigsRequestResource{t}
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode }
	},
	35: func(kmsg.Request, int16, [16]byte) func(kmsg.Response) int16 {
		return func(resp kmsg.Response) int16 {
			d := resp.(*kmsg.DescribeLogDirsResponse)
			if len(d.Dirs) != 1 || len(d.Dirs[0].Topics) < 2 {
				return -1
			}
			return d.Dirs[0].ErrorCode
		}
	},
	37: func(req kmsg.Request, v int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.CreatePartitionsRequest)
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = "versions", 3
		r.Topics, r.TimeoutMillis, r.ValidateOnly = []kmsg.CreatePartitionsRequestTopic{t}, 5000, true
		return func(resp kmsg.Response) int16 { return resp.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode }
	},
	42: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		req.(*kmsg.DeleteGroupsRequest).Groups = []string{"missing"}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode - kerr.GroupIDNotFound.Code
		}
	},
	44: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.IncrementalAlterConfigsRequest)
		t := kmsg.NewIncrementalAlterConfigsRequestResource()
		t.ResourceType, t.ResourceName = kmsg.ConfigResourceTypeTopic, "versions"
		t.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: kmsg.StringPtr("86400000")}}
		r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{t}
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode
		}
	},
	47: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		req.(*kmsg.OffsetDeleteRequest).Group = "missing"
		return func(resp kmsg.Response) int16 {
			return resp.(*kmsg.OffsetDeleteResponse).ErrorCode - kerr.GroupIDNotFound.Code
		}
	},
	60: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		req.(*kmsg.DescribeClusterRequest).EndpointType = 1
		return func(resp kmsg.Response) int16 {
			if len(resp.(*kmsg.DescribeClusterResponse).Brokers) != 1 {
				return -1
			}
			return resp.(*kmsg.DescribeClusterResponse).ErrorCode
		}
	},
	75: func(req kmsg.Request, _ int16, _ [16]byte) func(kmsg.Response) int16 {
		r := req.(*kmsg.DescribeTopicPartitionsRequest)
		r.ResponsePartitionLimit = 100
		t := kmsg.NewDescribeTopicPartitionsRequestTopic()
		t.Topic = "versions"
		r.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{t}
		return func(resp kmsg.Response) int16 {
			if len(resp.(*kmsg.DescribeTopicPartitionsResponse).Topics[0].Partitions) != 2 {
				return -1
			}
			return resp.(*kmsg.DescribeTopicPartitionsResponse).Topics[0].ErrorCode
		}
	},
}
