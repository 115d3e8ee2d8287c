// Package faultfs is a file system in memory that behaves like a bad disk in a machine that loses power:
// what was not synced may be there, gone or torn after a crash, any operation may fail, bits may flip. It
// implements storage.FS for tests and simulation. All its methods may be called from any goroutine.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"kraft/storage"
)

// ErrCrashed is what every operation gives between a crash and Restart.
var ErrCrashed = errors.New("machine has crashed")

// Op is a kind of operation that may fail or crash.
type Op string

// The operations that Fail is asked about.
const (
	Read   Op = "read"
	Write  Op = "write"
	Sync   Op = "sync"
	Rename Op = "rename"
	Remove Op = "remove"
	Create Op = "create"
)

// FS is the file system. The zero value is not ready: use New.
type FS struct {
	mu      sync.Mutex
	rng     *rand.Rand
	files   map[string]*inode // as processes see it; directories have a nil inode
	durable map[string]*inode // as it is after a crash, but for journal
	journal [][]change        // of names, not yet on disk, in order; what stands together happens together
	locks   map[string]bool
	crashed bool
	left    int // operations until the crash, -1 for none planned
	boots   int

	slow    time.Duration // at most, that a change takes
	slowRNG *rand.Rand

	held *heldSync // what the next sync waits for, nil for nothing

	badSyncs  bool
	goodSyncs int // before they fail
	now       time.Time

	// Fail, if set, is asked before each operation; its error is the operation's. For Write an error lets
	// part of the data through, as a full disk does.
	Fail func(op Op, path string) error
	// Capacity bounds the bytes of all files; 0 is no bound. Writing past it gives ENOSPC.
	Capacity int64
}

type inode struct {
	data    []byte
	synced  []byte
	pending []write // since the last sync
	modTime time.Time
}

type write struct {
	at   int64
	data []byte // nil truncates to at
}

// change is one of names: path is inode from now on, or gone.
type change struct {
	path  string
	inode *inode
	gone  bool
}

// New returns an empty file system whose faults follow from seed.
func New(seed uint64) *FS {
	return &FS{rng: rand.New(rand.NewPCG(seed, 1)), files: map[string]*inode{"/": nil}, durable: map[string]*inode{"/": nil},
		locks: map[string]bool{}, slowRNG: rand.New(rand.NewPCG(seed, 2)), left: -1, now: time.UnixMilli(1_700_000_000_000)}
}

// CrashAfter plans a crash before the nth write, sync, rename, create or remove from now on.
func (f *FS) CrashAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = n
}

// Crash stops all operations, until Restart or Kill says what is left.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// Crashed says that a crash has happened.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// Restart brings the machine up again after a crash, or after a loss of power now. What was not synced is
// kept, dropped or torn at random.
func (f *FS) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := f.rng.IntN(len(f.journal) + 1) // a journal keeps its order
	for _, together := range f.journal[:keep] {
		f.endure(together)
	}
	f.files = map[string]*inode{}
	for _, path := range slices.Sorted(maps.Keys(f.durable)) { // in order: the seed decides what is lost
		n := f.durable[path]
		f.files[path] = n
		if n != nil {
			f.lose(n)
		}
	}
	f.journal, f.locks, f.crashed, f.left = nil, map[string]bool{}, false, -1
	f.boots++
}

// Disk is what is on a disk.
type Disk struct {
	files, durable map[string]*inode
	journal        [][]change
}

// Copy makes a copy of the disk, as of an instant, as a snapshot of a volume does.
func (f *FS) Copy() *Disk {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := &Disk{files: map[string]*inode{}}
	for path, n := range f.files {
		if n != nil {
			n = &inode{data: slices.Clone(n.data), synced: slices.Clone(n.data), modTime: n.modTime}
		}
		d.files[path] = n
	}
	d.durable = maps.Clone(d.files)
	return d
}

// Swap puts another disk in the place of the one that there is, which it returns. The machine is off.
func (f *FS) Swap(d *Disk) (before *Disk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before = &Disk{f.files, f.durable, f.journal}
	f.files, f.durable, f.journal = d.files, d.durable, d.journal
	return before
}

// endure puts changes of names on disk. mu is held.
func (f *FS) endure(changes []change) {
	for _, c := range changes {
		if c.gone {
			delete(f.durable, c.path)
		} else {
			f.durable[c.path] = c.inode
		}
	}
}

// Kill ends the processes and keeps what they wrote, as kill -9 does: the page cache survives.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locks, f.crashed, f.left = map[string]bool{}, false, -1
}

