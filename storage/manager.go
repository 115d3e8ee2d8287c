package storage

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"kraft/storage/logfile"
	"kraft/wire/defect"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// ManagerConfig holds the broker's settings for log directories.
type ManagerConfig struct {
	RetentionInterval  time.Duration // log.retention.check.interval.ms
	CheckpointInterval time.Duration // replica.high.watermark.checkpoint.interval.ms and log.flush.offset.checkpoint.interval.ms
	RecoveryThreads    int           // num.recovery.threads.per.data.dir
	ReserveBytes       int64         // log.dir.reserve.bytes
	NoteSyncs          bool          // syncs count for Hangs: acknowledgements wait for them
	OpenSegments       int           // files of segments open at a time; 0 is half of what the process may have
	MoveThreads        int           // num.replica.alter.log.dirs.threads
	MoveBytes          int64         // replica.alter.log.dirs.io.max.bytes.per.second
	Cleaner            CleanerConfig
}

// Manager owns the logs of all directories of one broker.
type Manager struct {
	config  ManagerConfig
	log     zerolog.Logger
	dirs    []*Dir
	cleaner *cleaner
	mover   *mover
	failed  chan *Dir     // directories that went offline
	look    chan struct{} // has room for one: disks may be fuller than thought
	dead    chan struct{} // closed when none is left
	dying   sync.Once
	stop    chan struct{}
	done    sync.WaitGroup
	claims  claims // of partitions whose directories are made, moved or removed

	// mu guards the rest. Nothing is waited for while it is held, neither disks nor logs' locks: a partition on a disk that is slow
	// must not hold up the others.
	mu       locks.RWMutex
	logs     map[ident.TopicPartition]*placed
	placedIn map[*Dir]int // partitions, also those not opened yet
	states   map[*Dir]*dirState
	watcher  Watcher
	closed   bool
	lost     map[ident.TopicPartition]bool // in directories that went offline: not to be made anew elsewhere
	damaged  bool                          // see Damaged
	doomed   []doomedDir                   // partition directories renamed for deletion
}

type placed struct {
	log *Log
	dir *Dir
}

type doomedDir struct {
	doomedFile
	dir *Dir
}

// Watcher learns what becomes of logs that are open. It is called from the manager's goroutines.
type Watcher interface {
	// DirFailed says that a directory is offline, with the partitions that had their logs there.
	DirFailed(d *Dir, lost []ident.TopicPartition)
	// Moved says that a partition's log is in another directory. Appends to the old one give ErrMoved, from
	// when Moved has returned. It is called with locks held, and must do no more than take note of the log.
	Moved(tp ident.TopicPartition, l *Log, directory [16]byte)
	// RoomChanged says that WithoutRoom lists other directories than before.
	RoomChanged()
	// Settled comes after Moved, when no locks of the manager or of logs are held: it may use the log.
	Settled(tp ident.TopicPartition)
}

// NewManager reads the checkpoints of locked directories, of which at least one must not have failed. Logs
// are opened by Open.
func NewManager(dirs []*Dir, config ManagerConfig, log zerolog.Logger) (*Manager, error) {
	m := &Manager{config: config, log: log, dirs: dirs, failed: make(chan *Dir, len(dirs)), look: make(chan struct{}, 1), dead: make(chan struct{}), stop: make(chan struct{}),
		logs: map[ident.TopicPartition]*placed{}, lost: map[ident.TopicPartition]bool{}, placedIn: map[*Dir]int{}, states: map[*Dir]*dirState{}}
	limit := config.OpenSegments
	if limit <= 0 {
		limit = min(maxOpenFiles()/2, 1<<16)
	}
	pool := &filePool{limit: limit}
	for _, d := range m.online() {
		d.pool, d.failed, d.writes.born, d.notesSyncs = pool, m.failed, time.Now(), config.NoteSyncs
		d.space.changed = func() {
			select {
			case m.look <- struct{}{}:
			default:
			}
		}
		if err := m.readState(d); err != nil {
			d.fail(err)
			m.states[d] = newDirState()
		}
	}
	m.finishMoves()
	if len(m.online()) == 0 {
		return nil, fmt.Errorf("no log directory can be used: %w", m.dirs[0].Err())
	}
	m.watchSpace()
	m.cleaner = newCleaner(m, config.Cleaner)
	m.cleaner.start()
	m.mover = newMover(m)
	m.done.Add(1)
	go m.background()
	return m, nil
}

