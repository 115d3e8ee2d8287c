package storage

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/wire/ident"
)

// TestOpenFilesAreBounded: however many segments are read, no more files are open than allowed, except
// those with unsynced records; readers and writers do not notice.
func TestOpenFilesAreBounded(t *testing.T) {
	d, err := OpenDir(OS{}, t.TempDir())
	if err == nil {
		err = d.Claim("cluster", 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	const limit = 8
	m, err := NewManager([]*Dir{d}, ManagerConfig{RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 2,
		OpenSegments: limit, Cleaner: CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	var logs []*Log
	for i := range 10 {
		l, err := m.Open(ident.TopicPartition{Topic: "t", Partition: int32(i)}, testID, [16]byte{}, DefaultLogConfig())
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
		for range 5 {
			if _, err := l.Append(batch(t, 1, time.Now().UnixMilli(), -1, -1, -1), 0, time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := l.Roll(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := d.pool.size(); got < 50 {
		t.Errorf("%d files are open, 50 have unsynced records", got)
	}
	for _, l := range logs {
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		l.SetHighWatermark(l.EndOffset())
	}
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			for i := range 400 {
				l := logs[(i*7+r)%len(logs)]
				s, err := l.Read(int64(i%5), 1<<20, 5, true)
				if err != nil || s.Length == 0 {
					t.Errorf("read: %d bytes, %v", s.Length, err)
					return
				}
				if _, err := s.File.ReadAt(make([]byte, s.Length), s.Offset); err != nil {
					t.Error(err)
					return
				}
				raw, err := s.File.(syscall.Conn).SyscallConn()
				if err == nil {
					err = raw.Control(func(fd uintptr) {
						if fd == 0 {
							t.Error("no descriptor")
						}
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	readers.Wait()
	if got := d.pool.size(); got > limit {
		t.Errorf("%d files are open, %d are allowed", got, limit)
	}
	if n := openDescriptors(t, d.path); n > limit+1 { // and the lock file
		t.Errorf("the process has %d files of the directory open", n)
	}
	// A file that the pool closed is written to and deleted like any other.
	for _, l := range logs {
		if _, err := l.Append(batch(t, 1, time.Now().UnixMilli(), -1, -1, -1), 0, time.Now()); err != nil {
			t.Fatal(err)
		}
		l.SetHighWatermark(l.EndOffset())
		if _, err := l.DeleteBefore(3, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	if got := d.pool.size(); got != 0 {
		t.Errorf("%d files are open after the end", got)
	}
}

// openDescriptors counts this process's open files below dir, 0 where the system does not tell.
func openDescriptors(t *testing.T, dir string) (n int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log(err)
		return 0
	}
	for _, f := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && len(to) > len(dir) && to[:len(dir)] == dir {
			n++
		}
	}
	return n
}
