package storage_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/ident"
	"kraft/wire/record"
)

// together is one partition, which many goroutines use at once. Its log changes when it moves, and when it is deleted and created again.
type together struct {
	tp   ident.TopicPartition
	log  atomic.Pointer[storage.Log]
	sent atomic.Int64

	role  sync.RWMutex // held while the log is appended to, and exclusively while it is cut or deleted, as by replication
	epoch int32        // guarded by role

	mu   sync.Mutex
	want map[int64]string // values by offset, guarded by mu
}

// TestTogether: appends, reads, lookups, commits, truncations, deletions of records and of partitions, moves, changed settings, retention,
// compaction and checkpoints of several partitions at once. The race detector looks. At the end, every log can be opened again, and every
// record in it is the one that was written there last.
func TestTogether(t *testing.T) {
	fs := faultfs.New(1)
	parts := map[ident.TopicPartition]*together{}
	for n := range int32(4) {
		tp := ident.TopicPartition{Topic: "t", Partition: n}
		parts[tp] = &together{tp: tp, want: map[int64]string{}}
	}
	w := &watcher{parts: parts}
	paths := []string{"/a", "/b", "/c"}
	open := func(openSegments int) (*storage.Manager, []*storage.Dir) {
		var dirs []*storage.Dir
		for _, p := range paths {
			d, err := storage.OpenDir(fs, p)
			if err == nil {
				err = d.Claim("cluster", 1)
			}
			if err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, d)
		}
		m, err := storage.NewManager(dirs, storage.ManagerConfig{RetentionInterval: 5 * time.Millisecond, CheckpointInterval: 5 * time.Millisecond, RecoveryThreads: 2,
			MoveThreads: 2, OpenSegments: openSegments, ReserveBytes: 1, NoteSyncs: true, Cleaner: storage.CleanerConfig{Threads: 2, Memory: 1 << 20, Backoff: 10 * time.Millisecond}}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		m.Watch(w)
		return m, dirs
	}
	config := func(n, segment int) *storage.LogConfig { // odd partitions are never compacted
		c := storage.DefaultLogConfig()
		c.SegmentBytes, c.IndexInterval = int64(segment)<<10, 256
		c.Compact, c.Delete, c.MinDirtyRatio = n%2 == 0, n%2 == 1, 0.01
		c.RetentionBytes, c.DeleteDelay = 64<<10, time.Millisecond
		c.FlushMessages = 50
		return c
	}
	m, dirs := open(8)
	place := func(p *together) {
		l, err := m.Open(p.tp, historyID, dirs[int(p.tp.Partition)%3].Meta().DirectoryID, config(int(p.tp.Partition), 4))
		if err != nil {
			t.Fatal(err)
		}
		p.log.Store(l)
	}
	for _, p := range parts {
		place(p)
	}
	stop := make(chan struct{})
	var users sync.WaitGroup
	use := func(pause time.Duration, do func(r *rand.Rand)) {
		seed := uint64(len(paths))
		users.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(pause)))
			for {
				select {
				case <-stop:
					return
				case <-time.After(pause):
					do(r)
				}
			}
		})
	}
	for _, p := range parts {
		for writer := range int64(2) {
			seq := int32(0)
			use(20*time.Microsecond, func(r *rand.Rand) {
				p.role.RLock()
				defer p.role.RUnlock()
				value := fmt.Sprintf("%50d", r.Int64())
				b := record.NewBuilder(record.None)
				b.ProducerID, b.ProducerEpoch, b.BaseSequence = writer+1, 0, seq
				b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Append(nil, r.IntN(50)), Value: []byte(value)})
				data, err := b.Build()
				if err != nil {
					panic(err)
				}
				l := p.log.Load()
				if a, err := l.Append(data, p.epoch, time.Now()); err == nil {
					seq++
					if !a.Duplicate { // of a batch that was sent before the sequence began again
						p.mu.Lock()
						p.want[a.First] = value
						p.mu.Unlock()
					}
					p.sent.Add(1)
					l.SetHighWatermark(l.EndOffset())
				} else {
					seq = 0 // moved, truncated or created again: the log may not know this producer any more
				}
			})
		}
		use(50*time.Microsecond, func(r *rand.Rand) {
			l := p.log.Load()
			start, end := l.StartOffset(), l.EndOffset()
			if s, err := l.Read(start+r.Int64N(end-start+1), 8<<10, end, true); err == nil && s.Length > 0 {
				_, _ = s.File.ReadAt(make([]byte, s.Length), s.Offset)
			}
			_, _, _ = l.OffsetForTime(time.Now().UnixMilli()-r.Int64N(500), end)
			_, _, _ = l.MaxTimestamp(end)
			_ = l.SegmentOffsets(time.Now().UnixMilli(), end)
			_, _ = l.EpochEndOffset(0)
			_, _ = l.AbortedTransactions(start, end)
			_, _, _ = l.Producers(), l.Size(), l.LastStableOffset()
		})
		use(200*time.Microsecond, func(*rand.Rand) {
			l := p.log.Load()
			_ = l.Commit(l.EndOffset())
			_ = l.Durable()
		})
		use(3*time.Millisecond, func(r *rand.Rand) {
			l := p.log.Load()
			switch start, end := l.StartOffset(), l.EndOffset(); r.IntN(6) {
			case 0:
				_, _ = l.DeleteBefore(start+r.Int64N(end-start+1), time.Now())
			case 1: // another leads now
				p.role.Lock()
				defer p.role.Unlock()
				end = l.EndOffset()
				if cut, err := l.Truncate(end - r.Int64N(min(end-start, 20)+1)); err == nil {
					p.epoch++
					l.AssignEpoch(p.epoch)
					maps.DeleteFunc(p.want, func(offset int64, _ string) bool { return offset >= cut })
				}
			case 2:
				l.SetConfig(config(int(p.tp.Partition), 2+r.IntN(4)))
			case 3:
				_ = l.Flush()
			case 4:
				_, _ = l.LatestEpoch(), l.EpochAt(end)
			case 5:
				_ = m.KeepStart(p.tp)
			}
		})
		use(20*time.Millisecond, func(r *rand.Rand) { _ = m.Move(p.tp, paths[r.IntN(3)]) })
		if p.tp.Partition == 3 {
			use(30*time.Millisecond, func(*rand.Rand) {
				p.role.Lock()
				defer p.role.Unlock()
				if err := m.Delete(p.tp); err != nil {
					t.Error(err)
				}
				clear(p.want)
				place(p)
			})
		}
	}
	use(time.Millisecond, func(r *rand.Rand) {
		_, _, _ = m.Usage(), m.Room(), m.OnlineDirectories()
		_, _ = m.Hangs()
		_, _ = m.WithoutRoom()
		_, _ = m.DirectoryOf(ident.TopicPartition{Topic: "t"})
		_ = m.KeepStarts()
		m.Configure(storage.CleanerConfig{Threads: 1 + r.IntN(2), Memory: 1 << 20, Backoff: 10 * time.Millisecond, ReadWrite: 1e9}, 1e9)
	})
	time.Sleep(time.Second)
	close(stop)
	users.Wait()
	ends := map[ident.TopicPartition]int64{}
	for tp, p := range parts {
		if p.sent.Load() == 0 {
			t.Errorf("%v: nothing was appended", tp)
		}
		ends[tp] = p.log.Load().EndOffset()
	}
	if err := errors.Join(m.Close(1), dirs[0].Close(), dirs[1].Close(), dirs[2].Close()); err != nil {
		t.Fatal(err)
	}
	m, dirs = open(0)
	for tp, p := range parts {
		at, ok := m.DirectoryOf(tp)
		if !ok {
			at = dirs[0].Meta().DirectoryID
		}
		l, err := m.Open(tp, historyID, at, config(int(tp.Partition), 4))
		if err != nil {
			t.Fatal(err)
		}
		p.log.Store(l)
		if l.EndOffset() < l.StartOffset() {
			t.Errorf("%v ends at %d, before its start %d", tp, l.EndOffset(), l.StartOffset())
		}
		found := map[int64]string{}
		if err := eachValue(l, func(offset int64, value string) { found[offset] = value }); err != nil {
			t.Errorf("%v: %v", tp, err)
		}
		for offset, value := range found {
			if value != p.want[offset] {
				t.Errorf("%v at %d: %q, not %q", tp, offset, value, p.want[offset])
			}
		}
		if tp.Partition%2 == 0 { // compacted
			continue
		}
		if l.EndOffset() != ends[tp] {
			t.Errorf("%v ends at %d, not %d", tp, l.EndOffset(), ends[tp])
		}
		for offset := range p.want {
			if _, there := found[offset]; !there && offset >= l.StartOffset() {
				t.Errorf("%v: offset %d is missing", tp, offset)
			}
		}
	}
	if err := errors.Join(m.Close(1), dirs[0].Close(), dirs[1].Close(), dirs[2].Close()); err != nil {
		t.Fatal(err)
	}
}

// watcher notes where the logs of parts are.
type watcher struct {
	parts map[ident.TopicPartition]*together
}

func (w *watcher) DirFailed(*storage.Dir, []ident.TopicPartition) {}
func (w *watcher) RoomChanged()                                   {}
func (w *watcher) Settled(ident.TopicPartition)                   {}
func (w *watcher) Moved(tp ident.TopicPartition, l *storage.Log, _ [16]byte) {
	w.parts[tp].log.Store(l)
}