// lose decides what becomes of a file's unsynced writes.
func (f *FS) lose(n *inode) {
	data := append([]byte(nil), n.synced...)
	mode := f.rng.IntN(3)
	stop := f.rng.IntN(len(n.pending) + 1)
	for i, w := range n.pending {
		switch {
		case mode == 0 && i > stop: // all that came later is gone
			continue
		case mode == 0 && i == stop || mode == 1 && f.rng.IntN(8) == 0: // torn
			if w.data != nil {
				w.data = w.data[:f.rng.IntN(len(w.data)+1)]
			}
		case mode == 1 && f.rng.IntN(4) == 0: // gone, though later ones are there
			continue
		}
		data = w.apply(data)
	}
	n.data, n.synced, n.pending = data, append([]byte(nil), data...), nil
}

func (w write) apply(data []byte) []byte {
	if w.data == nil {
		if int64(len(data)) > w.at {
			return data[:w.at]
		}
		return append(data, make([]byte, w.at-int64(len(data)))...)
	}
	end := w.at + int64(len(w.data))
	if int64(len(data)) < end {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[w.at:], w.data)
	return data
}

func (n *inode) write(w write) {
	n.data = w.apply(n.data)
	n.pending = append(n.pending, w)
}

// sync makes what was written endure. It copies that alone: files are synced far more often than they grow.
func (n *inode) sync() {
	from := len(n.data) // all from there on is copied: where it was cut off, what is beyond may be zeros now
	for _, w := range n.pending {
		if w.data == nil {
			from = min(from, int(w.at))
		}
	}
	kept := min(len(n.synced), len(n.data))
	n.synced = append(n.synced[:kept], n.data[kept:]...)
	for _, w := range n.pending {
		if int(w.at) < from {
			copy(n.synced[w.at:], n.data[w.at:min(from, int(w.at)+len(w.data))])
		}
	}
	copy(n.synced[from:], n.data[from:])
	n.pending = nil
}

// Flip flips one random bit of a file, on the disk itself. It reports whether the file has any.
func (f *FS) Flip(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.files[path]
	if n == nil || len(n.data) == 0 {
		return false
	}
	n.flip(f.rng.IntN(8 * len(n.data)))
	return true
}

// FlipAt flips a bit of one of a file's bytes, on the disk itself.
func (f *FS) FlipAt(path string, at int64, bit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.files[path]; n != nil && at < int64(len(n.data)) {
		n.flip(int(at)*8 + bit)
	}
}

func (n *inode) flip(bit int) {
	n.data[bit/8] ^= 1 << (bit % 8)
	if bit/8 < len(n.synced) {
		n.synced[bit/8] ^= 1 << (bit % 8)
	}
}

// SetCapacity changes Capacity while the file system is in use: to what there is and so much room, 0 for no bound.
func (f *FS) SetCapacity(bounded bool, room int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Capacity = 0
	if bounded {
		f.Capacity = f.used() + room
	}
}

// SetDelay lets every change of files and names, and every sync, take a random time of at most d.
func (f *FS) SetDelay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = d
}

// linger takes the time that the disk takes.
func (f *FS) linger() {
	f.mu.Lock()
	var d time.Duration
	if f.slow > 0 && !f.crashed {
		d = time.Duration(f.slowRNG.Int64N(int64(f.slow)))
	}
	f.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
}

// heldSync is a sync that waits.
type heldSync struct{ reached, goOn chan struct{} }

// HoldSync has the next sync of a file wait until goOn is closed; reached is closed when it waits.
func (f *FS) HoldSync() (reached <-chan struct{}, goOn chan<- struct{}) {
	h := &heldSync{make(chan struct{}), make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = h
	return h.reached, h.goOn
}

// waitIfHeld is called by syncs, without the lock.
func (f *FS) waitIfHeld() {
	f.mu.Lock()
	h := f.held
	f.held = nil
	f.mu.Unlock()
	if h != nil {
		close(h.reached)
		<-h.goOn
	}
}

// FailSyncs makes syncs fail with EIO from the nth from now on. As with a real kernel, what such a sync was for is in
// memory no more, or not on disk: some of it is lost at once.
func (f *FS) FailSyncs(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.goodSyncs, f.badSyncs = n, true
}

// Repair ends what FailSyncs began.
func (f *FS) Repair() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.badSyncs = false
}

// syncFails counts a sync and says whether it fails. mu is held.
func (f *FS) syncFails() bool {
	if !f.badSyncs || f.crashed {
		return false
	}
	if f.goodSyncs > 0 {
		f.goodSyncs--
		return false
	}
	return true
}

// Vanish removes a file as if it had never been.
func (f *FS) Vanish(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, path)
	delete(f.durable, path)
}

// Paths lists all files.
func (f *FS) Paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for path, n := range f.files {
		if n != nil {
			out = append(out, path)
		}
	}
	sort.Strings(out)
	return out
}

