package raftmeta_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/raftmeta/image"
)

// TestDiskHangs: what a broker asks of the controller on its own node waits for a disk that hangs, and succeeds when that answers.
func TestDiskHangs(t *testing.T) {
	path := t.TempDir()
	disk, err := harness.NewDisk(path, 64)
	if err != nil {
		harness.Skip(t, "%v", err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	b := open(t, path)
	defer b.close(t)
	if err := disk.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	registered := make(chan error, 1)
	go func() { registered <- b.broker.Register(ctx, []image.UUID{b.dir.Meta().DirectoryID}, -1) }()
	for b.meta.HangsFor() < time.Second && ctx.Err() == nil {
		select {
		case err = <-registered:
			cancel()
		case <-time.After(time.Millisecond):
		}
	}
	if thaw := disk.Thaw(); thaw != nil {
		t.Fatal(thaw)
	}
	if ctx.Err() == nil {
		err = <-registered
	}
	if err != nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("registered: %v", err)
	}
}
