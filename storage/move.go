package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/time/rate"

	"kraft/storage/logfile"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// A log moves to another directory while it is in use (KIP-113). Its records are copied into a future log,
// in a directory named <topic>-<n>.<id>-future; when that has all of them it takes the log's place, while
// appends wait:
//
//  1. the future log is synced. A crash: it is copied on at the next start.
//  2. the log's directory is renamed to -moved. A crash: the future log is whole, the rest is done at the start.
//  3. the future log's directory gets the partition's name. A crash: what is -moved goes.
//  4. the -moved directory is renamed for deletion, and appends go on.

// ErrMoved refuses an append to a log that has just moved to another directory: the same append to the log
// that Watcher.Moved told of will do.
var ErrMoved = fmt.Errorf("the log has moved to another directory: %w", kerr.NotLeaderForPartition)

// copyBytes is how much is copied at a time, and how little is left when appends begin to wait.
const copyBytes = 1 << 20

// mover runs the moves of a manager.
type mover struct {
	manager *Manager
	limit   *rate.Limiter
	done    sync.WaitGroup

	mu      locks.Mutex // guards the rest
	moves   map[ident.TopicPartition]*move
	waiting []*move
	running int
	closed  bool
}

// move is one partition on its way.
type move struct {
	log    *Log // as it was when the move began
	from   *Dir
	to     *Dir
	path   string // of the future log
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	mu     locks.Mutex
	future *Log // once opened
}

func newMover(m *Manager) *mover {
	v := &mover{manager: m, moves: map[ident.TopicPartition]*move{}, limit: rate.NewLimiter(rate.Inf, copyBytes)}
	v.throttle(m.config.MoveBytes)
	return v
}

// throttle bounds what all moves together copy, in bytes per second; 0 is no bound.
func (v *mover) throttle(bytes int64) {
	if bytes <= 0 || bytes > 1<<50 {
		v.limit.SetLimit(rate.Inf)
		return
	}
	v.limit.SetLimit(rate.Limit(bytes))
}

// Move begins to move a partition's log to the directory with the given path, or ends its move if it is
// there already (AlterReplicaLogDirs). Errors wrap kerr.LogDirNotFound, kerr.KafkaStorageError,
// kerr.ReplicaNotAvailable or kerr.InvalidTopicException.
func (m *Manager) Move(tp ident.TopicPartition, path string) error {
	to, err := m.dirAt(path)
	if err != nil {
		return err
	}
	m.mu.RLock()
	p := m.logs[tp]
	m.mu.RUnlock()
	switch {
	case p == nil:
		return fmt.Errorf("%v has no log on this broker: %w", tp, kerr.ReplicaNotAvailable)
	case p.dir == to:
		m.mover.cancel(tp)
		return nil
	}
	future := suffixed(to, tp, p.log.id, futureSuffix)
	if got, ok := ident.ParseTopicPartition(trimSuffixes(filepath.Base(future))); !ok || got != tp {
		return fmt.Errorf("The topic name is too long.: %w", kerr.InvalidTopicException)
	}
	return m.mover.begin(p, to, future)
}

// CheckDir says why no log can be moved to a directory, whatever log.
func (m *Manager) CheckDir(path string) error {
	_, err := m.dirAt(path)
	return err
}

func (m *Manager) dirAt(path string) (*Dir, error) {
	for _, d := range m.dirs {
		if filepath.Clean(d.path) == filepath.Clean(path) {
			return d, d.offline()
		}
	}
	return nil, fmt.Errorf("%s is none of this broker's log directories: %w", path, kerr.LogDirNotFound)
}

// trimSuffixes leaves <topic>-<n> of <topic>-<n>.<id>-future.
func trimSuffixes(name string) string {
	return name[:len(name)-len(filepath.Ext(name))]
}

// resume goes on with a move that was under way when the process ended.
func (v *mover) resume(l *Log) {
	m := v.manager
	m.mu.Lock()
	p := m.logs[l.tp]
	var to *Dir
	var path string
	for _, d := range m.online() {
		if f, ok := m.states[d].future[l.tp]; ok {
			to, path = d, f
			delete(m.states[d].future, l.tp)
		}
	}
	m.mu.Unlock()
	if to == nil || p == nil {
		return
	}
	id, ok, err := readTopicID(to.fs, path)
	if err != nil || !ok || id != l.id || p.dir == to {
		_ = to.fs.RemoveAll(path) // of another topic, or begun and no more
		return
	}
	if err := v.begin(p, to, path); err != nil {
		m.log.Error().Err(err).Str("partition", l.tp.String()).Msg("cannot go on with the move to another directory")
	}
}

