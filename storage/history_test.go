package storage_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/ident"
	"kraft/wire/record"
)

var (
	histories = flag.Int("histories", 10_000, "random histories of a log on a bad disk")
	seed      = flag.Uint64("seed", 0, "play only the history of this seed")
)

// TestHistories plays random histories of one log on a disk that loses what was not synced, tears writes,
// fails and fills up. After each crash: what was synced is there and intact; what was not is intact or
// absent as a suffix.
func TestHistories(t *testing.T) {
	if *seed != 0 {
		play(t, *seed, true)
		return
	}
	n := *histories
	if testing.Short() {
		n /= 20
	}
	for s := range uint64(n) {
		play(t, s+1, false)
		if t.Failed() {
			t.Fatalf("history %d failed: go test ./storage -run TestHistories -seed %d", s+1, s+1)
		}
	}
}

// history is one log and what should be in it.
type history struct {
	t   *testing.T
	rng *rand.Rand
	fs  *faultfs.FS
	now time.Time
	log *storage.Log
	m   *storage.Manager
	dir *storage.Dir

	config  *storage.LogConfig
	model   []rec           // by offset
	ghosts  map[int64][]rec // by offset: of appends that failed, which a crash may bring back
	start   int64           // of the log, as far as it was moved
	synced  int64           // everything below was on disk at some time
	sure    int64           // the log end at the last kill or clean stop: the page cache had it
	cleaned int64           // compacted up to here
	tried   int64           // what a compaction may have read
	seq     int32
	story   []string
}

type rec struct {
	key   string
	value string // "" is a tombstone
	seq   int32  // of the idempotent producer, -1 for other records
}

var (
	historyTP = ident.TopicPartition{Topic: "h", Partition: 0}
	historyID = [16]byte{9}
)

const producer = 77

func play(t *testing.T, seed uint64, verbose bool) {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 2)), fs: faultfs.New(seed), now: time.UnixMilli(1_700_000_000_000), ghosts: map[int64][]rec{}}
	c := storage.DefaultLogConfig()
	c.SegmentBytes, c.IndexInterval, c.DeleteDelay = 400+h.rng.Int64N(2000), h.rng.Int64N(300), 0
	c.Compact = h.rng.IntN(2) == 0
	c.Delete = !c.Compact
	c.DeleteRetention = time.Duration(h.rng.IntN(3)) * time.Hour
	c.TimestampAfter = 1 << 62
	h.config = c
	defer func() {
		if verbose || t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(h.story, "\n"))
		}
		if h.m != nil {
			h.m.Abandon()
		}
	}()
	h.open()
	for range 10 + h.rng.IntN(40) {
		if t.Failed() {
			return
		}
		h.step()
	}
	h.crash()
	h.check()
}

func (h *history) say(format string, args ...any) {
	h.story = append(h.story, fmt.Sprintf(format, args...))
}

func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.say("FAILED: "+format, args...)
	h.t.Errorf(format, args...)
}

func (h *history) open() {
	d, err := storage.OpenDir(h.fs, "/data")
	if err == nil {
		err = d.Claim("cluster", 1)
	}
	if err == nil {
		h.m, err = storage.NewManager([]*storage.Dir{d}, storage.ManagerConfig{
			RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 1,
			Cleaner: storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour},
		}, zerolog.Nop())
	}
	if err == nil {
		h.dir = d
		h.log, err = h.m.Open(historyTP, historyID, [16]byte{}, h.config)
	}
	switch {
	case err == nil:
		h.log.SetHighWatermark(h.log.EndOffset())
	case h.fs.Crashed() || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC):
		h.say("open fails: %v", err)
		h.fs.Fail, h.fs.Capacity = nil, 0
		h.crash()
	default:
		h.fail("open: %v", err)
	}
}

// dead says that the machine crashed under an operation, and brings it up again.
func (h *history) dead() bool {
	if !h.fs.Crashed() {
		return false
	}
	h.crash()
	h.check()
	return true
}

func (h *history) step() {
	h.now = h.now.Add(time.Duration(h.rng.IntN(600)) * time.Second)
	switch r := h.rng.IntN(100); {
	case r < 50:
		h.append()
	case r < 60:
		end := h.log.EndOffset()
		if err := h.log.Flush(); err == nil {
			h.synced = max(h.synced, end)
			h.say("flush up to %d", end)
		} else {
			h.say("flush fails: %v", err)
		}
	case r < 65:
		h.say("checkpoint: %v", h.m.Checkpoint())
	case r < 70:
		to := h.start + h.rng.Int64N(h.log.EndOffset()-h.start+1)
		got, err := h.log.DeleteBefore(to, h.now)
		h.say("delete before %d: %d, %v", to, got, err)
		h.start = max(h.start, to)
	case r < 75:
		h.say("retain: %v", h.log.Retain(h.now))
		h.start = max(h.start, h.log.StartOffset())
	case r < 82 && h.config.Compact:
		h.tried = h.log.EndOffset()
		next, err := h.log.Compact(h.cleaned, 1<<20, h.now)
		h.say("compact from %d to %d: %v", h.cleaned, next, err)
		if err == nil {
			h.cleaned = next
		}
	case r < 84:
		h.truncate()
	case r < 87:
		h.say("roll: %v", h.log.Roll(h.now))
	case r < 90:
		h.fs.CrashAfter(h.rng.IntN(30))
		h.say("a crash is near")
	case r < 93:
		h.restart()
	case r < 95:
		h.kill()
	case r < 98:
		h.trouble()
	default:
		h.crash()
		h.check()
	}
	h.dead()
}

