package requests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// trial sends its steps in turn, then its probes, which show what the steps did.
type trial struct {
	steps  []kmsg.Request
	probes []kmsg.Request
	shared bool   // with others: its requests change nothing
	as     string // the user that sends the steps; "" for the one who sends all else
}

func (tr *trial) String() string {
	var out []string
	for _, s := range tr.steps {
		out = append(out, text(s))
	}
	if tr.as != "" {
		return strings.Join(out, "; ") + " by " + tr.as
	}
	return strings.Join(out, "; ")
}

// marks is what stands before a trial's name in the list of differences: "twice: " if a request names an entry twice, "nothing of: " if one
// names a topic and none of its partitions.
func (tr *trial) marks() string {
	twice, nothing := false, false
	for _, s := range tr.steps {
		named := map[string]bool{}
		walk(reflect.ValueOf(s).Elem(), "", func(path string, v reflect.Value) {
			twice = twice || named[path]
			named[path] = true
			p := v.FieldByName("Partitions")
			nothing = nothing || p.IsValid() && p.Len() == 0
		})
	}
	out := ""
	if twice {
		out += "twice: "
	}
	if nothing {
		out += "nothing of: "
	}
	return out
}

// walk visits all entries of lists, with what names them.
func walk(v reflect.Value, path string, each func(path string, v reflect.Value)) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() != reflect.Slice || f.Type().Elem().Kind() == reflect.Uint8 {
			continue
		}
		for j := range f.Len() {
			e, at := f.Index(j), path+"/"+v.Type().Field(i).Name
			if e.Kind() != reflect.Struct {
				each(at+"="+fmt.Sprint(e.Interface()), reflect.ValueOf(struct{}{}))
				continue
			}
			for _, name := range []string{"Topic", "TopicID", "Name", "Group", "Partition", "ResourceType", "ResourceName", "MemberID", "InstanceID", "Feature", "Type", "Key", "EntityType", "Dir"} {
				if n := e.FieldByName(name); n.IsValid() {
					at += " " + textOf(n, n)
				}
			}
			if !e.FieldByName("Partitions").IsValid() && !e.FieldByName("Topics").IsValid() || e.FieldByName("NumPartitions").IsValid() {
				each(at, e)
			} else {
				each(at+strings.Repeat("'", j), e) // a topic may stand twice with other partitions
			}
			walk(e, at, each)
		}
	}
}

func (tr *trial) mentions(symbol string) bool {
	if strings.Contains(tr.String(), symbol) {
		return true
	}
	return slices.ContainsFunc(tr.probes, func(p kmsg.Request) bool { return strings.Contains(text(p), symbol) })
}

// play sends a trial's requests to one server and says what came of each, in lines. pace is how long it waits before each.
func (tr *trial) play(s *server, w *world, pace time.Duration) []string {
	var out []string
	for i, req := range append(slices.Clone(tr.steps), tr.probes...) {
		time.Sleep(pace)
		at, by := fmt.Sprintf("%d ", i+1), s
		if tr.as != "" && i < len(tr.steps) {
			by = s.login(tr.as)
			defer by.hangUp()
		}
		if i >= len(tr.steps) {
			at = "then " + kmsg.NameForKey(req.Key()) + " "
		}
		resp, err := by.ask(w.bind(req))
		switch {
		case err != nil:
			out = append(out, at+err.Error())
		case resp != nil:
			w.learn(resp)
			for _, line := range w.lines(resp) {
				out = append(out, at+line)
			}
		}
	}
	return out
}

// with is a request with its fields set.
func with[R kmsg.Request](req R, version int16, fill func(R)) kmsg.Request {
	req.SetVersion(version)
	fill(req)
	return plain(req)
}

