package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"kraft/e2e/harness"
)

// diskSize is the MiB of a broker's disk.
const diskSize = 512

// mount gives each of the brokers whose directories are below dir a disk of its own, if the benchmark wants that.
func (c *cluster) mount(dir string) error {
	if !c.onDisks {
		return nil
	}
	for id := range 3 {
		d, err := harness.NewDisk(filepath.Join(dir, fmt.Sprint(id+1)), diskSize)
		if err != nil {
			return err
		}
		c.disks = append(c.disks, d)
	}
	return nil
}

// unmount is for when no broker is there any more.
func (c *cluster) unmount() error {
	var failed error
	for _, d := range c.disks {
		failed = errors.Join(failed, d.Thaw(), d.Close())
	}
	return failed
}

// benchDisk makes the disk of a leader that is not the active controller fail, and measures the longest gap between acknowledgements.
func benchDisk(fail func(*harness.Disk) error) func(options, *cluster) (result, error) {
	return func(_ options, c *cluster) (result, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		l, leader, _, err := c.startImpatientLoad(ctx)
		if err != nil {
			return nil, err
		}
		defer l.close()
		d := c.disks[leader-1]
		l.gap()
		if err := fail(d); err != nil {
			return nil, err
		}
		time.Sleep(observed)
		r := result{"longest gap": l.gap()}
		return r, d.Thaw()
	}
}