// truncate drops what a new leader does not have.
func (h *history) truncate() {
	if len(h.model) == 0 {
		return
	}
	to := h.start + h.rng.Int64N(int64(len(h.model))-h.start+1)
	if h.config.Compact {
		to = max(to, h.tried+3) // nothing compacted is ever cut: it was replicated
	}
	if to > int64(len(h.model)) {
		return
	}
	end, err := h.log.Truncate(to)
	h.say("truncate to %d: %d, %v", to, end, err)
	if err != nil {
		end = max(h.start, to-3)                     // a batch goes as a whole
		for o := end; o < int64(len(h.model)); o++ { // it may have got any far
			h.ghosts[o] = append(h.ghosts[o], h.model[o])
		}
	}
	if end < int64(len(h.model)) {
		h.model = h.model[:end]
	}
	h.synced, h.sure, h.start, h.cleaned = min(h.synced, end), min(h.sure, end), min(h.start, end), min(h.cleaned, end)
	h.seq = 0
	for _, r := range h.model {
		if r.seq >= 0 {
			h.seq = r.seq + 1
		}
	}
	if err != nil { // its follower gives the partition up until the next start
		h.kill()
	}
}

func (h *history) append() {
	w := record.NewBuilder(record.Codec(h.rng.IntN(2)))
	n := 1 + h.rng.IntN(4)
	if h.rng.IntN(3) == 0 {
		w.ProducerID, w.ProducerEpoch, w.BaseSequence = producer, 0, h.seq
	}
	var added []rec
	for i := range n {
		r := rec{key: fmt.Sprintf("k%d", h.rng.IntN(6)), value: fmt.Sprintf("v%d", h.rng.Uint32()), seq: -1}
		if w.ProducerID == producer {
			r.seq = h.seq + int32(i)
		}
		out := record.Record{Timestamp: h.now.UnixMilli(), Key: []byte(r.key), Value: []byte(r.value)}
		if h.config.Compact && h.rng.IntN(5) == 0 {
			r.value, out.Value = "", nil
		}
		added = append(added, r)
		w.Add(&out)
	}
	b, err := w.Build()
	if err != nil {
		h.t.Fatal(err)
	}
	a, err := h.log.Append(b, 0, h.now)
	if err != nil {
		h.say("append fails %v: %v", added, err)
		for i, r := range added {
			o := int64(len(h.model) + i)
			h.ghosts[o] = append(h.ghosts[o], r)
		}
		if !h.fs.Crashed() && h.log.EndOffset() != int64(len(h.model)) {
			h.fail("a failed append moved the end to %d, model has %d", h.log.EndOffset(), len(h.model))
		}
		return
	}
	if a.First != int64(len(h.model)) {
		h.fail("appended at %d, want %d", a.First, len(h.model))
	}
	if w.ProducerID == producer {
		h.seq += int32(n)
	}
	h.model = append(h.model, added...)
	h.log.SetHighWatermark(h.log.EndOffset())
	h.say("append %d at %d %v", n, a.First, added)
}

// trouble makes operations fail for a while.
func (h *history) trouble() {
	if h.fs.Fail != nil || h.fs.Capacity > 0 {
		h.fs.Fail, h.fs.Capacity = nil, 0
		h.say("the disk is well again")
		h.restart()
		return
	}
	if h.rng.IntN(3) == 0 {
		h.fs.Capacity = 1000 + h.rng.Int64N(10_000)
		h.say("the disk has %d bytes", h.fs.Capacity)
		return
	}
	rate := 2 + h.rng.IntN(20)
	rng := rand.New(rand.NewPCG(h.rng.Uint64(), 3))
	fault := []error{syscall.EIO, syscall.EINVAL}[h.rng.IntN(2)] // the disk's, or of one operation only
	h.fs.Fail = func(op faultfs.Op, _ string) error {
		if op != faultfs.Read && rng.IntN(rate) == 0 {
			return fault
		}
		return nil
	}
	h.say("one operation in %d fails: %v", rate, fault)
}