// newWorld makes the topics that symbols mean.
func newWorld(s *server, try int, topics ...string) (*world, error) {
	w := &world{try: try, ids: map[string][16]byte{}}
	if len(topics) == 0 {
		return w, nil
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version, create.TimeoutMillis = 7, 10000
	for _, symbol := range topics {
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = w.name(symbol), 1, 1
		if symbol == "T1" {
			ct.NumPartitions = 2
		}
		ct.Configs = append(ct.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms", Value: kmsg.StringPtr("-1")})
		create.Topics = append(create.Topics, ct)
	}
	resp, err := s.need(create)
	if err != nil {
		return nil, err
	}
	for i, rt := range resp.(*kmsg.CreateTopicsResponse).Topics {
		if rt.ErrorCode != 0 {
			return nil, fmt.Errorf("%s: %s is not made: error %d", s.name, rt.Topic, rt.ErrorCode)
		}
		w.ids[topics[i]] = rt.TopicID
	}
	if err := s.await(w, topics); err != nil {
		return nil, err
	}
	if slices.Contains(topics, "T1") {
		produce := kmsg.NewPtrProduceRequest()
		produce.Version, produce.Acks, produce.TimeoutMillis = 8, -1, 5000
		pt, pp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
		for _, b := range [][]byte{encode(-1, -1, 2, 1000), encode(-1, -1, 1, 3000)} {
			pt.Topic, pp.Records = w.name("T1"), b
			pt.Partitions = []kmsg.ProduceRequestTopicPartition{pp}
			produce.Topics = []kmsg.ProduceRequestTopic{pt}
			if err := harness.Eventually(10*time.Second, func() error { // Apache Kafka's metadata is ahead of its replica manager
				resp, err := s.need(produce)
				if err == nil {
					err = kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
				}
				return err
			}); err != nil {
				return nil, fmt.Errorf("%s: nothing is produced: %w", s.name, err)
			}
		}
	}
	return w, nil
}

// await waits until all partitions of topics have leaders, as the broker knows.
func (s *server) await(w *world, topics []string) error {
	meta := kmsg.NewPtrMetadataRequest()
	meta.Version = 8
	for _, symbol := range topics {
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = kmsg.StringPtr(w.name(symbol))
		meta.Topics = append(meta.Topics, mt)
	}
	return harness.Eventually(10*time.Second, func() error {
		resp, err := s.need(meta)
		if err != nil {
			return err
		}
		for _, mt := range resp.(*kmsg.MetadataResponse).Topics {
			if mt.ErrorCode != 0 || slices.ContainsFunc(mt.Partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Leader < 0 }) {
				return fmt.Errorf("%s: %s has no leaders", s.name, *mt.Topic)
			}
		}
		return nil
	})
}

// remove deletes what a try made.
func (s *server) remove(w *world) {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis = 5, 10000
	for _, symbol := range []string{"T1", "T2", "Tx", "Ty"} {
		req.TopicNames = append(req.TopicNames, w.name(symbol))
	}
	_, _ = s.need(req)
}

// bench runs trials on both servers.
type bench struct {
	t       *testing.T
	servers []*server
	shared  []*world
	denied  map[int16][2]bool // of APIs: whether kraft allowed it to a user, and denied it
	tries   int
}

// once plays a trial on both servers, and returns the lines that only one of them answered.
func (b *bench) once(tr *trial, pace time.Duration) (differ [2]string) {
	b.t.Helper()
	b.tries++
	var lines [2][]string
	var failed [2]error
	done := make(chan int)
	for i, s := range b.servers {
		go func() {
			defer func() { done <- i }()
			var w *world
			if tr.shared {
				w = &world{try: b.shared[i].try, ids: b.shared[i].ids}
			} else {
				var topics []string
				for _, symbol := range []string{"T1", "T2"} {
					if tr.mentions(symbol) {
						topics = append(topics, symbol)
					}
				}
				if w, failed[i] = newWorld(s, b.tries, topics...); failed[i] != nil {
					return
				}
			}
			lines[i] = tr.play(s, w, pace)
			if !tr.shared {
				s.remove(w)
			}
		}()
	}
	<-done
	<-done
	if err := errors.Join(failed[:]...); err != nil {
		b.t.Fatal(err)
	}
	if key := tr.steps[0].Key(); tr.as != "" {
		was := b.denied[key]
		if slices.ContainsFunc(lines[1], func(l string) bool { return strings.HasPrefix(l, "1 ") && strings.Contains(l, "AUTHORIZATION_FAILED") }) {
			was[1] = true
		} else {
			was[0] = true
		}
		if b.denied == nil {
			b.denied = map[int16][2]bool{}
		}
		b.denied[key] = was
	}
	return [2]string{without(lines[0], lines[1]), without(lines[1], lines[0])}
}

// without is what one has and the other has not.
func without(one, other []string) string {
	other = slices.Clone(other)
	var out []string
	for _, line := range one {
		if i := slices.Index(other, line); i >= 0 {
			other = slices.Delete(other, i, i+1)
		} else {
			out = append(out, line)
		}
	}
	return strings.Join(out, ", ")
}

// run plays a trial until both agree, but three times at most, since what is asked next may be behind what was changed.
func (b *bench) run(tr *trial) (differ [2]string) {
	for _, pace := range []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond} {
		if differ = b.once(tr, pace); differ == [2]string{} {
			break
		}
	}
	return differ
}

