package replication

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/internal/dialogue"
	"kraft/raftmeta/image"
	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/ident"
	"kraft/wire/record"
)

// TestDialogues plays the files in testdata: the replicas of one partition on real logs. Metadata, fetches, time and
// crashes come one by one, from the script.
func TestDialogues(t *testing.T) {
	dialogue.Play(t, "testdata/*.txt", func(t *testing.T, say dialogue.Say) func(string) {
		s := &stage{t: t, say: say, now: time.UnixMilli(1_700_000_000_000), replicas: map[int32]*replica{}}
		t.Cleanup(func() {
			for _, r := range s.replicas {
				r.die()
			}
		})
		return func(line string) { s.command(strings.Fields(line)) }
	})
}

type stage struct {
	t        *testing.T
	now      time.Time
	replicas map[int32]*replica
	say      dialogue.Say
}

type replica struct {
	id   int32
	fs   *faultfs.FS
	logs *storage.Manager
	p    *Partition
}

// command runs a line such as "metadata leader=1 epoch=2 version=3 isr=1,2 min=2 to=1,2".
func (s *stage) command(words []string) {
	name, args := words[0], words[1:]
	switch name {
	case "start":
		for _, id := range s.numbers(args[0]) {
			if old := s.replicas[id]; old != nil {
				old.die() // another story begins
			}
			s.start(&replica{id: id, fs: faultfs.New(uint64(id))})
		}
	case "metadata":
		s.metadata(s.options(args))
	case "advance":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
	case "produce":
		s.produce(s.replica(args[0]), args[1:])
	case "fetch":
		s.fetch(s.replica(args[0]))
	case "laggards": // what a leader does every now and then: replica.lag.time.max.ms is 30 s
		r := s.replica(args[0])
		s.propose(r, r.p.laggards(30*time.Second, s.now))
	case "refuse": // the answer to what a leader proposed last is an error, or there is none: "refuse 1 TIMEOUT"
		r := s.replica(args[0])
		l := r.p.leadership.Load()
		prop := &proposal{partition: r.p}
		prop.state.LeaderEpoch, prop.state.PartitionEpoch = l.epoch, l.partitionEpoch
		err := context.DeadlineExceeded
		for _, k := range []*kerr.Error{kerr.IneligibleReplica, kerr.NewLeaderElected, kerr.InvalidUpdateVersion} {
			if k.Message == args[1] {
				err = k
			}
		}
		s.propose(r, r.p.refused(prop.state, err, s.now))
		s.hear(r)
	case "flush":
		if err := s.replica(args[0]).p.Log().Flush(); err != nil {
			s.t.Fatal(err)
		}
	case "kill": // the process: what it wrote stays
		r := s.replica(args[0])
		r.die()
		r.fs.Kill()
		s.start(r)
		s.state(r)
	case "power": // the machine: only what was synced is sure to stay
		r := s.replica(args[0])
		r.die()
		r.fs.Restart()
		s.start(r)
		s.state(r)
	case "state":
		for _, id := range s.numbers(args[0]) {
			s.state(s.replicas[id])
		}
	default:
		s.t.Fatalf("unknown command %q", name)
	}
}

func (s *stage) start(r *replica) {
	dir, err := storage.OpenDir(r.fs, "/data")
	if err == nil {
		err = dir.Claim("cluster", r.id)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	r.logs, err = storage.NewManager([]*storage.Dir{dir}, storage.ManagerConfig{RetentionInterval: time.Hour, CheckpointInterval: time.Hour,
		RecoveryThreads: 1, Cleaner: storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour}}, zerolog.Nop())
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := r.logs.Open(ident.TopicPartition{Topic: "t"}, [16]byte{1}, [16]byte{}, storage.DefaultLogConfig())
	if err != nil {
		s.t.Fatal(err)
	}
	r.p = &Partition{topic: "t", stats: new(TopicStats), id: [16]byte{1}, leaving: new(atomic.Bool)}
	r.p.log.Store(l)
	s.replicas[r.id] = r
}

// die ends the replica's goroutines as the death of its process would: nothing more is written.
func (r *replica) die() {
	r.fs.CrashAfter(0)
	_ = r.logs.Close(1)
}

func (s *stage) metadata(o map[string]string) {
	reg := &image.Partition{Replicas: []int32{1, 2, 3}, ISR: s.numbers(o["isr"]), Leader: s.number(o["leader"]), LeaderEpoch: s.number(o["epoch"]), PartitionEpoch: s.number(o["version"])}
	minInSync := 1
	if o["min"] != "" {
		minInSync = int(s.number(o["min"]))
	}
	to := []int32{1, 2, 3}
	if o["to"] != "" {
		to = s.numbers(o["to"])
	}
	for _, id := range to {
		r := s.replicas[id]
		before := r.p.Log().HighWatermark()
		f := r.p.become(reg, id, false, minInSync)
		switch l := r.p.leadership.Load(); {
		case l != nil:
			s.say("%d leads in epoch %d from %d", id, l.epoch, l.begun)
		case f != nil:
			s.say("%d follows %d in epoch %d", id, f.leader, f.epoch)
		default:
			s.say("%d waits for a leader", id)
		}
		s.moved(r, before)
	}
}