func (v *mover) begin(p *placed, to *Dir, path string) error {
	v.mu.Lock()
	if old := v.moves[p.log.tp]; old != nil {
		if old.to == to || v.closed {
			v.mu.Unlock()
			return nil
		}
		v.mu.Unlock()
		v.cancel(p.log.tp)
		v.mu.Lock()
	}
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	mv := &move{log: p.log, from: p.dir, to: to, path: path, ended: make(chan struct{})}
	mv.ctx, mv.cancel = context.WithCancel(context.Background())
	v.moves[p.log.tp] = mv
	v.waiting = append(v.waiting, mv)
	if v.running < max(1, v.manager.config.MoveThreads) {
		v.running++
		v.done.Add(1)
		go v.run()
	}
	return nil
}

// run works until no move waits.
func (v *mover) run() {
	defer v.done.Done()
	for {
		v.mu.Lock()
		if len(v.waiting) == 0 || v.closed {
			v.running--
			v.mu.Unlock()
			return
		}
		mv := v.waiting[0]
		v.waiting = v.waiting[1:]
		v.mu.Unlock()
		err := v.carry(mv)
		v.mu.Lock()
		if v.moves[mv.log.tp] == mv {
			delete(v.moves, mv.log.tp)
		}
		stays := v.closed
		v.mu.Unlock()
		if err != nil {
			mv.abandon(stays)
		}
		close(mv.ended)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				v.manager.log.Error().Err(err).Str("partition", mv.log.tp.String()).Str("to", mv.to.path).Msg("move to another directory failed: the log stays where it is")
			}
		}
	}
}

// cancel ends the move of a partition, if there is one, and removes the copy. The manager's lock must not be held.
func (v *mover) cancel(tp ident.TopicPartition) {
	v.mu.Lock()
	mv := v.moves[tp]
	delete(v.moves, tp)
	at := slices.Index(v.waiting, mv)
	if at >= 0 {
		v.waiting = slices.Delete(v.waiting, at, at+1)
	}
	v.mu.Unlock()
	switch {
	case mv == nil:
	case at >= 0:
		mv.abandon(false)
	default:
		mv.cancel()
		<-mv.ended
	}
}

// cancelIn ends the moves from and to a directory that went offline.
func (v *mover) cancelIn(d *Dir) {
	v.mu.Lock()
	var tps []ident.TopicPartition
	for tp, mv := range v.moves {
		if mv.from == d || mv.to == d {
			tps = append(tps, tp)
		}
	}
	v.mu.Unlock()
	for _, tp := range tps {
		v.cancel(tp)
	}
}

// close stops all moves where they are; they are resumed at the next start.
func (v *mover) close() {
	v.mu.Lock()
	v.closed = true
	for _, mv := range v.moves {
		mv.cancel()
	}
	v.mu.Unlock()
	v.done.Wait()
}

// usage lists the future logs in a directory.
func (v *mover) usage(d *Dir) []LogUsage {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []LogUsage
	for tp, mv := range v.moves {
		if mv.to != d {
			continue
		}
		u := LogUsage{Partition: tp, Future: true, Lag: mv.log.EndOffset()}
		mv.mu.Lock()
		if f := mv.future; f != nil {
			u.Size, u.Lag = f.Size(), max(0, mv.log.EndOffset()-f.EndOffset())
		}
		mv.mu.Unlock()
		out = append(out, u)
	}
	return out
}

// abandon closes the copy, and removes it unless it is to be gone on with.
func (mv *move) abandon(keep bool) {
	mv.mu.Lock()
	f := mv.future
	mv.future = nil
	mv.mu.Unlock()
	if f != nil {
		_ = f.Close() // of no use any more, or read again at the next start
	}
	if !keep {
		_ = mv.to.fs.RemoveAll(mv.path)
	}
}

