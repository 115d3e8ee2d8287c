package storage

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// ManagerConfig holds the broker's settings for log directories.
type ManagerConfig struct {
	RetentionInterval  time.Duration // log.retention.check.interval.ms
	CheckpointInterval time.Duration // replica.high.watermark.checkpoint.interval.ms and log.flush.offset.checkpoint.interval.ms
	RecoveryThreads    int           // num.recovery.threads.per.data.dir
	ReserveBytes       int64         // log.dir.reserve.bytes
	Cleaner            CleanerConfig
}

// Manager owns the logs of all directories of one broker.
type Manager struct {
	fs      FS
	config  ManagerConfig
	log     zerolog.Logger
	dirs    []*Dir
	cleaner *cleaner
	stop    chan struct{}
	done    sync.WaitGroup

	mu       sync.RWMutex // guards the rest
	logs     map[TopicPartition]*placed
	placedIn map[*Dir]int // partitions, also those not opened yet
	states   map[*Dir]*dirState
	closed   bool
	doomed   []doomedFile // partition directories renamed for deletion
}

type placed struct {
	log *Log
	dir *Dir
}

// dirState is what the checkpoints said when the directory was opened.
type dirState struct {
	recovery, high, start map[TopicPartition]int64
	present               map[TopicPartition]bool
}

// NewManager reads the checkpoints of locked directories. Logs are opened by Open.
func NewManager(fsys FS, dirs []*Dir, config ManagerConfig, log zerolog.Logger) (*Manager, error) {
	m := &Manager{fs: fsys, config: config, log: log, dirs: dirs, stop: make(chan struct{}),
		logs: map[TopicPartition]*placed{}, placedIn: map[*Dir]int{}, states: map[*Dir]*dirState{}}
	for _, d := range dirs {
		if err := d.takeCleanMarker(); err != nil {
			return nil, err
		}
		st, err := m.readState(d)
		if err != nil {
			return nil, err
		}
		m.states[d] = st
		m.placedIn[d] = len(st.present)
	}
	m.watchSpace()
	m.cleaner = newCleaner(m, config.Cleaner)
	m.cleaner.start()
	m.done.Add(1)
	go m.background()
	return m, nil
}

func (m *Manager) readState(d *Dir) (*dirState, error) {
	st := &dirState{present: map[TopicPartition]bool{}}
	for _, f := range []struct {
		file string
		into *map[TopicPartition]int64
	}{{recoveryPointFile, &st.recovery}, {highWatermarkFile, &st.high}, {logStartFile, &st.start}} {
		offsets, err := readOffsets(m.fs, d.path, f.file)
		if err != nil {
			// Kafka goes on without a damaged checkpoint too: everything is scanned again.
			m.log.Warn().Err(err).Msg("ignored damaged checkpoint")
			offsets = map[TopicPartition]int64{}
		}
		*f.into = offsets
	}
	tps, doomed, err := d.partitionDirs()
	if err != nil {
		return nil, err
	}
	for _, tp := range tps {
		st.present[tp] = true
	}
	for _, name := range doomed {
		if err := m.fs.RemoveAll(filepath.Join(d.path, name)); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// ErrForeignLog says that a partition's directory holds another topic's data under the same name.
var ErrForeignLog = errors.New("directory holds another topic's data")

// Open returns the log of a partition, creating it in the directory with the fewest logs if it exists in
// none. It may be called from several goroutines for different partitions.
func (m *Manager) Open(tp TopicPartition, id [16]byte, config *LogConfig) (*Log, error) {
	m.mu.RLock()
	p := m.logs[tp]
	m.mu.RUnlock()
	if p != nil {
		if p.log.id != id {
			return nil, fmt.Errorf("%v: %w", tp, ErrForeignLog)
		}
		return p.log, nil
	}
	d := m.place(tp)
	st := m.states[d]
	path := partitionDir(d.path, tp)
	known := logState{clean: d.clean, space: &d.space, recoveryPoint: st.recovery[tp], start: st.start[tp], high: st.high[tp], compacted: m.cleaner.dirtyFrom(d, tp)}
	if st.present[tp] {
		have, ok, err := readTopicID(m.fs, path)
		if err != nil {
			return nil, err
		}
		known.identified = ok && have == id
		if ok && have != id {
			// The topic was deleted and created again while this node was away.
			if err := m.fs.Rename(path, path+"."+hex.EncodeToString(have[:])+straySuffix); err != nil {
				return nil, err
			}
			m.log.Warn().Str("partition", tp.String()).Msg("set aside data of a deleted topic of the same name")
			// What the checkpoints say is of that topic, too.
			m.cleaner.forget(d, tp)
			known = logState{clean: d.clean, space: &d.space}
		}
	}
	l, err := openLog(m.fs, d.path, tp, id, config, known, time.Now())
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logs[tp] = &placed{l, d}
	return l, nil
}

// OpenAll opens many logs with the configured number of threads a directory, calling each as they open.
func (m *Manager) OpenAll(tps []TopicPartition, open func(TopicPartition) error) error {
	var g errgroup.Group
	g.SetLimit(max(1, m.config.RecoveryThreads*len(m.dirs)))
	for _, tp := range tps {
		g.Go(func() error { return open(tp) })
	}
	return g.Wait()
}

// place chooses the directory of a partition: where it is, else the one with the fewest.
func (m *Manager) place(tp TopicPartition) *Dir {
	m.mu.Lock()
	defer m.mu.Unlock()
	best := m.dirs[0]
	for _, d := range m.dirs {
		if m.states[d].present[tp] {
			return d
		}
		if m.placedIn[d] < m.placedIn[best] {
			best = d
		}
	}
	m.placedIn[best]++
	return best
}

// Delete closes a partition's log and renames its directory; the files go after file.delete.delay.ms.
func (m *Manager) Delete(tp TopicPartition) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.logs[tp]
	if p == nil {
		return nil
	}
	delete(m.logs, tp)
	m.placedIn[p.dir]--
	st := m.states[p.dir]
	delete(st.present, tp)
	delete(st.recovery, tp)
	delete(st.high, tp)
	delete(st.start, tp)
	m.cleaner.forget(p.dir, tp)
	p.log.mu.Lock()
	p.log.closed = true
	err := p.log.closeFiles()
	delay := p.log.config.Load().DeleteDelay
	p.log.mu.Unlock()
	if err != nil {
		return err
	}
	name := tp.Topic
	suffix := fmt.Sprintf("-%d.%s%s", tp.Partition, hex.EncodeToString(p.log.id[:]), deleteSuffix)
	if len(name)+len(suffix) > 255 {
		name = name[:255-len(suffix)]
	}
	to := filepath.Join(p.dir.path, name+suffix)
	if err := m.fs.Rename(p.log.dir, to); err != nil {
		return err
	}
	m.doomed = append(m.doomed, doomedFile{to, time.Now().Add(delay)})
	return nil
}

// background applies retention and writes checkpoints until Close.
func (m *Manager) background() {
	defer m.done.Done()
	retention := time.NewTicker(m.config.RetentionInterval)
	defer retention.Stop()
	checkpoint := time.NewTicker(m.config.CheckpointInterval)
	defer checkpoint.Stop()
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	for {
		select {
		case <-m.stop:
			return
		case now := <-watch.C:
			m.watchSpace()
			m.flushDue(now)
		case now := <-retention.C:
			for _, p := range m.snapshot() {
				if err := p.log.retain(now); err != nil {
					m.log.Error().Err(err).Str("partition", p.log.tp.String()).Msg("retention failed")
				}
			}
			m.removeDoomed(now)
		case <-checkpoint.C:
			for _, p := range m.snapshot() {
				if p.log.unflushedSealed() {
					if err := p.log.Flush(); err != nil {
						m.log.Error().Err(err).Msg("flush failed")
					}
				}
			}
			if err := m.checkpoint(); err != nil {
				m.log.Error().Err(err).Msg("checkpoint failed")
			}
		}
	}
}

// watchInterval is how often free space and flush.ms are looked at.
const watchInterval = time.Second

// flushDue flushes the logs whose flush.ms has passed.
func (m *Manager) flushDue(now time.Time) {
	m.mu.RLock()
	var due []*Log
	for _, p := range m.logs {
		if c := p.log.Config(); c.FlushAge < 1<<63-1 && p.log.flushDue(now) {
			due = append(due, p.log)
		}
	}
	m.mu.RUnlock()
	for _, l := range due {
		if err := l.Flush(); err != nil {
			m.log.Error().Err(err).Msg("flush failed")
		}
	}
}

func (m *Manager) snapshot() []*placed {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]*placed, 0, len(m.logs))
	for _, p := range m.logs {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].log.tp.before(out[j].log.tp) })
	return out
}

