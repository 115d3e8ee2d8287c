//go:build !linux

package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// SyncFS implements FS by syncing every file below path: there is no call for a file system as a whole.
func (o OS) SyncFS(path string) error {
	return filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return o.SyncDir(p)
		}
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