// step counts an operation and asks whether it fails. mu is held.
func (f *FS) step(op Op, path string) error {
	if f.crashed {
		return ErrCrashed
	}
	if op != Read && f.left >= 0 {
		if f.left == 0 {
			f.crashed = true
			return ErrCrashed
		}
		f.left--
	}
	if f.Fail != nil {
		return f.Fail(op, path)
	}
	return nil
}

func pathError(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

// name notes a change of names.
func (f *FS) name(path string, n *inode, gone bool) {
	if gone {
		delete(f.files, path)
	} else {
		f.files[path] = n
	}
	f.journal = append(f.journal, []change{{path, n, gone}})
}

// OpenFile implements storage.FS.
func (f *FS) OpenFile(path string, create bool) (storage.File, error) {
	if create {
		f.linger()
	}
	path = filepath.Clean(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.files[path]
	switch {
	case f.crashed:
		return nil, ErrCrashed
	case ok && n == nil:
		return nil, pathError("open", path, syscall.EISDIR)
	case !ok && !create:
		return nil, pathError("open", path, fs.ErrNotExist)
	case !ok:
		if _, dir := f.files[filepath.Dir(path)]; !dir {
			return nil, pathError("open", path, fs.ErrNotExist)
		}
		if err := f.step(Create, path); err != nil {
			return nil, pathError("open", path, err)
		}
		n = &inode{modTime: f.now}
		f.name(path, n, false)
	}
	return &file{fs: f, path: path, inode: n}, nil
}

// ReadFile implements storage.FS.
func (f *FS) ReadFile(path string) ([]byte, error) {
	if path == storage.BootIDFile {
		f.mu.Lock()
		defer f.mu.Unlock()
		return fmt.Appendf(nil, "boot %d\n", f.boots), nil
	}
	file, err := f.OpenFile(path, false)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	if _, err := file.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && len(data) == 0) {
		return nil, err
	}
	return data, nil
}

// WriteFile implements storage.FS by the steps that the real one takes.
func (f *FS) WriteFile(path string, data []byte) error {
	tmp := path + ".tmp"
	file, err := f.OpenFile(tmp, true)
	if err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	if len(data) > 0 {
		if _, err := file.WriteAt(data, 0); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := f.Rename(tmp, path); err != nil {
		return err
	}
	return f.SyncDir(filepath.Dir(path))
}

// Remove implements storage.FS.
func (f *FS) Remove(path string) error {
	f.linger()
	path = filepath.Clean(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.files[path]; !ok && !f.crashed {
		return pathError("remove", path, fs.ErrNotExist)
	}
	if err := f.step(Remove, path); err != nil {
		return pathError("remove", path, err)
	}
	f.name(path, nil, true)
	return nil
}

// RemoveAll implements storage.FS.
func (f *FS) RemoveAll(path string) error {
	f.linger()
	path = filepath.Clean(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Remove, path); err != nil {
		return pathError("remove", path, err)
	}
	for _, p := range f.below(path) {
		f.name(p, nil, true)
	}
	return nil
}

// below lists path and everything in it. mu is held.
func (f *FS) below(path string) []string {
	if f.files[path] != nil {
		return []string{path} // a file
	}
	var out []string
	inside := path + "/"
	for p := range f.files {
		if p == path || strings.HasPrefix(p, inside) {
			out = append(out, p)
		}
	}
	sort.Strings(out)
	return out
}

// Rename implements storage.FS, for files and for directories.
func (f *FS) Rename(from, to string) error {
	f.linger()
	from, to = filepath.Clean(from), filepath.Clean(to)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.files[from]; !ok && !f.crashed {
		return pathError("rename", from, fs.ErrNotExist)
	}
	if err := f.step(Rename, from); err != nil {
		return pathError("rename", from, err)
	}
	begun := len(f.journal)
	for _, p := range f.below(from) {
		n := f.files[p]
		f.name(to+strings.TrimPrefix(p, from), n, false)
		f.name(p, nil, true)
	}
	f.journal = append(f.journal[:begun:begun], slices.Concat(f.journal[begun:]...))
	return nil
}

// MkdirAll implements storage.FS.
func (f *FS) MkdirAll(path string) error {
	f.linger()
	path = filepath.Clean(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	for p := path; ; p = filepath.Dir(p) {
		n, ok := f.files[p]
		if ok && n != nil {
			return pathError("mkdir", p, syscall.ENOTDIR)
		}
		if ok {
			return nil
		}
		if err := f.step(Create, p); err != nil {
			return pathError("mkdir", p, err)
		}
		f.name(p, nil, false)
	}
}

// ReadDir implements storage.FS.
func (f *FS) ReadDir(path string) ([]fs.DirEntry, error) {
	path = filepath.Clean(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Read, path); err != nil {
		return nil, pathError("readdir", path, err)
	}
	if n, ok := f.files[path]; !ok || n != nil {
		return nil, pathError("readdir", path, fs.ErrNotExist)
	}
	var out []fs.DirEntry
	for p, n := range f.files {
		if strings.HasPrefix(p, path) && filepath.Dir(p) == path && p != path {
			out = append(out, fs.FileInfoToDirEntry(infoOf(p, n)))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out, nil
}

// Stat implements storage.FS.
func (f *FS) Stat(path string) (fs.FileInfo, error) {
	path = filepath.Clean(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	n, ok := f.files[path]
	if !ok {
		return nil, pathError("stat", path, fs.ErrNotExist)
	}
	return infoOf(path, n), nil
}

// Chtimes implements storage.FS.
func (f *FS) Chtimes(path string, t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.files[filepath.Clean(path)]
	if f.crashed || n == nil {
		return pathError("chtimes", path, fs.ErrNotExist)
	}
	n.modTime = t
	return nil
}

// SyncDir implements storage.FS. As with a journal, everything named before is on disk then.
func (f *FS) SyncDir(path string) error {
	f.linger()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Sync, path); err != nil {
		return pathError("sync", path, err)
	}
	if f.syncFails() {
		return pathError("sync", path, syscall.EIO)
	}
	for _, together := range f.journal {
		f.endure(together)
	}
	f.journal = nil
	return nil
}

// SyncFS implements storage.FS.
func (f *FS) SyncFS(path string) error {
	if err := f.SyncDir(path); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.files {
		if n != nil {
			n.sync()
		}
	}
	return nil
}

// Usage implements storage.FS: of Capacity, or of a large disk.
func (f *FS) Usage(string) (total, usable int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	total = f.Capacity
	if total == 0 {
		total = 1 << 40
	}
	return total, max(0, total-f.used()), nil
}

// Lock implements storage.FS. A crash or Kill drops all locks.
func (f *FS) Lock(path string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	if f.locks[path] {
		return nil, storage.ErrLocked
	}
	f.locks[path] = true
	return unlock{f, path}, nil
}

type unlock struct {
	fs   *FS
	path string
}

func (u unlock) Close() error {
	u.fs.mu.Lock()
	defer u.fs.mu.Unlock()
	delete(u.fs.locks, u.path)
	return nil
}

// used is the size of all files. mu is held.
func (f *FS) used() int64 {
	var n int64
	for _, i := range f.files {
		if i != nil {
			n += int64(len(i.data))
		}
	}
	return n
}

type file struct {
	fs     *FS
	path   string
	inode  *inode
	closed bool // guarded by fs.mu
}

// step is FS.step for an open file.
func (f *file) step(op Op) error {
	if f.closed {
		return fs.ErrClosed
	}
	return f.fs.step(op, f.path)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.step(Read); err != nil {
		return 0, pathError("read", f.path, err)
	}
	if off >= int64(len(f.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.linger()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.step(Write)
	n := len(p)
	if err == nil && f.fs.Capacity > 0 {
		grows := off + int64(n) - int64(len(f.inode.data))
		if room := f.fs.Capacity - f.fs.used(); grows > 0 && grows > room {
			err = syscall.ENOSPC
			n = int(max(0, int64(n)-(grows-max(room, 0))))
		}
	} else if errors.Is(err, fs.ErrClosed) {
		n = 0
	} else if err != nil && !errors.Is(err, ErrCrashed) {
		n = f.fs.rng.IntN(n + 1) // a short write
	}
	if err != nil && errors.Is(err, ErrCrashed) {
		n = f.fs.rng.IntN(n + 1) // the last one may have begun
	}
	if n > 0 {
		w := write{off, append([]byte(nil), p[:n]...)}
		f.inode.write(w)
		f.inode.modTime = f.fs.now
	}
	if err != nil {
		return n, pathError("write", f.path, err)
	}
	return n, nil
}

func (f *file) Truncate(size int64) error {
	f.fs.linger()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.step(Write); err != nil {
		return pathError("truncate", f.path, err)
	}
	f.inode.write(write{at: size})
	return nil
}

func (f *file) Sync() error {
	f.fs.waitIfHeld()
	f.fs.linger()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.step(Sync); err != nil {
		return pathError("sync", f.path, err)
	}
	if f.fs.syncFails() {
		f.fs.lose(f.inode)
		return pathError("sync", f.path, syscall.EIO)
	}
	f.inode.sync()
	return nil
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return nil, ErrCrashed
	}
	return infoOf(f.path, f.inode), nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	return nil
}

type info struct {
	name    string
	size    int64
	modTime time.Time
	dir     bool
}

func infoOf(path string, n *inode) info {
	i := info{name: filepath.Base(path), dir: n == nil}
	if n != nil {
		i.size, i.modTime = int64(len(n.data)), n.modTime
	}
	return i
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.modTime }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

var _ storage.FS = (*FS)(nil)

// String says how much there is, for messages.
func (f *FS) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d names, %d bytes", len(f.files), f.used())
}
