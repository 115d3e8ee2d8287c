package storage

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// SyncDir implements FS. NTFS journals names itself and directories cannot be flushed.
func (OS) SyncDir(string) error { return nil }

// maxOpenFiles is how many files the process may have open: far fewer than Windows allows.
func maxOpenFiles() int { return 1 << 14 }

// Usage implements FS by GetDiskFreeSpaceEx.
func (OS) Usage(path string) (total, usable int64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	var t, u uint64
	err = windows.GetDiskFreeSpaceEx(name, &u, &t, nil)
	return int64(t), int64(u), err
}

// Lock implements FS by LockFileEx, which the system drops when the process dies.
func (OS) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if err != nil {
		_ = f.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