// Configure puts other settings for compaction and moves into force, while running.
func (m *Manager) Configure(cleaner CleanerConfig, moveBytes int64) {
	m.cleaner.configure(cleaner)
	m.mover.throttle(moveBytes)
}

// AllFailed is closed when no log directory is left that works.
func (m *Manager) AllFailed() <-chan struct{} { return m.dead }

// Damaged says that a log which was opened had lost more than the end of a process takes: records of it that were acknowledged
// may be missing.
func (m *Manager) Damaged() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.damaged
}

// Watch sets who learns of failures and moves; call it before Open.
func (m *Manager) Watch(w Watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watcher = w
}

// ErrForeignLog says that a partition's directory holds another topic's data under the same name.
var ErrForeignLog = errors.New("directory holds another topic's data")

// Open returns the log of a partition: where it is, else in the directory of the given id, else, if the id
// is zero, in the directory with the fewest, as a new log. While its directory is offline it gives
// ErrDirOffline. It may be called from several goroutines for different partitions.
func (m *Manager) Open(tp ident.TopicPartition, id, directory [16]byte, config *LogConfig) (*Log, error) {
	if l, err := m.opened(tp, id); l != nil || err != nil {
		return l, err
	}
	l, err := m.openPlaced(tp, id, directory, config)
	if err != nil {
		return nil, err
	}
	m.mover.resume(l)
	return l, nil
}

// opened is the log of a partition that is open, nil if none is.
func (m *Manager) opened(tp ident.TopicPartition, id [16]byte) (*Log, error) {
	m.mu.RLock()
	p := m.logs[tp]
	m.mu.RUnlock()
	switch {
	case p == nil:
		return nil, nil
	case p.log.id != id:
		return nil, fmt.Errorf("%v: %w", tp, ErrForeignLog)
	}
	return p.log, nil
}

// Note calls note with the log of a partition that is open now, or with opened, which Open gave a moment ago, where none is: it may have
// moved to another directory since. Watcher.Moved is called before or after note, not meanwhile; note must do no more than keep the log.
func (m *Manager) Note(tp ident.TopicPartition, opened *Log, note func(*Log)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if p := m.logs[tp]; p != nil {
		opened = p.log
	}
	note(opened)
}

