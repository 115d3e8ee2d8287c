package storage

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"

	"kraft/wire/locks"
)

// segmentFile is the data file of a segment. While nobody uses it the pool may close it, and the next use
// opens it again; what has not been synced stays open, since the failure of a later sync must be learnt
// through the descriptor that wrote. Any goroutine may use it.
type segmentFile struct {
	fs   *dirFS
	pool *filePool
	slot int // in the pool, guarded by its mutex; -1 while not in it

	used            atomic.Bool // since the pool last looked
	written, synced atomic.Int64
	current         atomic.Pointer[File] // nil while closed

	mu     locks.Mutex // guards opening and the rest
	path   string
	pinned bool
	closed bool
}

// openSegment opens a segment's data file.
func (f *dirFS) openSegment(path string, create bool) (*segmentFile, error) {
	file, err := f.open(path, create)
	if err != nil {
		return nil, err
	}
	s := &segmentFile{fs: f, pool: f.dir.pool, path: path, slot: -1}
	s.current.Store(&file)
	s.pool.add(s)
	return s, nil
}

// file returns the open file, opening it again if the pool has closed it.
func (s *segmentFile) file() (*File, error) {
	if err := s.fs.dir.offline(); err != nil {
		return nil, err
	}
	if !s.used.Load() {
		s.used.Store(true)
	}
	if f := s.current.Load(); f != nil {
		return f, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.current.Load(); f != nil {
		return f, nil
	}
	if s.closed {
		return nil, fs.ErrClosed
	}
	f, err := s.fs.FS.OpenFile(s.path, false)
	if err != nil {
		return nil, err
	}
	s.current.Store(&f)
	if !s.pinned {
		s.pool.add(s)
	}
	return &f, nil
}

// do runs op on the open file, again if the pool closed it just before.
func (s *segmentFile) do(op func(f File) error) error {
	for {
		f, err := s.file()
		if err == nil {
			err = op(*f)
		}
		if !errors.Is(err, fs.ErrClosed) || s.isClosed() {
			return s.fs.dir.watch(err)
		}
	}
}

func (s *segmentFile) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// ReadAt implements File.
func (s *segmentFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = s.do(func(f File) error { n, err = f.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements File.
func (s *segmentFile) WriteAt(p []byte, off int64) (n int, err error) {
	s.written.Add(1)
	err = s.do(func(f File) error {
		return s.fs.dir.writes.note(func() (err error) { n, err = f.WriteAt(p, off); return err })
	})
	return n, err
}

// Truncate implements File.
func (s *segmentFile) Truncate(size int64) error {
	s.written.Add(1)
	return s.do(func(f File) error { return f.Truncate(size) })
}

// Sync implements File.
func (s *segmentFile) Sync() error {
	upTo := s.written.Load()
	err := s.do(s.fs.dir.sync)
	if err == nil {
		s.synced.Store(upTo)
		s.pool.trim()
	}
	return err
}

// Stat implements File.
func (s *segmentFile) Stat() (info fs.FileInfo, err error) {
	err = s.do(func(f File) error { info, err = f.Stat(); return err })
	return info, err
}

// Close implements File.
func (s *segmentFile) Close() error {
	s.pool.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if f := s.current.Swap(nil); f != nil {
		return (*f).Close()
	}
	return nil
}

// pin keeps the file open from now on, for a file that loses its name. It is closed when the last reader
// lets go of it (os.File's finalizer).
func (s *segmentFile) pin() error {
	s.mu.Lock()
	s.pinned = true
	s.mu.Unlock()
	s.pool.remove(s)
	_, err := s.file()
	return err
}

// renamed says that the file has another name from now on. The caller sees to it that nobody uses the file.
func (s *segmentFile) renamed(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = path
}

// evict closes the file unless it holds what is not on disk yet.
func (s *segmentFile) evict() bool {
	if s.written.Load() != s.synced.Load() {
		return false
	}
	f := s.current.Swap(nil)
	if f == nil {
		return true
	}
	_ = (*f).Close() // who is in the middle of using it ends that first
	return true
}

// SyscallConn implements syscall.Conn, for sendfile. It gives errors.ErrUnsupported for files that are
// none of the system's.
func (s *segmentFile) SyscallConn() (syscall.RawConn, error) {
	f, err := s.file()
	if err != nil {
		return nil, err
	}
	if _, ok := (*f).(syscall.Conn); !ok {
		return nil, errors.ErrUnsupported
	}
	return segmentConn{s}, nil
}

type segmentConn struct{ s *segmentFile }

// Control implements syscall.RawConn.
func (c segmentConn) Control(use func(fd uintptr)) error {
	return c.s.do(func(f File) error {
		raw, err := f.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		ran := false
		err = raw.Control(func(fd uintptr) { ran = true; use(fd) })
		if err != nil && !ran {
			return errors.Join(err, fs.ErrClosed) // which package os does not say here
		}
		return err
	})
}

// Read implements syscall.RawConn.
func (segmentConn) Read(func(uintptr) bool) error { return errors.ErrUnsupported }

// Write implements syscall.RawConn.
func (segmentConn) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

// filePool bounds how many segments' files are open at a time. Above the bound it closes one that was not
// used for a while (the clock algorithm), if there is one without unsynced data.
type filePool struct {
	limit int

	mu   locks.Mutex // guards the rest
	open []*segmentFile
	hand int
}

// looks is how many files one opening or sync may look at to find some to close.
const looks = 64

func (p *filePool) add(s *segmentFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.slot >= 0 {
		return
	}
	s.used.Store(true)
	s.slot = len(p.open)
	p.open = append(p.open, s)
	p.shrink(s)
}

// trim closes files above the bound that were not closed earlier because they had unsynced data.
func (p *filePool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shrink(nil)
}

// shrink closes files above the bound, but not fresh. mu is held.
func (p *filePool) shrink(fresh *segmentFile) {
	for i := 0; i < looks && len(p.open) > p.limit; i++ {
		if p.hand >= len(p.open) {
			p.hand = 0
		}
		o := p.open[p.hand]
		if o == fresh || o.used.Swap(false) || !o.evict() {
			p.hand++
			continue
		}
		p.drop(o)
	}
}

func (p *filePool) remove(s *segmentFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.slot >= 0 {
		p.drop(s)
	}
}

// drop takes s off the list. mu is held.
func (p *filePool) drop(s *segmentFile) {
	last := len(p.open) - 1
	p.open[s.slot] = p.open[last]
	p.open[s.slot].slot = s.slot
	p.open[last] = nil
	p.open = p.open[:last]
	s.slot = -1
}

// size is the number of open files.
func (p *filePool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}
