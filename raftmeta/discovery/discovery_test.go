package discovery

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/raftmeta/metatest"
)

// cluster has two brokers, the second of which is fenced and on another listener, and topics a, b and c with 3 partitions each.
func cluster(t *testing.T) *Discovery {
	m := metatest.Open(t)
	records := []*image.Record{
		image.Register(&image.Broker{ID: 1, Epoch: 1, Endpoints: []*image.Endpoint{{Listener: "PLAINTEXT", Host: "one", Port: 1}, {Listener: "EXTERNAL", Host: "outside", Port: 9}}}),
		image.Register(&image.Broker{ID: 2, Epoch: 2, Fenced: true, Endpoints: []*image.Endpoint{{Listener: "PLAINTEXT", Host: "two", Port: 2}}}),
	}
	for i, name := range []string{"a", "b", "c"} {
		id := image.UUID{byte(i + 1)}
		records = append(records, &image.Record{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Name: name, Id: id[:]}}})
		for n := range int32(3) {
			records = append(records, image.NewPartition(id, n, &image.Partition{Replicas: []int32{1, 2}, ISR: []int32{1}, ELR: []int32{2}, Leader: 1 + n%2}))
		}
	}
	metatest.Commit(t, m, records...)
	return New(m, nil)
}

// TestPages: however small pages are, together they are all partitions in order, once.
func TestPages(t *testing.T) {
	d := cluster(t)
	var want []string
	for _, topic := range []string{"a", "b", "c"} {
		for n := range 3 {
			want = append(want, fmt.Sprint(topic, n))
		}
	}
	for limit := range int32(10) {
		for _, names := range [][]string{nil, {"c", "a", "b", "a"}} {
			req := kmsg.NewPtrDescribeTopicPartitionsRequest()
			req.ResponsePartitionLimit = limit
			for _, name := range names {
				req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
			}
			var got []string
			for pages := 0; pages < 20; pages++ {
				resp, err := d.describeTopicPartitions(metatest.Request(t), req)
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, topic := range resp.Topics {
					for _, p := range topic.Partitions {
						got = append(got, fmt.Sprint(*topic.Topic, p.Partition))
						n++
					}
				}
				if n > max(1, int(limit)) {
					t.Fatalf("%d partitions in a page of %d", n, limit)
				}
				if resp.NextCursor == nil {
					break
				}
				req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
			}
			if !slices.Equal(got, want) {
				t.Errorf("pages of %d, %v: %v", limit, names, got)
			}
		}
	}
}

// TestListeners: clients of a listener get brokers' addresses of that listener, and errors for leaders that they cannot reach.
func TestListeners(t *testing.T) {
	d := cluster(t)
	for listener, tc := range map[string]struct {
		brokers []string
		codes   []int16 // of a's partitions: led by 1, 2 and 1
	}{
		"PLAINTEXT": {[]string{"one:1"}, []int16{0, kerr.LeaderNotAvailable.Code, 0}},
		"EXTERNAL":  {[]string{"outside:9"}, []int16{0, kerr.LeaderNotAvailable.Code, 0}},
		"OTHER":     {nil, []int16{kerr.ListenerNotFound.Code, kerr.LeaderNotAvailable.Code, kerr.ListenerNotFound.Code}},
	} {
		name := "a"
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		resp, err := d.metadata(metatest.RequestOf(t, 9, listener), req)
		if err != nil {
			t.Fatal(err)
		}
		var brokers []string
		for _, b := range resp.Brokers {
			brokers = append(brokers, fmt.Sprintf("%s:%d", b.Host, b.Port))
		}
		var codes []int16
		for _, p := range resp.Topics[0].Partitions {
			codes = append(codes, p.ErrorCode)
		}
		if !slices.Equal(brokers, tc.brokers) || !slices.Equal(codes, tc.codes) {
			t.Errorf("%s: brokers %v, partitions' errors %v", listener, brokers, codes)
		}
	}
}

// TestFencedBrokers: DescribeCluster names fenced brokers if it is asked for them.
func TestFencedBrokers(t *testing.T) {
	d := cluster(t)
	for include, want := range map[bool]int{false: 1, true: 2} {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.EndpointType, req.IncludeFencedBrokers = brokerEndpoint, include
		resp, err := d.describeCluster(metatest.Request(t), req)
		if err != nil || len(resp.Brokers) != want {
			t.Errorf("with fenced brokers %v: %d brokers, %v", include, len(resp.Brokers), err)
		}
	}
}
