package storage

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"kraft/wire/ident"
	"kraft/wire/locks"
)

// dirState is what a directory held when it was opened.
type dirState struct {
	recovery, high, start map[ident.TopicPartition]int64 // by the checkpoints
	present               map[ident.TopicPartition]bool
	checkpointed          map[ident.TopicPartition]bool   // the checkpoint files say something of it
	unrecovered           map[ident.TopicPartition]bool   // the last stop was not clean, and recovery failed
	future, moved         map[ident.TopicPartition]string // paths of a move's two ends
	writing               locks.Mutex                     // held while the checkpoint files are written
}

func newDirState() *dirState {
	return &dirState{recovery: map[ident.TopicPartition]int64{}, high: map[ident.TopicPartition]int64{}, start: map[ident.TopicPartition]int64{},
		present: map[ident.TopicPartition]bool{}, checkpointed: map[ident.TopicPartition]bool{}, unrecovered: map[ident.TopicPartition]bool{}, future: map[ident.TopicPartition]string{}, moved: map[ident.TopicPartition]string{}}
}

func (st *dirState) forget(tp ident.TopicPartition) {
	delete(st.present, tp)
	delete(st.recovery, tp)
	delete(st.high, tp)
	delete(st.start, tp)
}

// readState reads the checkpoints and the names of partitions, and clears what deletions left.
func (m *Manager) readState(d *Dir) error {
	if err := d.takeCleanMarker(); err != nil {
		return err
	}
	st := newDirState()
	for _, f := range []struct {
		file string
		into *map[ident.TopicPartition]int64
	}{{recoveryPointFile, &st.recovery}, {highWatermarkFile, &st.high}, {logStartFile, &st.start}} {
		offsets, err := readOffsets(d.fs, d.path, f.file)
		if err != nil {
			// Kafka goes on without a damaged checkpoint too: everything is scanned again.
			m.log.Warn().Err(err).Msg("ignored damaged checkpoint")
			offsets = map[ident.TopicPartition]int64{}
		}
		*f.into = offsets
		for tp := range offsets {
			st.checkpointed[tp] = true
		}
	}
	found, err := d.partitionDirs()
	if err != nil {
		return err
	}
	for _, tp := range found.partitions {
		st.present[tp] = true
	}
	for tp := range st.checkpointed {
		if !st.present[tp] {
			st.forget(tp)
		}
	}
	for _, name := range found.doomed {
		if err := d.fs.RemoveAll(filepath.Join(d.path, name)); err != nil {
			return err
		}
	}
	st.future, st.moved = found.future, found.moved
	m.states[d] = st
	m.placedIn[d] = len(st.present)
	return nil
}

// online lists the directories that work.
func (m *Manager) online() []*Dir {
	var out []*Dir
	for _, d := range m.dirs {
		if d.failure.Load() == nil {
			out = append(out, d)
		}
	}
	return out
}

// place chooses the directory of a partition, which is claimed; see Open. What other directories hold of it, where a move was
// interrupted while one of the directories was offline, is set aside.
func (m *Manager) place(tp ident.TopicPartition, directory [16]byte) (*Dir, error) {
	d, others, err := m.choose(tp, directory)
	for _, other := range others {
		to, err := m.setAside(other, tp)
		if err != nil {
			return nil, err
		}
		m.log.Warn().Str("partition", tp.String()).Str("kept", d.path).Str("set aside", to).Msg("two log directories held the partition")
	}
	return d, err
}

// choose finds the directory of a partition, and others that hold something of it too.
func (m *Manager) choose(tp ident.TopicPartition, directory [16]byte) (d *Dir, others []*Dir, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	online := m.online()
	var here, assigned, best *Dir
	for _, d := range online {
		if d.meta != nil && d.meta.DirectoryID == directory {
			assigned = d
		}
		if m.states[d].present[tp] && (here == nil || d == assigned) {
			here = d
		}
		if best == nil || m.placedIn[d] < m.placedIn[best] {
			best = d
		}
	}
	if here != nil {
		for _, d := range online {
			if d != here && m.states[d].present[tp] {
				others = append(others, d)
			}
		}
		return here, others, nil
	}
	switch {
	case m.lost[tp]: // the metadata may not know yet that it had moved away from where it is assigned
		return nil, nil, ErrDirOffline
	case assigned != nil:
		best = assigned
	case len(online) < len(m.dirs):
		return nil, nil, ErrDirOffline // its data is there, and comes back with the disk
	}
	m.placedIn[best]++
	return best, nil, nil
}