func (s *stage) moved(r *replica, before int64) {
	if high := r.p.Log().HighWatermark(); high != before {
		s.say("%d: high watermark %d -> %d", r.id, before, high)
	}
}

// produce appends a batch of the given values; acks=all unless the first is acks=1.
func (s *stage) produce(r *replica, values []string) {
	acks := int16(-1)
	if values[0] == "acks=1" {
		acks, values = 1, values[1:]
	}
	b := record.NewBuilder(record.None)
	for _, v := range values {
		b.Add(&record.Record{Timestamp: s.now.UnixMilli(), Value: []byte(v)})
	}
	data, err := b.Build()
	if err != nil {
		s.t.Fatal(err)
	}
	before := r.p.Log().HighWatermark()
	a, epoch, err := r.p.Append(data, nil, acks, s.now)
	if err != nil {
		s.say("%d: %s", r.id, code(err))
		return
	}
	s.say("%d appends %d to %d in epoch %d", r.id, a.First, a.Last, epoch)
	s.moved(r, before)
}

// fetch has a follower ask its leader once, as fetcher.round and fetching.read do.
func (s *stage) fetch(r *replica) {
	f := r.p.following
	if f == nil {
		s.t.Fatalf("%d follows nobody", r.id)
	}
	leader := s.replicas[f.leader]
	log, from := r.p.Log(), leader.p.Log()
	offset, last := log.EndOffset(), log.LatestEpoch()
	if _, err := leader.p.lead(f.epoch); err != nil {
		s.say("%d -> %d: %s", leader.id, r.id, code(err))
		return
	}
	before, leaderBefore := log.HighWatermark(), from.HighWatermark()
	if epoch, end, yes := diverges(from, last, offset); yes {
		s.say("%d -> %d: epoch %d ends at %d", leader.id, r.id, epoch, end)
		if err := r.p.diverge(epoch, end); err != nil {
			s.t.Fatal(err)
		}
		s.say("%d cuts its log at %d", r.id, log.EndOffset())
		s.moved(r, before)
		return
	}
	proposed := leader.p.fetchedBy(r.id, 1, 0, offset, s.now, func(int32, int64) bool { return true })
	s.moved(leader, leaderBefore)
	s.propose(leader, proposed)
	read, err := leader.p.read(offset, 1<<20, from.EndOffset(), true)
	if err != nil {
		s.say("%d -> %d: %s", leader.id, r.id, code(err))
		return
	}
	answer := kmsg.NewFetchResponseTopicPartition()
	answer.HighWatermark, answer.LogStartOffset = from.HighWatermark(), from.StartOffset()
	if read.Length > 0 {
		answer.RecordBatches = make([]byte, read.Length)
		if _, err := read.File.ReadAt(answer.RecordBatches, read.Offset); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := r.p.replicate(&answer); err != nil {
		s.say("%d: %s", r.id, code(err))
		return
	}
	s.say("%d has %d to %d of %d", r.id, offset, log.EndOffset(), leader.id)
	s.moved(r, before)
}

func (s *stage) propose(r *replica, p *proposal) {
	if p == nil {
		return
	}
	var isr []int32
	for _, m := range p.state.ISR {
		isr = append(isr, m.Broker)
	}
	s.say("%d proposes the ISR %v in version %d", r.id, isr, p.state.PartitionEpoch)
}

// hear tells what has become of the high watermark of a leader.
func (s *stage) hear(r *replica) {
	before := r.p.Log().HighWatermark()
	r.p.advance(0)
	s.moved(r, before)
}

func (s *stage) state(r *replica) {
	log := r.p.Log()
	var records []string
	for offset := log.StartOffset(); offset < log.EndOffset(); {
		read, err := log.Read(offset, 1<<20, log.EndOffset(), true)
		if err != nil || read.Length == 0 {
			s.t.Fatalf("no records at %d: %v", offset, err)
		}
		data := make([]byte, read.Length)
		if _, err := read.File.ReadAt(data, read.Offset); err != nil {
			s.t.Fatal(err)
		}
		for len(data) > 0 {
			b, rest, err := record.Next(data)
			if err != nil {
				s.t.Fatal(err)
			}
			list, err := b.Records(1 << 20)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, rec := range list {
				records = append(records, fmt.Sprintf("%s@%d", rec.Value, b.LeaderEpoch()))
			}
			data, offset = rest, b.LastOffset()+1
		}
	}
	s.say("%d: %v, high watermark %d", r.id, records, log.HighWatermark())
}

func code(err error) string {
	var out string
	for _, k := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.NotEnoughReplicas, kerr.OffsetOutOfRange} {
		if strings.Contains(err.Error(), k.Message) {
			out = k.Message
		}
	}
	if out == "" {
		out = err.Error()
	}
	return out
}

func (s *stage) options(args []string) map[string]string {
	known := []string{"leader", "epoch", "version", "isr", "min", "to"}
	out := map[string]string{}
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok || !slices.Contains(known, k) {
			s.t.Fatalf("what is %q?", a)
		}
		out[k] = v
	}
	return out
}

func (s *stage) replica(text string) *replica { return s.replicas[s.number(text)] }

func (s *stage) number(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		s.t.Fatal(err)
	}
	return int32(n)
}

func (s *stage) numbers(text string) (out []int32) {
	for _, t := range strings.Split(text, ",") {
		out = append(out, s.number(t))
	}
	return out
}
