package transactions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

func TestMain(m *testing.M) { harness.Main(m) }

const partitions = 2 // of each trial's topic

// server is one of the two brokers that are compared.
type server struct {
	who   string
	cl    *kgo.Client
	admin *kadm.Client
}

func connect(t *testing.T, name, address string) *server {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.MaxVersions(nil), kgo.RequestRetries(0), kgo.RetryTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &server{name, cl, kadm.NewClient(cl)}
}

// pair is a producer id and its epoch.
type pair struct {
	id    int64
	epoch int16
}

// world is one trial on one server: what the names in its steps stand for there.
type world struct {
	*server
	trial  string
	topic  string
	id     [16]byte             // of topic
	now    map[string]pair      // by transactional id, as the last answer gave it
	before map[string]pair      // the pair before that
	next   map[sequenceOf]int32 // next sequences
	old    map[string]bool      // what trials have done before; see differs
	read   int64                // last offset of the newest fetch
	names  map[int64]string     // of producer ids, in the order of their appearance
}

type sequenceOf struct {
	pair
	partition int32
}

func (s *server) begin(t *testing.T, trial string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	w := &world{server: s, trial: trial, topic: "t-" + trial, now: map[string]pair{}, before: map[string]pair{}, next: map[sequenceOf]int32{}, names: map[int64]string{}, old: map[string]bool{}}
	r, err := s.admin.CreateTopic(ctx, partitions, 1, nil, w.topic)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		t.Fatalf("%s: %v", s.who, err)
	}
	w.id = r.ID
	if err := w.awaitLeaders(ctx); err != nil {
		t.Fatalf("%s: %v", s.who, err)
	}
	if err := harness.Eventually(30*time.Second, func() error { // its coordinators are there
		for kind := range int8(2) {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorType, req.CoordinatorKeys = kind, []string{"x"}
			resp, err := w.ask(ctx, req, 4)
			if err == nil {
				err = kerr.ErrorForCode(resp.(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", s.who, err)
	}
	return w
}

// awaitLeaders waits until the topic's partitions are led.
func (w *world) awaitLeaders(ctx context.Context) error {
	return harness.Eventually(30*time.Second, func() error {
		for p := range int32(partitions) {
			if _, err := w.listOffset(ctx, p, -1, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) listOffset(ctx context.Context, partition int32, at int64, isolation int8) (string, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = w.topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = partition, at
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := w.ask(ctx, req, 7)
	if err != nil {
		return "", err
	}
	p := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return fmt.Sprintf("%s %d", code(p.ErrorCode), p.Offset), kerr.ErrorForCode(p.ErrorCode)
}

// ask sends a request in a version.
func (w *world) ask(ctx context.Context, req kmsg.Request, version int16) (kmsg.Response, error) {
	req.SetVersion(version)
	return w.cl.Broker(1).Request(ctx, pinned{req})
}

// pinned keeps the version of a request: franz-go would take the highest.
type pinned struct{ kmsg.Request }

func (p pinned) SetVersion(int16) {}

func code(c int16) string {
	if c == 0 {
		return "ok"
	}
	var k *kerr.Error
	if errors.As(kerr.ErrorForCode(c), &k) {
		return k.Message
	}
	return fmt.Sprint(c)
}

// name is a producer id as both servers call it.
func (w *world) name(id int64) string {
	if id < 0 {
		return fmt.Sprint(id)
	}
	if w.names[id] == "" {
		w.names[id] = fmt.Sprintf("p%d", len(w.names))
	}
	return w.names[id]
}

func (w *world) learn(id string, p pair) {
	if old, ok := w.now[id]; ok && old != p {
		w.before[id] = old
	}
	w.now[id] = p
}

// which is a producer's pair: as it is now, as it was, or a wrong one.
func (w *world) which(id, kind string) pair {
	p, ok := w.now[id]
	if !ok {
		p = pair{1 << 40, 0}
	}
	switch kind {
	case "before":
		if old, ok := w.before[id]; ok {
			return old
		}
		p.epoch--
	case "older":
		p.epoch -= 2
	case "ahead":
		p.epoch++
	case "other":
		p.id = 1 << 41
	case "nobody":
		return pair{-1, -1}
	}
	return p
}

func (w *world) tid(id string) string {
	if id == "" {
		return ""
	}
	return id + "-" + w.trial
}

// settle waits until no transaction of the trial has markers to be written.
func (w *world) settle(ctx context.Context, ids []string) error {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	for _, id := range ids {
		req.TransactionalIDs = append(req.TransactionalIDs, w.tid(id))
	}
	return harness.Eventually(20*time.Second, func() error {
		resp, err := w.ask(ctx, req, 0)
		if err != nil {
			return err
		}
		for _, s := range resp.(*kmsg.DescribeTransactionsResponse).TransactionStates {
			if strings.HasPrefix(s.State, "Prepare") {
				return fmt.Errorf("%s: %s is %s", w.who, s.TransactionalID, s.State)
			}
		}
		return nil
	})
}

// batch is a producer's batch of n records.
func batch(p pair, sequence int32, n int, transactional bool) []byte {
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = p.id, p.epoch, sequence
	if transactional {
		b.Attributes = record.TransactionalFlag
	}
	for range n {
		b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	}
	data, err := b.Build()
	if err != nil {
		panic(err)
	}
	return data
}

// transient are answers after which clients ask again.
var transient = []string{"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "CONCURRENT_TRANSACTIONS"}

func isTransient(answer string) bool {
	return slices.ContainsFunc(transient, func(s string) bool { return strings.Contains(answer, s) })
}