// family makes trials of some APIs.
type family struct {
	keys []int16
	make func(g *generator, key, version int16) *trial
}

var families = []family{
	{[]int16{1, 2, 10, 17, 23, 18, 29, 30, 31, 36, 32, 35, 46, 48, 50, 55, 60, 61, 71, 72, 74, 75}, func(g *generator, key, version int16) *trial {
		tr := &trial{shared: true, steps: []kmsg.Request{g.request(key, version)}}
		if again := g.request(key, version); key == 1 && version >= 7 && g.IntN(2) == 0 { // in a session
			tr.steps = append(tr.steps, again)
		}
		if key == 72 && g.IntN(3) > 0 {
			tr.steps = append([]kmsg.Request{kmsg.NewPtrGetTelemetrySubscriptionsRequest()}, tr.steps...)
		}
		return tr
	}},
	{[]int16{3, 19, 20, 37, 33, 44, 43, 45, 34, 49, 57, 64, 80, 81, 94}, func(g *generator, key, version int16) *trial {
		return &trial{steps: []kmsg.Request{g.request(key, version)}, probes: topicProbes}
	}},
	{[]int16{0, 21, 22}, func(g *generator, key, version int16) *trial {
		tr := &trial{steps: []kmsg.Request{g.request(key, version)}, probes: recordProbes}
		if key == 0 && g.IntN(2) == 0 {
			tr.steps = append([]kmsg.Request{with(kmsg.NewPtrInitProducerIDRequest(), 1, func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = 1000 })}, tr.steps...)
		}
		for g.IntN(3) == 0 {
			tr.steps = append(tr.steps, g.request(key, version))
		}
		return tr
	}},
	{groupKeys, func(g *generator, key, version int16) *trial {
		tr := &trial{steps: slices.Clone(preambles[g.IntN(len(preambles))]), probes: groupProbes}
		tr.steps = append(tr.steps, g.request(key, version))
		for g.IntN(2) == 0 {
			other := groupKeys[g.IntN(len(groupKeys))]
			r := g.versions[other]
			tr.steps = append(tr.steps, g.request(other, r[0]+int16(g.IntN(int(r[1]-r[0])+1))))
		}
		return tr
	}},
}

var groupKeys = []int16{8, 9, 11, 12, 13, 14, 15, 16, 42, 47}