// openPlaced opens a log that is not open yet.
func (m *Manager) openPlaced(tp ident.TopicPartition, id, directory [16]byte, config *LogConfig) (*Log, error) {
	defer m.claims.take(tp)()
	if l, err := m.opened(tp, id); l != nil || err != nil { // by somebody else meanwhile
		return l, err
	}
	d, err := m.place(tp, directory)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", tp, err)
	}
	known := logState{clean: d.clean, space: &d.space}
	path := partitionDir(d.path, tp)
	mine, identified, err := m.holds(d, tp, id)
	if err != nil {
		return nil, err
	}
	known.identified = identified
	if mine {
		m.mu.RLock()
		st := m.states[d]
		known.recoveryPoint, known.start, known.high = st.recovery[tp], st.start[tp], st.high[tp]
		m.mu.RUnlock()
		known.compacted = m.cleaner.dirtyFrom(d, tp)
	} else if err := m.beginAnew(d, tp); err != nil {
		return nil, err
	}
	var l *Log
	err = defect.Contain("opening a log", func() (err error) {
		l, err = openLog(d.fs, path, tp, id, config, known, time.Now())
		return err
	})
	m.mu.Lock()
	delete(m.states[d].unrecovered, tp)
	if err != nil && !d.clean {
		m.states[d].unrecovered[tp] = true
	}
	m.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	if l.damaged {
		l.found = "log was damaged, and is cut off there"
	}
	if l.found != "" {
		m.log.Warn().Str("partition", tp.String()).Int64("offset", l.EndOffset()).Msg(l.found)
	}
	l.truncated = func(end int64) error { return m.truncated(tp, end) }
	m.mu.Lock()
	m.damaged = m.damaged || l.damaged
	m.logs[tp] = &placed{l, d}
	m.mu.Unlock()
	if end := l.EndOffset(); end < known.recoveryPoint {
		// It was cut, and the checkpoint still says that more is on disk.
		if err := l.truncated(end); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// holds reports whether a directory has the log of a partition, and whether partition.metadata says so: before Kafka 2.8 there
// was none. A log of another topic by that name is set aside; so is one whose partition.metadata says nothing, for that is
// synced before a record counts as being on disk.
func (m *Manager) holds(d *Dir, tp ident.TopicPartition, id [16]byte) (mine, identified bool, err error) {
	m.mu.RLock()
	present := m.states[d].present[tp]
	m.mu.RUnlock()
	if !present {
		return false, false, nil
	}
	path := partitionDir(d.path, tp)
	have, ok, err := readTopicID(d.fs, path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, false, nil
	}
	if err != nil || ok && have == id {
		return true, true, err
	}
	whose := "set aside data of a deleted topic of the same name: delete it if nobody needs it"
	if !ok {
		m.mu.RLock()
		flushed := d.clean || m.states[d].recovery[tp] > 0
		m.mu.RUnlock()
		filled, err := hasRecords(d.fs, path)
		if err != nil {
			return false, false, err
		}
		if flushed && filled {
			return false, false, fmt.Errorf("%s does not say which topic it is of, although the log beside it was on disk: the file is damaged; if the data is this topic's, write two lines into the file, \"version: 0\" and \"topic_id: %s\", otherwise move the directory away: %w",
				filepath.Join(path, partitionMetadata), base64.RawURLEncoding.EncodeToString(id[:]), kerr.KafkaStorageError)
		}
		whose = "set aside a log that was not on disk yet when the machine stopped: it does not say which topic it is of"
	}
	to, err := d.renameStray(tp)
	if err != nil {
		return false, false, err
	}
	m.log.Warn().Str("partition", tp.String()).Str("set aside", to).Msg(whose)
	return false, false, nil
}

// hasRecords reports whether a segment in a partition's directory holds any.
func hasRecords(fsys FS, dir string) (bool, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if _, ok := logfile.ParseName(e.Name(), logfile.LogSuffix); !ok {
			continue
		}
		if info, err := e.Info(); err != nil || info.Size() > 0 {
			return true, err
		}
	}
	return false, nil
}

// beginAnew sees to it that checkpoints say nothing of a partition that has no log in a directory: what they said of a
// deleted topic would be taken for the next one of its name.
func (m *Manager) beginAnew(d *Dir, tp ident.TopicPartition) error {
	st := m.states[d]
	st.writing.Lock() // a checkpoint that is being written may still name the deleted topic's log
	m.mu.Lock()
	st.forget(tp)
	named := st.checkpointed[tp]
	m.mu.Unlock()
	st.writing.Unlock()
	m.cleaner.forget(d, tp)
	if named {
		if err := m.checkpointDir(d); err != nil {
			return err
		}
	}
	return m.cleaner.settle(d)
}

// truncated writes the checkpoints of a partition's directory again after its log was cut.
func (m *Manager) truncated(tp ident.TopicPartition, end int64) error {
	m.mu.RLock()
	p := m.logs[tp]
	m.mu.RUnlock()
	if p == nil {
		return nil
	}
	if err := m.cleaner.truncated(p.dir, tp, end); err != nil {
		return err
	}
	return m.checkpointDir(p.dir)
}

// OpenAll opens many logs with the configured number of threads a directory, calling each as they open.
func (m *Manager) OpenAll(tps []ident.TopicPartition, open func(ident.TopicPartition) error) error {
	var g errgroup.Group
	g.SetLimit(max(1, m.config.RecoveryThreads*len(m.dirs)))
	for _, tp := range tps {
		g.Go(func() error { return open(tp) })
	}
	return g.Wait()
}

// Delete closes a partition's log and renames its directory; the files go after file.delete.delay.ms.
func (m *Manager) Delete(tp ident.TopicPartition) error {
	m.mover.cancel(tp)
	defer m.claims.take(tp)()
	m.mu.Lock()
	delete(m.lost, tp)
	p := m.logs[tp]
	if p != nil {
		delete(m.logs, tp)
		m.placedIn[p.dir]--
		m.states[p.dir].forget(tp)
		m.cleaner.forget(p.dir, tp)
	}
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	p.log.mu.Lock()
	p.log.closed = true
	err, created := p.log.closeFiles(), p.log.created
	p.log.mu.Unlock()
	if err != nil || !created {
		return err
	}
	return m.discard(p.log, p.dir, p.log.dir)
}

