package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/storage/inspect"
	"kraft/storage/logfile"
)

// TestVerify: a log that is sound is, and each kind of damage is found where it is.
func TestVerify(t *testing.T) {
	write := func(t *testing.T) string {
		dir := t.TempDir()
		m := testManager(t, dir)
		now := time.Now()
		c := DefaultLogConfig()
		c.SegmentBytes, c.IndexInterval = 4000, 500
		l := open(t, m, c)
		for n := range 100 {
			appendTo(t, l, batch(t, 4, now.UnixMilli()+int64(n), 7, 0, int32(4*n)), now)
		}
		stop(t, m)
		found, err := inspect.PartitionDirs(dir)
		if err != nil || len(found) != 1 {
			t.Fatalf("partitions %v (%v)", found, err)
		}
		return found[0]
	}
	damage := func(suffix string, nth int, change func([]byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
			if err != nil || len(files) <= nth {
				t.Fatalf("%v (%v)", files, err)
			}
			data, err := os.ReadFile(files[nth])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[nth], change(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string)
		says string // "" for a log that is sound
	}{
		"sound":            {func(*testing.T, string) {}, ""},
		"a bit of records": {damage(logfile.LogSuffix, 0, flip(300)), "checksum"},
		"an offset":        {damage(logfile.LogSuffix, 1, flip(7)), "offset"},
		"a length":         {damage(logfile.LogSuffix, 0, flip(8)), "are no batch"},
		"the format":       {damage(logfile.LogSuffix, 0, flip(16)), "magic"},
		"a position":       {damage(logfile.IndexSuffix, 0, flip(7)), "is not at byte"},
		"half an entry":    {damage(logfile.IndexSuffix, 0, func(b []byte) []byte { return b[:len(b)-3] }), "no number of entries"},
		"a time":           {damage(logfile.TimeIndexSuffix, 0, flip(0)), "cannot be right"},
		"a producer":       {damage(logfile.SnapshotSuffix, 0, flip(12)), "checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t)
			c.do(t, dir)
			var read int64
			v, err := inspect.Verify(dir, func(n int64) { read += n })
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(v.Problems, "; ")
			if (c.says == "") != (said == "") || !strings.Contains(said, c.says) {
				t.Errorf("found %q, wanted %q", said, c.says)
			}
			if c.says == "" && (v.Records != 400 || v.End != 400 || v.Start != 0 || v.Segments < 2 || read != v.Bytes || v.UnfinishedTail != 0) {
				t.Errorf("%+v, %d bytes read", v, read)
			}
		})
	}
	t.Run("a torn tail", func(t *testing.T) {
		dir := write(t)
		files, _ := filepath.Glob(filepath.Join(dir, "*"+logfile.LogSuffix))
		data, err := os.ReadFile(files[len(files)-1])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[len(files)-1], data[:len(data)-7], 0o644); err != nil {
			t.Fatal(err)
		}
		if v, err := inspect.Verify(dir, func(int64) {}); err != nil || v.UnfinishedTail == 0 || v.Problems != nil {
			t.Errorf("%+v (%v)", v, err)
		}
	})
}