func (h *history) restart() {
	err := h.m.Close(1)
	h.m = nil
	h.say("stop: %v", err)
	if err != nil || h.dir.Err() != nil { // what a clean stop could not write, an unclean one leaves
		h.kill()
		return
	}
	_ = h.dir.Close()
	h.sure, h.synced = int64(len(h.model)), int64(len(h.model))
	h.open()
	h.check()
}

// kill ends the process; the page cache lives on.
func (h *history) kill() {
	if h.fs.Crashed() {
		return // step sees to it
	}
	h.say("kill")
	if h.m != nil {
		h.m.Abandon()
		h.m = nil
	}
	h.sure = int64(len(h.model))
	h.fs.Fail, h.fs.Capacity = nil, 0
	h.fs.Kill()
	h.open()
	h.check()
}

// crash takes the power away.
func (h *history) crash() {
	h.say("crash")
	if h.m != nil {
		h.m.Abandon()
		h.m = nil
	}
	h.sure = h.synced
	h.fs.Fail, h.fs.Capacity = nil, 0
	h.fs.Restart()
	h.open()
}

// check reads the whole log and holds it against the model.
func (h *history) check() {
	if h.t.Failed() || h.fs.Crashed() || h.log == nil {
		return
	}
	start, end := h.log.StartOffset(), h.log.EndOffset()
	h.say("log from %d to %d", start, end)
	if end < h.sure {
		h.fail("log ends at %d; %d was certain, %d were written", end, h.sure, len(h.model))
		return
	}
	if start > h.start {
		h.fail("log starts at %d, nothing beyond %d was deleted", start, h.start)
	}
	got := map[int64]bool{}
	for offset := start; offset < end; {
		s, err := h.log.Read(offset, 1000, end, true)
		if err != nil {
			h.fail("read at %d: %v", offset, err)
			return
		}
		if s.Length == 0 {
			break // compacted away at the end
		}
		next, err := h.readSlice(s, offset, got)
		if err != nil {
			h.fail("read at %d: %v", offset, err)
			return
		}
		if next <= offset {
			h.fail("read at %d brings nothing", offset)
			return
		}
		offset = next
	}
	if end > int64(len(h.model)) {
		h.fail("log ends at %d, %d were written", end, len(h.model))
		return
	}
	newest := map[string]int64{}
	for o := start; o < end; o++ {
		newest[h.model[o].key] = o
	}
	for o := start; o < end; o++ {
		r := h.model[o]
		must := !h.config.Compact || newest[r.key] == o && r.value != ""
		if must && !got[o] {
			h.fail("record %d (%s) is gone", o, r.key)
			return
		}
	}
	h.model = h.model[:end]
	h.start = min(h.start, start)
	h.synced, h.cleaned = min(h.synced, end), min(h.cleaned, end)
	h.seq = h.sequence()
}

// compare holds a record against the model. Where nothing was certain, it may be one of an append that
// failed.
func (h *history) compare(r record.Record) error {
	same := func(want rec) bool { return string(r.Key) == want.key && string(r.Value) == want.value }
	if r.Offset < int64(len(h.model)) && same(h.model[r.Offset]) {
		return nil
	}
	if r.Offset >= h.sure && r.Offset <= int64(len(h.model)) {
		for _, g := range h.ghosts[r.Offset] {
			if same(g) {
				h.model = append(h.model[:r.Offset], g) // what came after it in the model was lost
				return nil
			}
		}
	}
	if r.Offset >= int64(len(h.model)) {
		return fmt.Errorf("record %d was never written", r.Offset)
	}
	want := h.model[r.Offset]
	return fmt.Errorf("record %d is %s=%s, want %s=%s", r.Offset, r.Key, r.Value, want.key, want.value)
}

// sequence is the idempotent producer's next one, by what is left of the log.
func (h *history) sequence() int32 {
	next := int32(0)
	for _, r := range h.model {
		next = max(next, r.seq+1)
	}
	return next
}

func (h *history) readSlice(s storage.Slice, offset int64, got map[int64]bool) (int64, error) {
	buf := make([]byte, s.Length)
	if _, err := s.File.ReadAt(buf, s.Offset); err != nil {
		return 0, err
	}
	for len(buf) > 0 {
		b, rest, err := record.Next(buf)
		if errors.Is(err, record.ErrTruncated) {
			break
		}
		if err != nil {
			return 0, err
		}
		if err := b.Check(); err != nil {
			return 0, err
		}
		records, err := b.Records(1 << 20)
		if err != nil {
			return 0, err
		}
		for _, r := range records {
			if r.Offset < offset {
				continue
			}
			if err := h.compare(r); err != nil {
				return 0, err
			}
			got[r.Offset] = true
		}
		offset = b.LastOffset() + 1
		buf = rest
	}
	return offset, nil
}
