package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	trimmedTopic = "trimmed" // DeleteRecords only takes records from it
	agingTopic   = "aging"   // and from it only age does
	goneTopic    = "gone"    // is deleted and made again
	goneGroup    = "forgetful"
	agingMillis  = 3000
)

// Trimmed is what Trim knows of its topics in the end.
type Trimmed struct {
	start   int64            // DeleteRecords was told that everything before it is gone
	written map[int64]string // acknowledged records of trimmedTopic by offset
	aging   map[int64]int64  // timestamps of acknowledged records of agingTopic by offset, in milliseconds
}

// Trim writes to topics of its own and has records of them deleted, until the workload stops.
func (w *Workload) Trim(i int, replicas int16, rng *rand.Rand, known *Trimmed) error {
	known.written, known.aging = map[int64]string{}, map[int64]int64{}
	cl, err := w.Client(i, kgo.RecordRetries(5), kgo.RecordDeliveryTimeout(8*time.Second), kgo.DisableIdempotentWrite())
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	who, aging := fmt.Sprintf("trimmer %d", i), strconv.Itoa(agingMillis)
	forever := "-1"
	for topic, retention := range map[string]*string{trimmedTopic: &forever, agingTopic: &aging} {
		if !w.until(rng, func(ctx context.Context) bool {
			_, err := admin.CreateTopic(ctx, 1, replicas, map[string]*string{"retention.ms": retention}, topic)
			return err == nil || errors.Is(err, kerr.TopicAlreadyExists)
		}) {
			return nil
		}
	}
	for n := 0; w.Context.Err() == nil; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		end := int64(0)
		for range 1 + rng.IntN(5) {
			value := strconv.Itoa(n)
			for _, r := range cl.ProduceSync(ctx, &kgo.Record{Topic: trimmedTopic, Value: []byte(value)}, &kgo.Record{Topic: agingTopic, Value: []byte(value)}) {
				switch {
				case r.Err != nil:
				case r.Record.Topic == agingTopic:
					known.aging[r.Record.Offset] = r.Record.Timestamp.UnixMilli()
				default:
					known.written[r.Record.Offset] = value
					end = r.Record.Offset + 1
				}
			}
		}
		if end > 0 {
			w.trim(ctx, who, admin, end, rng, known)
		}
		cancel()
		w.pause(300*time.Millisecond, rng)
	}
	return nil
}

// trim deletes some of the records before end, or tries to delete some that are not there yet.
func (w *Workload) trim(ctx context.Context, who string, admin *kadm.Client, end int64, rng *rand.Rand, known *Trimmed) {
	to := known.start + rng.Int64N(end-known.start+1)
	beyond := rng.IntN(4) == 0
	if beyond {
		to = end + 1000
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset(trimmedTopic, 0, to, -1)
	answers, err := admin.DeleteRecords(ctx, offsets)
	answer, ok := answers.Lookup(trimmedTopic, 0)
	if err != nil || !ok || answer.Err != nil {
		return
	}
	switch {
	case beyond:
		w.History.Wrong("deleted beyond the end", "%s: DeleteRecords up to %d is accepted, of a log of %d", who, to, end)
	case answer.LowWatermark < to:
		w.History.Wrong("not deleted", "%s: DeleteRecords up to %d is answered by a low watermark of %d", who, to, answer.LowWatermark)
	default:
		known.start = max(known.start, to)
	}
}

// until asks again and again, and reports whether done was so before the workload stopped.
func (w *Workload) until(rng *rand.Rand, done func(context.Context) bool) bool {
	for w.Context.Err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		ok := done(ctx)
		cancel()
		if ok {
			return true
		}
		w.pause(200*time.Millisecond, rng)
	}
	return false
}