// discard renames a log's directory for deletion. The partition is claimed.
func (m *Manager) discard(l *Log, d *Dir, path string) error {
	to := suffixed(d, l.tp, unique(), deleteSuffix)
	if err := d.fs.Rename(path, to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doomed = append(m.doomed, doomedDir{doomedFile{to, time.Now().Add(l.config.Load().DeleteDelay)}, d})
	return nil
}

// suffixed is the path of a partition's directory that is not, or no longer, its log: <topic>-<n>.<id><suffix>,
// with the topic cut where the name would be too long.
// Where there may be several of one topic, id is not the topic's, but unique.
func suffixed(d *Dir, tp ident.TopicPartition, id [16]byte, suffix string) string {
	end := fmt.Sprintf("-%d.%s%s", tp.Partition, hex.EncodeToString(id[:]), suffix)
	return filepath.Join(d.path, tp.Topic[:min(len(tp.Topic), 255-len(end))]+end)
}

// unique is an id that nothing else has: a replica that was moved away may come back, and go again, before its first log is deleted.
func unique() (id [16]byte) {
	_, _ = rand.Read(id[:])
	return id
}

// background applies retention and writes checkpoints until Close.
func (m *Manager) background() {
	defer m.done.Done()
	retention := ticker(m.config.RetentionInterval)
	defer retention.Stop()
	checkpoint := ticker(m.config.CheckpointInterval)
	defer checkpoint.Stop()
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	for {
		select {
		case <-m.stop:
			return
		case d := <-m.failed:
			m.dirFailed(d)
		case <-m.look:
			m.watchSpace()
		case now := <-watch.C:
			m.watchSpace()
			m.flushDue(now)
		case now := <-retention.C:
			for _, p := range m.snapshot() {
				if err := p.log.retain(now); err != nil {
					defect.Tell(&m.log, err).Str("partition", p.log.tp.String()).Msg("retention failed")
				}
			}
			m.removeDoomed(now)
		case <-checkpoint.C:
			for _, p := range m.snapshot() {
				if p.log.unflushedSealed() {
					m.flush(p.log)
				}
			}
			if err := m.checkpoint(); err != nil {
				m.log.Error().Err(err).Msg("checkpoint failed")
			}
		}
	}
}

// ticker ticks at an interval; where there is none, as good as never.
func ticker(d time.Duration) *time.Ticker {
	if d <= 0 {
		d = math.MaxInt64
	}
	return time.NewTicker(d)
}

// watchInterval is how often free space and flush.ms are looked at.
const watchInterval = time.Second

// flushDue flushes the logs whose flush.ms has passed.
func (m *Manager) flushDue(now time.Time) {
	for _, p := range m.snapshot() {
		if p.log.Config().FlushAge < 1<<63-1 && p.log.flushDue(now) {
			m.flush(p.log)
		}
	}
}

// flush flushes a log in the background, which may be deleted or moved meanwhile.
func (m *Manager) flush(l *Log) {
	if err := l.Flush(); err != nil && !errors.Is(err, ErrMoved) && !errors.Is(err, kerr.NotLeaderForPartition) {
		m.log.Error().Err(err).Msg("flush failed")
	}
}

// snapshot lists the logs in directories that work, by partition.
func (m *Manager) snapshot() []*placed {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]*placed, 0, len(m.logs))
	for _, p := range m.logs {
		if p.dir.failure.Load() == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *placed) int { return a.log.tp.Compare(b.log.tp) })
	return out
}

func (m *Manager) removeDoomed(now time.Time) {
	m.mu.Lock()
	var due, left []doomedDir
	for _, d := range m.doomed {
		if now.Before(d.due) {
			left = append(left, d)
		} else {
			due = append(due, d)
		}
	}
	m.doomed = left
	m.mu.Unlock()
	for _, d := range due {
		if err := d.dir.fs.RemoveAll(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDirOffline) {
			m.log.Error().Err(err).Msg("delete failed")
		}
	}
}

