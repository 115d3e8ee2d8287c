package storage

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"kraft/storage/logfile"
)

// TestAbandonedSegmentStaysClosed: whoever found a segment before it was cut off does not open the file that has its name now.
func TestAbandonedSegmentStaysClosed(t *testing.T) {
	dir, err := OpenDir(OS{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	dir.pool = &filePool{limit: 10}
	s := newSegment(dir.fs, dir.path, 0)
	if _, err := s.open(true); err != nil {
		t.Fatal(err)
	}
	if err := s.abandon(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path+logfile.LogSuffix, []byte("of another segment"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(false); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("opened again: %v", err)
	}
	if n := dir.pool.size(); n != 0 {
		t.Errorf("%d files are open", n)
	}
}