// carry copies a log and puts the copy in its place.
func (v *mover) carry(mv *move) error {
	if err := mv.ctx.Err(); err != nil {
		return err
	}
	state := logState{space: &mv.to.space}
	if mv.log.gaps.Load() {
		// What an earlier start has left may lack what was not synced, and nothing tells that from a gap.
		state.compacted = 1<<63 - 1
		if err := mv.to.fs.RemoveAll(mv.path); err != nil {
			return fmt.Errorf("begin the copy %s anew: %w", mv.path, err)
		}
	}
	if err := v.manager.beginAnew(mv.to, mv.log.tp); err != nil {
		return err
	}
	future, err := openLog(mv.to.fs, mv.path, mv.log.tp, mv.log.id, mv.log.Config(), state, time.Now())
	if err != nil {
		return fmt.Errorf("open %s: %w", mv.path, err)
	}
	mv.mu.Lock()
	mv.future = future
	mv.mu.Unlock()
	for _, l := range []*Log{mv.log, future} { // directories are what moves
		l.mu.Lock()
		err := l.create()
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	c := &copying{to: future, cut: -1}
	defer c.end(mv.log)
	if err := c.begin(mv.log); err != nil {
		return err
	}
	for {
		if err := v.copyLog(mv, c); err != nil {
			return err
		}
		if err := v.manager.promote(mv, c); !errors.Is(err, errCopyCut) {
			return err
		}
	}
}

// copyLog copies records until few are left.
func (v *mover) copyLog(mv *move, c *copying) error {
	var buf []byte
	for {
		n, err := c.next(mv.log, &buf)
		if err != nil {
			return err
		}
		if err := v.limit.WaitN(mv.ctx, min(n, v.limit.Burst())); err != nil {
			return mv.ctx.Err()
		}
		if mv.ctx.Err() != nil {
			return mv.ctx.Err()
		}
		if !c.wasCut() && c.nearly(mv.log) {
			return c.to.Flush()
		}
	}
}

// readNext reads into buf the next records that a copy of l lacks. Where l has dropped what is to be copied next, the copy begins anew.
func readNext(l, to *Log, buf *[]byte) ([]byte, error) {
	next := to.EndOffset()
	if start := l.StartOffset(); next < start {
		if err := to.Restart(start); err != nil {
			return nil, err
		}
		next = start
	}
	s, err := l.Read(next, copyBytes, l.EndOffset(), true)
	if errors.Is(err, kerr.OffsetOutOfRange) && l.StartOffset() > next {
		return nil, nil // dropped in this moment
	}
	if err != nil || s.Length == 0 {
		return nil, err
	}
	if cap(*buf) < s.Length {
		*buf = make([]byte, s.Length)
	}
	data := (*buf)[:s.Length]
	if _, err := s.File.ReadAt(data, s.Offset); err != nil {
		return nil, fmt.Errorf("%v: %w", l.tp, err)
	}
	return data, nil
}

// promote puts a finished copy in the log's place.
func (m *Manager) promote(mv *move, c *copying) error {
	l := mv.log
	if err := m.swapLogs(mv, l, c); err != nil {
		return fmt.Errorf("put the copy of %v in its place: %w", l.tp, err)
	}
	m.mu.RLock()
	w := m.watcher
	m.mu.RUnlock()
	if w != nil {
		w.Settled(l.tp)
	}
	m.log.Info().Str("partition", l.tp.String()).Str("from", mv.from.path).Str("to", mv.to.path).Msg("moved to another log directory")
	return nil
}

// swapLogs copies the rest while appends wait, and does the steps described at the top.
func (m *Manager) swapLogs(mv *move, l *Log, c *copying) error {
	defer m.claims.take(l.tp)()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.broken != nil || l.copying != c {
		return context.Canceled
	}
	if c.wasCut() {
		return errCopyCut
	}
	future := c.to
	if future.EndOffset() > l.EndOffset() {
		return fmt.Errorf("%v: the copy ends at %d, behind the log's end %d", l.tp, future.EndOffset(), l.EndOffset())
	}
	var buf []byte
	for future.EndOffset() < l.EndOffset() {
		n, err := c.next(l, &buf)
		if err != nil {
			return err
		}
		switch {
		case n > 0:
		case l.gaps.Load(): // the log was cut where it has no records, in a gap that compaction has left
			future.skipTo(l.EndOffset())
		default:
			return fmt.Errorf("%v: no records from %d to the end, %d", l.tp, future.EndOffset(), l.EndOffset())
		}
	}
	future.start.Store(l.start.Load())
	future.SetHighWatermark(l.high.Load())
	future.gaps.Store(l.gaps.Load())
	if err := m.cleaner.announce(mv.from, mv.to, l.tp); err != nil {
		return err
	}
	if err := future.Flush(); err != nil {
		return err
	}
	for _, s := range *l.segments.Load() { // who reads them goes on
		if f, err := s.open(false); err != nil {
			return err
		} else if err := f.pin(); err != nil {
			return err
		}
	}
	moved := suffixed(mv.from, l.tp, l.id, movedSuffix)
	if err := mv.from.fs.Rename(l.dir, moved); err != nil {
		return err
	}
	if err := mv.from.fs.SyncDir(mv.from.path); err != nil {
		return errors.Join(err, mv.from.fs.Rename(moved, l.dir))
	}
	path := partitionDir(mv.to.path, l.tp)
	if err := mv.to.fs.Rename(mv.path, path); err != nil {
		return errors.Join(err, mv.from.fs.Rename(moved, l.dir))
	}
	l.closed, l.moved, l.copying = true, true, nil
	l.recoveryPoint.Store(l.EndOffset())
	future.relocate(path)
	future.config.Store(l.config.Load())
	future.takeProducers(l.producers.clone()) // who still has l may list its producers
	future.truncated = l.truncated
	if err := mv.to.fs.SyncDir(mv.to.path); err != nil {
		future.mu.Lock()
		future.broken = fmt.Errorf("%v: %w", l.tp, err)
		future.mu.Unlock()
	}
	if !m.moved(mv, future) {
		return context.Canceled
	}
	if err := m.discard(l, mv.from, moved); err != nil {
		m.log.Error().Err(err).Str("dir", moved).Msg("cannot remove what was moved away")
	}
	return nil
}

// moved notes that a log is in another directory. It reports false where the directory that it came from went offline, and its logs
// with it: the next start finds the log where it is now.
func (m *Manager) moved(mv *move, future *Log) bool {
	tp := future.tp
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.logs[tp]; p == nil || p.log != mv.log {
		return false
	}
	m.logs[tp] = &placed{future, mv.to}
	m.placedIn[mv.from]--
	m.placedIn[mv.to]++
	m.states[mv.from].forget(tp)
	m.states[mv.to].present[tp] = true
	m.cleaner.forget(mv.from, tp)
	if m.watcher != nil {
		m.watcher.Moved(tp, future, mv.to.meta.DirectoryID)
	}
	return true
}

// skipTo moves the end of a log, behind its last record, to where the log ends that it is a copy of. Nobody else writes to the copy.
func (l *Log) skipTo(end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := *l.tail.Load()
	t.offset = end
	l.tail.Store(&t)
}

// takeProducers takes the state of producers from the log that this one takes the place of: it may go back
// further than the records do.
func (l *Log) takeProducers(p *producerStates) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers = p
	l.updateUnstable()
}

