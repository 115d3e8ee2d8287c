package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a file system of its own, in a file: it can be made to hang, to fail and to run full. It takes root, and loop devices. It is for
// one goroutine.
type Disk struct {
	Failed bool // it will never work again

	path, device string
	frozen       bool
}

// NewDisk mounts an empty disk of so many MiB at a directory, which it makes, until Close.
func NewDisk(path string, size int) (*Disk, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	file := path + ".disk"
	for _, args := range [][]string{
		{"truncate", "-s", fmt.Sprintf("%dM", size), file},
		{"mkfs.ext4", "-q", "-O", "^has_journal", file},
		{"mount", "-o", "loop,errors=remount-ro", file, path},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cannot mount a disk: %v: %w\n%s", args, err, out)
		}
	}
	d := &Disk{path: path}
	device, err := exec.CommandContext(ctx, "findmnt", "-n", "-o", "SOURCE", path).Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("findmnt %s: %w", path, err), d.Close())
	}
	d.device = filepath.Base(strings.TrimSpace(string(device)))
	return d, nil
}

// Close unmounts the disk. No process may have files open on it.
func (d *Disk) Close() error {
	if err := unix.Unmount(d.path, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", d.path, err)
	}
	return nil
}

// Requests to ext4, of linux/fs.h and of its own.
const (
	freezeRequest   = 0xc0045877 // FIFREEZE
	thawRequest     = 0xc0045878 // FITHAW
	shutdownRequest = 0x8004587d // EXT4_IOC_SHUTDOWN
)

// Freeze has all writes to the disk wait until Thaw.
func (d *Disk) Freeze() error {
	err := d.ask(freezeRequest, 0)
	d.frozen = err == nil
	return err
}

// Thaw ends Freeze, if there was one.
func (d *Disk) Thaw() error {
	if !d.frozen {
		return nil
	}
	err := d.ask(thawRequest, 0)
	d.frozen = err != nil
	return err
}

// ShutDown has everything fail with EIO, as on a disk that is gone.
func (d *Disk) ShutDown() error {
	err := d.ask(shutdownRequest, 2) // and flush nothing
	d.Failed = err == nil
	return err
}

// MakeReadOnly does what the system does when it finds damage.
func (d *Disk) MakeReadOnly() error {
	err := os.WriteFile(filepath.Join("/sys/fs/ext4", d.device, "trigger_fs_error"), []byte("damaged by a test"), 0o200)
	d.Failed = err == nil
	return err
}

// Fill takes all room that is left.
func (d *Disk) Fill() error {
	f, err := os.Create(filepath.Join(d.path, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		_, err := f.Write(chunk)
		switch {
		case errors.Is(err, unix.ENOSPC):
			chunk = chunk[:len(chunk)/2] // down to the last block
		case err != nil:
			return err
		}
	}
	return nil
}

func (d *Disk) ask(request uint, argument int) error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), request, argument); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return nil
}
