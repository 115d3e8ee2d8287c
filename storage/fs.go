package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// FS is all that this package asks of a file system. OS is the real one; tests bring file systems
// that crash, fill up and rot. Paths are absolute or relative to the process, as with package os.
type FS interface {
	// OpenFile opens a file for reading and writing; create makes it if it is missing.
	OpenFile(path string, create bool) (File, error)
	ReadFile(path string) ([]byte, error)
	// WriteFile replaces a file as a whole: written beside it, synced, renamed, directory synced.
	WriteFile(path string, data []byte) error
	Remove(path string) error
	RemoveAll(path string) error
	Rename(from, to string) error
	MkdirAll(path string) error
	ReadDir(path string) ([]fs.DirEntry, error)
	Stat(path string) (fs.FileInfo, error)
	Chtimes(path string, t time.Time) error
	SyncDir(path string) error
	// SyncFS puts everything on disk that was written to path's file system.
	SyncFS(path string) error
	// Usage is the size in bytes of the disk that holds path, and how much of it may still be written.
	Usage(path string) (total, usable int64, err error)
	// Lock takes a lock file for the life of the process or until the closer is closed. It returns
	// ErrLocked while another process holds it.
	Lock(path string) (io.Closer, error)
}

// File is an open file. Any goroutine may read; writes go through the one owner of the file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

// ErrLocked says that another live process uses a directory.
var ErrLocked = errors.New("in use by another process")

// OS is the real file system.
type OS struct{}

// OpenFile implements FS.
func (OS) OpenFile(path string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, err // a nil *os.File must not become a non-nil File
	}
	return f, nil
}

// ReadFile implements FS.
func (OS) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// WriteFile implements FS.
func (o OS) WriteFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return err
	}
	return o.SyncDir(filepath.Dir(path))
}

// Remove implements FS.
func (OS) Remove(path string) error { return os.Remove(path) }

// RemoveAll implements FS.
func (OS) RemoveAll(path string) error { return os.RemoveAll(path) }

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// MkdirAll implements FS.
func (OS) MkdirAll(path string) error { return os.MkdirAll(path, 0o755) }

// ReadDir implements FS.
func (OS) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

// Stat implements FS.
func (OS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// Chtimes implements FS.
func (OS) Chtimes(path string, t time.Time) error { return os.Chtimes(path, t, t) }
