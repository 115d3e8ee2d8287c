package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/record"
)

// Again is the partition of a topic that is deleted and made again while it is written and read. In the end it may be
// there or not.
var Again = Partition{Topic: "again"}

// recreator is the client that does it. It writes and reads by topic ids, and keeps its fetch sessions over the topic's
// lives: what it asked for in one life it must not be given of another.
type recreator struct {
	work     *Workload
	who      string
	number   int
	client   *kgo.Client
	rng      *rand.Rand
	replicas int16

	life     int
	lives    map[[16]byte]int // by topic id
	id       [16]byte         // of the present life
	sent     int
	sessions map[int32]*fetchSession // by broker
}

// fetchSession is a broker's with the client (KIP-227), in which each topic is asked for once, from its first record on.
type fetchSession struct {
	id, epoch int32
	asked     map[[16]byte]bool
}

// Recreate works until the workload stops.
func (w *Workload) Recreate(i int, replicas int16, rng *rand.Rand) error {
	cl, err := w.Client(i, kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	r := &recreator{work: w, who: fmt.Sprintf("recreator %d", i), number: i, client: cl, rng: rng, replicas: replicas, lives: map[[16]byte]int{}, sessions: map[int32]*fetchSession{}}
	for r.create() {
		for range 3 + rng.IntN(20) {
			if leader, ok := r.leader(); ok {
				r.produce(leader)
				r.fetch(leader)
			}
			w.pause(150*time.Millisecond, rng)
		}
		if !r.remove() {
			break
		}
		for broker := range w.Seeds { // what was asked for is gone: there may be a new life already, when the next is asked
			if r.sessions[int32(broker+1)] != nil && rng.IntN(2) == 0 {
				r.fetch(int32(broker + 1))
			}
		}
	}
	return nil
}

// create begins another life, and learns its id.
func (r *recreator) create() bool {
	r.work.History.forget(Again)
	r.life++
	admin := kadm.NewClient(r.client)
	return r.work.until(r.rng, func(ctx context.Context) bool {
		_, err := admin.CreateTopic(ctx, 1, r.replicas, nil, Again.Topic)
		return err == nil || errors.Is(err, kerr.TopicAlreadyExists)
	}) && r.work.until(r.rng, func(ctx context.Context) bool {
		topics, err := Ask(ctx, r.client, 1+r.rng.IntN(len(r.work.Seeds)), []string{Again.Topic})
		if err != nil || topics[0].ErrorCode != 0 {
			return false
		}
		if _, old := r.lives[topics[0].TopicID]; old {
			return false
		}
		r.id = topics[0].TopicID
		r.lives[r.id] = r.life
		r.work.History.Say("%s makes %s for the %dth time", r.who, Again.Topic, r.life)
		return true
	})
}

// remove ends the present life.
func (r *recreator) remove() bool {
	return r.work.until(r.rng, func(ctx context.Context) bool {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TimeoutMillis = 4000
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.TopicID = r.id
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, r.client)
		if err != nil || len(resp.Topics) != 1 {
			return false
		}
		code := resp.Topics[0].ErrorCode
		return code == 0 || code == kerr.UnknownTopicID.Code
	})
}

// leader is whom some broker takes for the leader of the present life.
func (r *recreator) leader() (int32, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	topics, err := Ask(ctx, r.client, 1+r.rng.IntN(len(r.work.Seeds)), []string{Again.Topic})
	if err != nil || topics[0].TopicID != r.id || len(topics[0].Partitions) != 1 || topics[0].Partitions[0].Leader < 0 {
		return 0, false
	}
	return topics[0].Partitions[0].Leader, true
}

// value is one record's, with the life in it.
func (r *recreator) value() string {
	r.sent++
	return fmt.Sprintf("again%d-p%d-%d", r.life, r.number, r.sent)
}

func lifeOf(value string) (life int) {
	_, _ = fmt.Sscanf(strings.TrimPrefix(value, "again"), "%d-", &life)
	return life
}

// produce sends one record to the present life's leader, once.
func (r *recreator) produce(leader int32) {
	value := r.value()
	r.work.History.Sends(value, Attempt{To: Again, Producer: r.number, N: r.sent, Unordered: true})
	b := record.NewBuilder(record.None)
	b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)})
	batch, err := b.Build()
	if err != nil {
		r.work.History.Wrong("unreadable", "%s: %v", value, err)
		return
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 3000
	t := kmsg.NewProduceRequestTopic()
	t.TopicID = r.id
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := r.client.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		r.work.History.Say("%s failed: %v", value, err)
		return
	}
	answer := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		r.work.History.Say("%s failed: %v", value, err)
		return
	}
	r.work.History.Acked(value, answer.BaseOffset)
}

// fetch asks a broker for what there is, in a session in which topics of earlier lives stay asked for.
func (r *recreator) fetch(broker int32) {
	s := r.sessions[broker]
	if s == nil {
		s = &fetchSession{asked: map[[16]byte]bool{}}
		r.sessions[broker] = s
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 100, 1, 1<<20
	req.SessionID, req.SessionEpoch = s.id, s.epoch
	if !s.asked[r.id] {
		s.asked[r.id] = true
		t := kmsg.NewFetchRequestTopic()
		t.TopicID = r.id
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes, p.CurrentLeaderEpoch = 1<<20, -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := r.client.Broker(int(broker)).Request(ctx, req)
	if err != nil || answer.(*kmsg.FetchResponse).ErrorCode != 0 {
		delete(r.sessions, broker)
		return
	}
	resp := answer.(*kmsg.FetchResponse)
	if s.id, s.epoch = resp.SessionID, s.epoch+1; s.id == 0 {
		delete(r.sessions, broker) // there is no room for a session
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			r.take(t.TopicID, p.RecordBatches)
		}
	}
}

// take looks at what was given of a topic id.
func (r *recreator) take(id [16]byte, data []byte) {
	for len(data) > 0 {
		b, rest, err := record.Next(data)
		if err != nil {
			return // the last one may be cut
		}
		data = rest
		records, err := b.Records(record.MaxRecordsBytes)
		if err != nil {
			r.work.History.Wrong("unreadable", "%s is given %v", r.who, err)
			return
		}
		for _, found := range records {
			value := string(found.Value)
			if life := lifeOf(value); life != r.lives[id] {
				r.work.History.Wrong("another topic's record", "%s is given %s at %d for %s's %dth life", r.who, value, found.Offset, Again.Topic, r.lives[id])
			} else if id == r.id {
				r.work.History.Read(r.who, Again, found.Offset, value)
			}
		}
	}
}
