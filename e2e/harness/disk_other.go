//go:build !linux

package harness

import "errors"

// Disk is there on Linux alone.
type Disk struct{ Failed bool }

var errNoDisk = errors.New("disks can be mounted and made to fail on Linux alone")

// NewDisk returns an error.
func NewDisk(string, int) (*Disk, error) { return nil, errNoDisk }

// Close returns an error.
func (*Disk) Close() error { return errNoDisk }

// Freeze returns an error.
func (*Disk) Freeze() error { return errNoDisk }

// Thaw returns an error.
func (*Disk) Thaw() error { return errNoDisk }

// ShutDown returns an error.
func (*Disk) ShutDown() error { return errNoDisk }

// Fill returns an error.
func (*Disk) Fill() error { return errNoDisk }