func (m *Manager) removeDoomed(now time.Time) {
	m.mu.Lock()
	var due, left []doomedFile
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
		if err := m.fs.RemoveAll(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Error().Err(err).Msg("delete failed")
		}
	}
}

// checkpoint writes recovery points, high watermarks and moved log starts of every directory.
func (m *Manager) checkpoint() error {
	for _, d := range m.dirs {
		recovery, high, start := map[TopicPartition]int64{}, map[TopicPartition]int64{}, map[TopicPartition]int64{}
		for _, p := range m.snapshot() {
			if p.dir != d {
				continue
			}
			l := p.log
			l.mu.Lock()
			recovery[l.tp] = l.recoveryPoint
			if begin := l.start.Load(); begin > (*l.segments.Load())[0].base {
				start[l.tp] = begin
			}
			l.mu.Unlock()
			high[l.tp] = l.high.Load()
		}
		for _, f := range []struct {
			file    string
			offsets map[TopicPartition]int64
		}{{recoveryPointFile, recovery}, {highWatermarkFile, high}, {logStartFile, start}} {
			if err := writeOffsets(m.fs, d.path, f.file, f.offsets); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close closes every log and marks the directories clean. brokerEpoch goes into the marker (KIP-966).
func (m *Manager) Close(brokerEpoch int64) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	close(m.stop)
	m.cleaner.close()
	m.done.Wait()
	if err := m.closeLogs(); err != nil {
		return err
	}
	if err := m.checkpoint(); err != nil {
		return err
	}
	for _, d := range m.dirs {
		if err := d.markClean(brokerEpoch); err != nil {
			return err
		}
	}
	return nil
}

// manyLogs is from how many logs on one sync of the whole disk is cheaper than one for each file.
const manyLogs = 64

func (m *Manager) closeLogs() error {
	logs := m.snapshot()
	bulk := len(logs) >= manyLogs
	var g errgroup.Group
	g.SetLimit(max(4, m.config.RecoveryThreads*len(m.dirs)))
	for _, p := range logs {
		g.Go(func() error { return p.log.closeWith(!bulk) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if bulk {
		for _, d := range m.dirs {
			if err := m.fs.SyncFS(d.path); err != nil {
				return fmt.Errorf("sync %s: %w", d.path, err)
			}
		}
	}
	return nil
}
