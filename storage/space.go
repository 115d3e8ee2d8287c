package storage

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// space watches a disk run full. Before it is, producers are refused with an error that they retry on,
// while reading, deleting and retention go on; when there is room again writing resumes by itself. The
// broker's own records, such as groups' offsets, may use half of the reserve, so that consumers go on too.
type space struct {
	level atomic.Int32 // how full: see below
	// Between two looks at the disk, appends count down what was usable: a fast producer fills a small
	// disk in less than that.
	left, reserve atomic.Int64
	taken         atomic.Int64 // since the last look
	told          atomic.Int32 // the level that the log last spoke of
	changed       func()       // called, and must not block, when the level may have changed or it is time to look; nil before the manager runs
}

const (
	roomy  = iota
	scarce // producers are refused
	full   // everybody is
)

// update looks at what is usable. To resume takes a fifth more than to refuse, or it would flutter.
func (s *space) update(usable, reserve int64) (told, now int32) {
	s.reserve.Store(reserve)
	s.left.Store(usable)
	s.taken.Store(0)
	before := s.level.Load()
	now = levelOf(usable, reserve)
	if now < before {
		now = min(before, levelOf(usable-reserve/5, reserve))
	}
	s.level.Store(now)
	return s.told.Swap(now), now
}

func levelOf(usable, reserve int64) int32 {
	switch {
	case usable < reserve/2:
		return full
	case usable < reserve:
		return scarce
	}
	return roomy
}

// take counts bytes that are about to be written.
func (s *space) take(n int) {
	left, reserve := s.left.Add(-int64(n)), s.reserve.Load()
	higher := levelOf(left, reserve)
	if higher > s.level.Load() {
		s.level.Store(higher)
	}
	// Other directories may be on the same disk, and files take more than their records.
	if s.taken.Add(int64(n)) > reserve/8 && left < 4*reserve || higher != roomy {
		s.look()
	}
}

// look asks the manager to look at the disk soon.
func (s *space) look() {
	if s.changed != nil {
		s.changed()
	}
}

// failed takes the word of a write that failed: the disk is full before anybody looked.
func (s *space) failed(err error) {
	if IsDiskFull(err) {
		s.level.Store(full)
		s.look()
	}
}

func (s *space) refuses(internal bool) error {
	l := s.level.Load()
	if l == roomy || internal && l == scarce {
		return nil
	}
	return ErrDiskFull
}

// IsDiskFull says that an error is for want of room, which the manager tells once.
func IsDiskFull(err error) bool {
	return errors.Is(err, ErrDiskFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// HasRoom reports whether the log's disk takes records: those of the broker itself (internal) may use more of it than producers'.
func (l *Log) HasRoom(internal bool) bool { return l.space.refuses(internal) == nil }

// ErrDiskFull refuses an append while the disk is full up to log.dir.reserve.bytes. Clients try again.
var ErrDiskFull = fmt.Errorf("the disk is full up to log.dir.reserve.bytes: %w", kerr.KafkaStorageError)

// watchSpace looks at every directory's disk.
func (m *Manager) watchSpace() {
	changed := false
	for _, d := range m.online() {
		total, usable, err := d.fs.Usage(d.path)
		if err != nil {
			m.log.Error().Err(err).Str("dir", d.path).Msg("cannot tell how full the disk is")
			continue
		}
		// A small disk keeps a twentieth: the reserve must not be all of it.
		told, now := d.space.update(usable, min(m.config.ReserveBytes, total/20))
		if now != roomy {
			m.retainDir(d)
		}
		switch {
		case now != roomy && told == roomy:
			m.log.Error().Str("dir", d.path).Int64("usable", usable).Msg("disk is nearly full: producers are refused until there is room")
		case now == roomy && told != roomy:
			m.log.Info().Str("dir", d.path).Int64("usable", usable).Msg("disk has room again: producers may go on")
		}
		if now != told {
			changed = true
		}
	}
	m.mu.RLock()
	w := m.watcher
	m.mu.RUnlock()
	if changed && w != nil {
		w.RoomChanged()
	}
}

// WithoutRoom lists the ids of the directories whose disks have no room for records of producers, and those of them that have none for
// any records.
func (m *Manager) WithoutRoom() (scarceDirs, fullDirs [][16]byte) {
	for _, d := range m.online() {
		if l := d.space.level.Load(); l != roomy && d.meta != nil {
			scarceDirs = append(scarceDirs, d.meta.DirectoryID)
			if l == full {
				fullDirs = append(fullDirs, d.meta.DirectoryID)
			}
		}
	}
	return scarceDirs, fullDirs
}

// retainDir applies retention in a directory at once: it may make room.
func (m *Manager) retainDir(d *Dir) {
	now := time.Now()
	for _, p := range m.snapshot() {
		if p.dir != d {
			continue
		}
		if err := p.log.retain(now); err != nil {
			m.log.Error().Err(err).Str("partition", p.log.tp.String()).Msg("retention failed")
		}
	}
	m.removeDoomed(now)
}