// setAside renames what a directory holds of a partition, which is claimed, and returns its new path.
func (m *Manager) setAside(d *Dir, tp ident.TopicPartition) (string, error) {
	to, err := d.renameStray(tp)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[d].forget(tp)
	m.placedIn[d]--
	return to, nil
}

// renameStray renames a partition's directory to one that is no replica's, and returns its new path.
func (d *Dir) renameStray(tp ident.TopicPartition) (to string, err error) {
	path := partitionDir(d.path, tp)
	to = suffixed(d, tp, unique(), straySuffix)
	if err := d.fs.Rename(path, to); err != nil {
		return "", fmt.Errorf("set aside %s: %w", path, err)
	}
	return to, nil
}

// SetAsideStrays renames what the directories hold of partitions that are not open, and that are not replicas of this broker: topics
// that were deleted, and replicas that were moved away, while it did not run. As in Kafka they stay on the disk until somebody deletes
// them: metadata that is restored from a backup may be older than they are. Call it when all replicas are open, from any goroutine.
func (m *Manager) SetAsideStrays(replica func(ident.TopicPartition) bool) {
	for _, d := range m.online() {
		m.mu.RLock()
		held := slices.Collect(maps.Keys(m.states[d].present))
		m.mu.RUnlock()
		for _, tp := range held {
			m.setAsideStray(d, tp, replica)
		}
	}
}

// setAsideStray does so for one partition that a directory held a moment ago.
func (m *Manager) setAsideStray(d *Dir, tp ident.TopicPartition, replica func(ident.TopicPartition) bool) {
	defer m.claims.take(tp)()
	m.mu.RLock()
	p := m.logs[tp]
	stays := !m.states[d].present[tp] || p != nil && p.dir == d
	m.mu.RUnlock()
	if stays || replica(tp) {
		return
	}
	to, err := m.setAside(d, tp)
	if err != nil {
		m.log.Error().Err(err).Msg("cannot set aside a stray partition directory")
		return
	}
	m.log.Warn().Str("partition", tp.String()).Str("set aside", to).Msg("set aside a stray partition directory: its topic was deleted or the replica was moved: delete it if it is not needed")
}

// DirectoryOf is the id of the directory that a partition's open log is in.
func (m *Manager) DirectoryOf(tp ident.TopicPartition) (id [16]byte, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p := m.logs[tp]
	if p == nil || p.dir.meta == nil {
		return id, false
	}
	return p.dir.meta.DirectoryID, true
}

// OnlineDirectories are the ids of the directories that work.
func (m *Manager) OnlineDirectories() [][16]byte {
	var out [][16]byte
	for _, d := range m.online() {
		if d.meta != nil {
			out = append(out, d.meta.DirectoryID)
		}
	}
	return out
}

// dirFailed drops the logs of a directory that went offline.
func (m *Manager) dirFailed(d *Dir) {
	m.mover.cancelIn(d)
	m.mu.Lock()
	var lost []ident.TopicPartition
	var logs []*Log
	for tp, p := range m.logs {
		if p.dir == d {
			lost = append(lost, tp)
			logs = append(logs, p.log)
			delete(m.logs, tp)
			m.lost[tp] = true
		}
	}
	w := m.watcher
	m.mu.Unlock()
	m.log.Error().Err(*d.failure.Load()).Str("dir", d.path).Int("partitions", len(lost)).Msg("log directory is offline until the next start")
	for _, l := range logs {
		l.mu.Lock()
		l.closed = true
		_ = l.closeFiles() // of a disk that is gone
		l.mu.Unlock()
	}
	if w != nil {
		w.DirFailed(d, lost)
	}
	if len(m.online()) == 0 {
		m.dying.Do(func() { close(m.dead) }) // the last ones may fail together
	}
}