// checkpoint writes recovery points, high watermarks and moved log starts of every directory.
func (m *Manager) checkpoint() error {
	var failed error
	for _, d := range m.online() {
		if err := m.checkpointDir(d); err != nil && d.offline() == nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (m *Manager) checkpointDir(d *Dir) error {
	return m.writeCheckpoints(d, recoveryPointFile, highWatermarkFile, logStartFile)
}

// writeCheckpoints writes some of a directory's checkpoint files.
func (m *Manager) writeCheckpoints(d *Dir, files ...string) error {
	st := m.states[d]
	st.writing.Lock()
	defer st.writing.Unlock()
	offsets := m.offsetsIn(d)
	named := map[ident.TopicPartition]bool{}
	for _, file := range offsets {
		for tp := range file {
			named[tp] = true
		}
	}
	m.mu.Lock()
	maps.Copy(st.checkpointed, named) // also if writing fails: part of it may be on disk
	m.mu.Unlock()
	for _, f := range files {
		if err := writeOffsets(d.fs, d.path, f, offsets[f]); err != nil {
			return err
		}
	}
	if len(files) == len(offsets) {
		m.mu.Lock()
		st.checkpointed = named
		m.mu.Unlock()
	}
	return nil
}

// offsetsIn is what the checkpoint files of a directory are to say, by their names. The directory's writing is held.
func (m *Manager) offsetsIn(d *Dir) map[string]map[ident.TopicPartition]int64 {
	st := m.states[d]
	recovery, high, start := map[ident.TopicPartition]int64{}, map[ident.TopicPartition]int64{}, map[ident.TopicPartition]int64{}
	for _, p := range m.snapshot() {
		if p.dir != d {
			continue
		}
		l := p.log
		l.mu.Lock()
		recovery[l.tp] = l.recoveryPoint.Load()
		if begin := l.start.Load(); l.restarting >= 0 {
			start[l.tp] = l.restarting
		} else if begin > (*l.segments.Load())[0].base {
			start[l.tp] = begin
		} else if deleted := l.deleted.Load(); deleted > 0 {
			start[l.tp] = min(deleted, begin)
		}
		l.mu.Unlock()
		high[l.tp] = l.high.Load()
	}
	m.mu.RLock() // what is not open yet stays as it was
	for tp := range st.present {
		if m.logs[tp] != nil {
			continue
		}
		for _, f := range []struct {
			from, to map[ident.TopicPartition]int64
		}{{st.recovery, recovery}, {st.high, high}, {st.start, start}} {
			if o, ok := f.from[tp]; ok {
				f.to[tp] = o
			}
		}
	}
	m.mu.RUnlock()
	return map[string]map[ident.TopicPartition]int64{recoveryPointFile: recovery, highWatermarkFile: high, logStartFile: start}
}

// Close closes every log and marks the directories clean, those that work. brokerEpoch goes into the marker
// (KIP-966). A directory that fails only now is an error.
func (m *Manager) Close(brokerEpoch int64) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	online := m.online()
	close(m.stop)
	m.mover.close()
	m.cleaner.close()
	m.done.Wait()
	if err := m.closeLogs(); err != nil {
		return err
	}
	if err := m.checkpoint(); err != nil {
		return err
	}
	for _, d := range online {
		if err := d.offline(); err != nil {
			return err
		}
		if len(m.states[d].unrecovered) > 0 {
			continue // the next start has to look at them
		}
		if err := d.markClean(brokerEpoch); err != nil {
			return err
		}
	}
	return nil
}

// manyLogs is from how many logs on one sync of the whole disk is cheaper than one for each file.
const manyLogs = 64

func (m *Manager) closeLogs() error {
	m.mu.RLock()
	all := make([]*placed, 0, len(m.logs))
	for _, p := range m.logs {
		all = append(all, p)
	}
	m.mu.RUnlock()
	bulk := len(all) >= manyLogs
	var g errgroup.Group
	g.SetLimit(max(4, m.config.RecoveryThreads*len(m.dirs)))
	for _, p := range all {
		g.Go(func() error {
			err := p.log.closeWith(!bulk)
			if p.dir.offline() != nil {
				return nil // the next start has to look at all of it
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if bulk {
		for _, d := range m.online() {
			if err := d.fs.SyncFS(d.path); err != nil && d.offline() == nil {
				return fmt.Errorf("sync %s: %w", d.path, err)
			}
		}
	}
	return nil
}