// relocate tells a log that its directory has another name. Nobody reads the log yet.
func (l *Log) relocate(dir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dir = dir
	l.epochs.path = filepath.Join(dir, epochCheckpoint)
	for _, s := range *l.segments.Load() {
		s.mu.Lock()
		s.path = logfile.Path(dir, s.base)
		if s.file != nil {
			s.file.renamed(s.path + logfile.LogSuffix)
		}
		s.mu.Unlock()
	}
	for i := range l.doomed {
		l.doomed[i].path = filepath.Join(dir, filepath.Base(l.doomed[i].path))
	}
}

// finishMoves ends the swaps of moves that a crash interrupted, before logs are opened.
func (m *Manager) finishMoves() {
	for _, from := range m.online() {
		for tp, path := range m.states[from].moved {
			if err := m.finishMove(tp, from, path); err != nil {
				m.log.Error().Err(err).Str("partition", tp.String()).Msg("cannot finish the move to another directory")
			}
		}
	}
}

func (m *Manager) finishMove(tp ident.TopicPartition, from *Dir, moved string) error {
	for _, to := range m.online() {
		st := m.states[to]
		if to == from {
			continue
		}
		if future, ok := st.future[tp]; ok && !st.present[tp] {
			if err := to.fs.Rename(future, partitionDir(to.path, tp)); err != nil {
				return err
			}
			delete(st.future, tp)
			st.present[tp] = true
			m.placedIn[to]++
		}
		if st.present[tp] {
			if err := to.fs.SyncDir(to.path); err != nil {
				return err
			}
			return from.fs.RemoveAll(moved)
		}
	}
	// The other directory is offline. Nothing was written there yet, so this one has everything too.
	if err := from.fs.Rename(moved, partitionDir(from.path, tp)); err != nil {
		return err
	}
	m.states[from].present[tp] = true
	m.placedIn[from]++
	return from.fs.SyncDir(from.path)
}