var (
	topicProbes = []kmsg.Request{
		with(kmsg.NewPtrMetadataRequest(), 12, func(r *kmsg.MetadataRequest) {
			for _, symbol := range []string{"T1", "T2", "Tx", "Ty"} {
				mt := kmsg.NewMetadataRequestTopic()
				mt.Topic = kmsg.StringPtr(symbol)
				r.Topics = append(r.Topics, mt)
			}
		}),
		with(kmsg.NewPtrDescribeConfigsRequest(), 4, func(r *kmsg.DescribeConfigsRequest) {
			for _, symbol := range []string{"T1", "Tx"} {
				c := kmsg.NewDescribeConfigsRequestResource()
				c.ResourceType, c.ResourceName, c.ConfigNames = 2, symbol, []string{"retention.ms", "cleanup.policy", "max.message.bytes"}
				r.Resources = append(r.Resources, c)
			}
		}),
	}
	recordProbes = []kmsg.Request{list(-2), list(-1)}
	groupProbes  = []kmsg.Request{
		with(kmsg.NewPtrDescribeGroupsRequest(), 5, func(r *kmsg.DescribeGroupsRequest) { r.Groups = []string{"G1"} }),
		with(kmsg.NewPtrOffsetFetchRequest(), 7, func(r *kmsg.OffsetFetchRequest) { r.Group = "G1" }),
		with(kmsg.NewPtrListGroupsRequest(), 4, func(r *kmsg.ListGroupsRequest) {}),
	}
)

func list(timestamp int64) kmsg.Request {
	return with(kmsg.NewPtrListOffsetsRequest(), 5, func(r *kmsg.ListOffsetsRequest) {
		r.ReplicaID = -1
		lt := kmsg.NewListOffsetsRequestTopic()
		lt.Topic = "T1"
		for p := range int32(2) {
			lp := kmsg.NewListOffsetsRequestTopicPartition()
			lp.Partition, lp.Timestamp = p, timestamp
			lt.Partitions = append(lt.Partitions, lp)
		}
		r.Topics = append(r.Topics, lt)
	})
}

// preambles are the states of a group that requests meet.
var preambles = func() [][]kmsg.Request {
	staticJoin := func(instance string) kmsg.Request {
		return with(kmsg.NewPtrJoinGroupRequest(), 5, func(r *kmsg.JoinGroupRequest) {
			r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType, r.InstanceID = "G1", 10000, 1500, "consumer", &instance
			r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("subscription")}}
		})
	}
	dynamicJoin := with(kmsg.NewPtrJoinGroupRequest(), 3, func(r *kmsg.JoinGroupRequest) {
		r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = "G1", 10000, 1500, "consumer"
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("subscription")}}
	})
	sync := with(kmsg.NewPtrSyncGroupRequest(), 3, func(r *kmsg.SyncGroupRequest) {
		r.Group, r.Generation, r.MemberID = "G1", 1, "M1"
		r.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "M1", MemberAssignment: []byte("assignment")}}
	})
	commit := func(member string, generation int32) kmsg.Request {
		return with(kmsg.NewPtrOffsetCommitRequest(), 5, func(r *kmsg.OffsetCommitRequest) {
			r.Group, r.MemberID, r.Generation = "G1", member, generation
			rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
			rt.Topic, rp.Offset = "T1", 2
			rt.Partitions = append(rt.Partitions, rp)
			r.Topics = append(r.Topics, rt)
		})
	}
	return [][]kmsg.Request{
		{}, {commit("", -1)}, {dynamicJoin}, {dynamicJoin, sync}, {dynamicJoin, sync, commit("M1", 1)},
		{staticJoin("i1"), sync}, {staticJoin("i1")},
	}
}()

// trials are the cases, and n of each version of each API, by a seed.
func trials(versions map[int16][2]int16, seed uint64, n int) (out []*trial) {
	out = cases()
	for _, f := range families {
		for _, key := range f.keys {
			for version := versions[key][0]; version <= versions[key][1]; version++ {
				for i := range n {
					g := &generator{versions: versions, Rand: rand.New(rand.NewPCG(seed, uint64(key)<<32|uint64(version)<<16|uint64(i)))}
					out = append(out, f.make(g, key, version))
				}
			}
		}
	}
	return out
}
