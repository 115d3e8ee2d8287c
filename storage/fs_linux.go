package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncFS implements FS by syncfs(2).
func (OS) SyncFS(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