// CheckTrimmed looks at the trimmer's topics when nothing happens any more: what was deleted is not there, and everything else is.
func (w *Workload) CheckTrimmed(ctx context.Context, cl *kgo.Client, known *Trimmed) error {
	if len(known.written) == 0 {
		return nil
	}
	// Some that are young when they are read.
	for range 3 {
		for _, r := range cl.ProduceSync(ctx, &kgo.Record{Topic: agingTopic, Value: []byte("young")}) {
			if r.Err != nil {
				return r.Err
			}
			known.aging[r.Record.Offset] = r.Record.Timestamp.UnixMilli()
		}
	}
	aged, begins, _, err := w.readAll(ctx, cl, Partition{Topic: agingTopic})
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	for offset, at := range known.aging {
		if aged[offset] == nil && at > now-agingMillis {
			w.History.Wrong("lost", "%s/0 at %d is %d ms old and not there, the log begins at %d", agingTopic, offset, now-at, begins)
		}
	}
	records, start, _, err := w.readAll(ctx, cl, Partition{Topic: trimmedTopic})
	if err != nil {
		return err
	}
	if start < known.start {
		w.History.Wrong("deleted records are back", "%s begins at %d, and was deleted up to %d", trimmedTopic, start, known.start)
	}
	for offset, value := range known.written {
		if r := records[offset]; offset >= start && (r == nil || string(r.Value) != value) {
			w.History.Wrong("lost", "%s/0 at %d: %s was acknowledged and is not there, the log begins at %d", trimmedTopic, offset, value, start)
		}
	}
	return nil
}

// readAll reads a partition from its start to its end.
func (w *Workload) readAll(ctx context.Context, cl *kgo.Client, p Partition) (records map[int64]*kgo.Record, start, end int64, err error) {
	admin := kadm.NewClient(cl)
	starts, err := admin.ListStartOffsets(ctx, p.Topic)
	if err != nil {
		return nil, 0, 0, err
	}
	ends, err := admin.ListEndOffsets(ctx, p.Topic)
	if err != nil {
		return nil, 0, 0, err
	}
	s, _ := starts.Lookup(p.Topic, p.N)
	e, _ := ends.Lookup(p.Topic, p.N)
	if err := errors.Join(s.Err, e.Err); err != nil {
		return nil, 0, 0, err
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{p.Topic: {p.N: kgo.NewOffset().At(s.Offset)}})
	defer cl.RemoveConsumePartitions(map[string][]int32{p.Topic: {p.N}})
	records = map[int64]*kgo.Record{}
	for next := s.Offset; next < e.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, 0, 0, fmt.Errorf("%s is read up to %d of %d: %w", p, next, e.Offset, errors.Join(err, fetches.Err()))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records[r.Offset] = r
			next = r.Offset + 1
		})
	}
	return records, s.Offset, e.Offset, nil
}

// Forget commits offsets of a topic, deletes it and makes it again, until the workload stops: a group's offsets go with the topic.
func (w *Workload) Forget(i int, replicas int16, rng *rand.Rand) error {
	cl, err := w.Client(i)
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	for w.Context.Err() == nil {
		if !w.until(rng, func(ctx context.Context) bool {
			_, err := admin.CreateTopic(ctx, 1, replicas, nil, goneTopic)
			return err == nil || errors.Is(err, kerr.TopicAlreadyExists)
		}) || !w.until(rng, func(ctx context.Context) bool {
			offsets := kadm.Offsets{}
			offsets.AddOffset(goneTopic, 0, 7, -1)
			answers, err := admin.CommitOffsets(ctx, goneGroup, offsets)
			return err == nil && answers.Ok()
		}) || !w.until(rng, func(ctx context.Context) bool {
			_, err := admin.DeleteTopic(ctx, goneTopic)
			return err == nil || errors.Is(err, kerr.UnknownTopicOrPartition)
		}) {
			return nil
		}
		answers := 0
		w.until(rng, func(ctx context.Context) bool {
			offsets, err := admin.FetchOffsets(ctx, goneGroup)
			if err != nil || !offsets.Ok() {
				return false
			}
			if o, ok := offsets.Lookup(goneTopic, 0); !ok || o.At < 0 {
				return true
			}
			if answers++; answers == 100 {
				w.History.Wrong("offsets of a deleted topic", "the group %s has them still, it says for the %dth time", goneGroup, answers)
				return true
			}
			return false
		})
		w.pause(500*time.Millisecond, rng)
	}
	return nil
}
