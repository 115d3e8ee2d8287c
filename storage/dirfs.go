package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrDirOffline refuses everything in a log directory whose disk has failed (KIP-112).
var ErrDirOffline = fmt.Errorf("the log directory is offline: %w", kerr.KafkaStorageError)

// storageError gives an error of the disk Kafka's code for clients, unless it has one.
func storageError(err error) error {
	var k *kerr.Error
	if errors.As(err, &k) {
		return err
	}
	return fmt.Errorf("%w: %w", err, kerr.KafkaStorageError)
}

// dirFS is the file system as seen through one log directory: it notices that the directory's disk has
// failed, and from then on refuses everything but closing.
type dirFS struct {
	FS
	dir *Dir
}

// diskFaults are the errors that speak of a disk, or of what it is mounted by, and not of one file.
var diskFaults = []error{syscall.EIO, syscall.EROFS, syscall.ENXIO, syscall.ENODEV, syscall.ESTALE, syscall.ENOTCONN}

// watch takes the outcome of an operation: one that only a failed disk gives takes the directory offline.
func (d *Dir) watch(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	for _, fault := range diskFaults {
		if errors.Is(err, fault) {
			d.fail(err)
			return fmt.Errorf("%w: %w", err, ErrDirOffline)
		}
	}
	return err
}

// fail takes the directory offline, once and for the life of the process.
func (d *Dir) fail(err error) {
	if !d.failure.CompareAndSwap(nil, &err) {
		return
	}
	_ = d.fs.FS.Remove(filepath.Join(d.path, aliveFile)) // what it did not take may be lost
	if d.failed != nil {
		d.failed <- d // has room for every directory
	}
}

// offline is ErrDirOffline with the cause once the directory has failed.
func (d *Dir) offline() error {
	if e := d.failure.Load(); e != nil {
		return fmt.Errorf("%s: %w: %w", d.path, *e, ErrDirOffline)
	}
	return nil
}

// Err says why the directory is offline, nil while it works. Any goroutine may call it.
func (d *Dir) Err() error { return d.offline() }

func (f *dirFS) run(op func() error) error {
	if err := f.dir.offline(); err != nil {
		return err
	}
	return f.dir.watch(op())
}

// write is run for what writes little.
func (f *dirFS) write(op func() error) error {
	return f.run(func() error { return f.dir.writes.note(op) })
}

// sync runs a file's sync. One of much data takes long on a slow disk; it counts only if each acknowledgement waits for one.
func (d *Dir) sync(f File) error {
	if d.notesSyncs {
		return d.writes.note(f.Sync)
	}
	return f.Sync()
}

// OpenFile implements FS.
func (f *dirFS) OpenFile(path string, create bool) (File, error) {
	file, err := f.open(path, create)
	if err != nil {
		return nil, err
	}
	return &watchedFile{file, f.dir}, nil
}

// open opens a file that nobody watches yet.
func (f *dirFS) open(path string, create bool) (file File, err error) {
	run := f.run
	if create {
		run = f.write
	}
	err = run(func() (err error) { file, err = f.FS.OpenFile(path, create); return err })
	return file, err
}

// ReadFile implements FS.
func (f *dirFS) ReadFile(path string) (data []byte, err error) {
	err = f.run(func() (err error) { data, err = f.FS.ReadFile(path); return err })
	return data, err
}

// WriteFile implements FS.
func (f *dirFS) WriteFile(path string, data []byte) error {
	return f.write(func() error { return f.FS.WriteFile(path, data) })
}

// Remove implements FS.
func (f *dirFS) Remove(path string) error { return f.run(func() error { return f.FS.Remove(path) }) }

// RemoveAll implements FS.
func (f *dirFS) RemoveAll(path string) error {
	return f.run(func() error { return f.FS.RemoveAll(path) })
}

// Rename implements FS.
func (f *dirFS) Rename(from, to string) error {
	return f.write(func() error { return f.FS.Rename(from, to) })
}

// MkdirAll implements FS.
func (f *dirFS) MkdirAll(path string) error {
	return f.write(func() error { return f.FS.MkdirAll(path) })
}

// ReadDir implements FS.
func (f *dirFS) ReadDir(path string) (list []fs.DirEntry, err error) {
	err = f.run(func() (err error) { list, err = f.FS.ReadDir(path); return err })
	return list, err
}

// Stat implements FS.
func (f *dirFS) Stat(path string) (info fs.FileInfo, err error) {
	err = f.run(func() (err error) { info, err = f.FS.Stat(path); return err })
	return info, err
}

// Chtimes implements FS.
func (f *dirFS) Chtimes(path string, t time.Time) error {
	return f.run(func() error { return f.FS.Chtimes(path, t) })
}

// SyncDir implements FS.
func (f *dirFS) SyncDir(path string) error { return f.run(func() error { return f.FS.SyncDir(path) }) }

// SyncFS implements FS.
func (f *dirFS) SyncFS(path string) error { return f.run(func() error { return f.FS.SyncFS(path) }) }

// Usage implements FS.
func (f *dirFS) Usage(path string) (total, usable int64, err error) {
	err = f.run(func() (err error) { total, usable, err = f.FS.Usage(path); return err })
	return total, usable, err
}

// watchedFile is a file of a directory whose disk is watched.
type watchedFile struct {
	File
	dir *Dir
}

// ReadAt implements File.
func (w *watchedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.File.ReadAt(p, off)
	return n, w.dir.watch(err)
}

// WriteAt implements File.
func (w *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	n := 0
	err := w.dir.writes.note(func() (err error) { n, err = w.File.WriteAt(p, off); return err })
	return n, w.dir.watch(err)
}

// Sync implements File.
func (w *watchedFile) Sync() error { return w.dir.watch(w.dir.sync(w.File)) }

// Truncate implements File.
func (w *watchedFile) Truncate(size int64) error { return w.dir.watch(w.File.Truncate(size)) }
