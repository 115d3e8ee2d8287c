package admin

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/active"
	"kraft/raftmeta/calls"
	"kraft/raftmeta/image"
	"kraft/raftmeta/metatest"
)

// alone returns the admin APIs of a node that is alone, with its broker registered.
func alone(t *testing.T) *Admin {
	m := metatest.Open(t)
	metatest.Commit(t, m, image.Register(&image.Broker{ID: 1, Epoch: 1, Endpoints: []*image.Endpoint{{Listener: "PLAINTEXT", Host: "one", Port: 1}}}))
	c, a := calls.New(m), active.New(m)
	t.Cleanup(func() {
		c.Close()
		a.Close()
	})
	return New(m, c, a)
}

func topic(name string) *string { return &name }

// TestDeletions: a request that names a topic twice, by name and id or in one way, deletes nothing of it.
func TestDeletions(t *testing.T) {
	img := image.Empty()
	a := image.UUID{1}
	img.Apply(&image.Record{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Name: "a", Id: a[:]}}})
	byName := func(name string) kmsg.DeleteTopicsRequestTopic {
		return kmsg.DeleteTopicsRequestTopic{Topic: topic(name)}
	}
	byID := func(id image.UUID) kmsg.DeleteTopicsRequestTopic { return kmsg.DeleteTopicsRequestTopic{TopicID: id} }
	for name, tc := range map[string]struct {
		asked   []kmsg.DeleteTopicsRequestTopic
		refused []bool
	}{
		"once":                {[]kmsg.DeleteTopicsRequestTopic{byName("a"), byName("b"), byID(image.UUID{9})}, []bool{false, false, false}},
		"a name twice":        {[]kmsg.DeleteTopicsRequestTopic{byName("a"), byName("b"), byName("a")}, []bool{true, false}},
		"an id twice":         {[]kmsg.DeleteTopicsRequestTopic{byID(a), byID(a)}, []bool{true}},
		"by name and id":      {[]kmsg.DeleteTopicsRequestTopic{byID(a), byName("b"), byName("a")}, []bool{false, true}},
		"both in one":         {[]kmsg.DeleteTopicsRequestTopic{{Topic: topic("a"), TopicID: a}}, []bool{true}},
		"neither":             {[]kmsg.DeleteTopicsRequestTopic{{}}, []bool{true}},
		"by name and another": {[]kmsg.DeleteTopicsRequestTopic{byName("a"), byID(image.UUID{9})}, []bool{false, false}},
	} {
		list := namedTwice(deletions(img, tc.asked))
		var got []bool
		for _, d := range list {
			got = append(got, d.refused != nil)
		}
		if !slices.Equal(got, tc.refused) {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// TestChangeEach: parts of a request know of those before, one that fails takes back nothing of the others, and a request that is only to be
// validated changes nothing.
func TestChangeEach(t *testing.T) {
	a := alone(t)
	create := func(validate bool, names ...string) (codes []int16) {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis, req.ValidateOnly = 10_000, validate
		for _, name := range names {
			r := kmsg.NewCreateTopicsRequestTopic()
			r.Topic, r.NumPartitions, r.ReplicationFactor = name, 1, 1
			req.Topics = append(req.Topics, r)
		}
		resp, err := a.createTopics(metatest.Request(t), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resp.Topics {
			codes = append(codes, r.ErrorCode)
		}
		return codes
	}
	exists, invalid := kerr.TopicAlreadyExists.Code, kerr.InvalidTopicException.Code
	for _, tc := range []struct {
		what     string
		validate bool
		names    []string
		codes    []int16
		topics   int // afterwards
	}{
		{"only validated", true, []string{"a", "b"}, []int16{0, 0}, 0},
		{"one of three fails", false, []string{"a", "not valid", "b"}, []int16{0, invalid, 0}, 2},
		{"names that collide", false, []string{"c.d", "c_d"}, []int16{0, invalid}, 3},
		{"those that exist", false, []string{"a", "e"}, []int16{exists, 0}, 4},
	} {
		if codes := create(tc.validate, tc.names...); !slices.Equal(codes, tc.codes) {
			t.Errorf("%s: error codes %v", tc.what, codes)
		}
		if n := a.meta.Newest().TopicCount(); n != tc.topics {
			t.Errorf("%s: %d topics", tc.what, n)
		}
	}
}

// TestElectLeaders: without a list, ElectLeaders answers only for partitions whose leader has changed or cannot be elected.
func TestElectLeaders(t *testing.T) {
	a := alone(t)
	id := image.UUID{1}
	metatest.Commit(t, a.meta, image.Register(&image.Broker{ID: 2, Epoch: 2}), &image.Record{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Name: "t", Id: id[:]}}},
		image.NewPartition(id, 0, &image.Partition{Replicas: []int32{1, 2}, ISR: []int32{1, 2}, Leader: 1}),
		image.NewPartition(id, 1, &image.Partition{Replicas: []int32{1, 2}, ISR: []int32{1, 2}, Leader: 2}),
		image.NewPartition(id, 2, &image.Partition{Replicas: []int32{1, 2}, ISR: []int32{2}, Leader: 2}))
	req := kmsg.NewPtrElectLeadersRequest()
	req.TimeoutMillis = 10_000
	resp, err := a.electLeaders(metatest.Request(t), req)
	if err != nil || len(resp.Topics) != 1 {
		t.Fatal(resp, err)
	}
	codes := map[int32]int16{}
	for _, p := range resp.Topics[0].Partitions {
		codes[p.Partition] = p.ErrorCode
	}
	if len(codes) != 2 || codes[1] != 0 || codes[2] != kerr.PreferredLeaderNotAvailable.Code {
		t.Errorf("partitions' errors %v", codes)
	}
	if p, _ := must(a.meta.Newest().Topic("t")).Partition(1); p.Leader != 1 {
		t.Errorf("partition 1 is led by %d", p.Leader)
	}
}

func must(t *image.Topic, _ bool) *image.Topic { return t }
