package storage_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"kraft/storage"
	"kraft/storage/faultfs"
)

// TestSettingsAtTheirEnds: with each number of a log's settings at its ends, and all of them there, a log is written, read, cleaned and
// opened again without a panic, and what was written is there unless retention has taken it.
func TestSettingsAtTheirEnds(t *testing.T) {
	var trials []storage.LogConfig
	for _, end := range []int64{math.MaxInt64, 0, 1} {
		all := *storage.DefaultLogConfig()
		for i := range reflect.TypeOf(all).NumField() {
			one := *storage.DefaultLogConfig()
			set := false
			for _, c := range []*storage.LogConfig{&one, &all} {
				if f := reflect.ValueOf(c).Elem().Field(i); f.CanInt() && f.Type() != reflect.TypeOf(c.Codec) {
					f.SetInt(end)
					set = true
				}
			}
			if set {
				trials = append(trials, one)
			}
		}
		compacted := all
		compacted.Compact = true
		trials = append(trials, all, compacted)
	}
	for _, c := range trials {
		c.IndexBytes = max(c.IndexBytes, 4) // the least that Kafka takes
		c.CodecLevel = storage.DefaultLogConfig().CodecLevel
		fs := faultfs.New(1)
		for range 2 {
			l, m := openOn(t, fs, &c)
			for range 3 {
				b := oneRecord(t, "v")
				now := time.UnixMilli(b.MaxTimestamp()) // one that is a millisecond old may be too old
				if _, err := l.Append(b, 0, now); err != nil && c.MaxMessageBytes > 1 {
					t.Fatalf("%+v: %v", c, err)
				}
			}
			l.SetHighWatermark(l.EndOffset())
			if c.Compact {
				if _, err := l.Compact(0, 1<<20, time.Now()); err != nil {
					t.Fatalf("%+v: %v", c, err)
				}
			}
			if _, err := values(l); err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			if err := m.Close(1); err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			fs.Kill() // which unlocks the directory
			fs.Restart()
		}
	}
}

// TestManagersSettingsAtTheirEnds: no number of the manager's settings keeps it from starting, or from stopping at once.
func TestManagersSettingsAtTheirEnds(t *testing.T) {
	for _, end := range []int64{math.MaxInt64, 0, 1} {
		for i := range reflect.TypeOf(storage.ManagerConfig{}).NumField() + reflect.TypeOf(storage.CleanerConfig{}).NumField() {
			name := ""
			l, m := openAs(t, faultfs.New(1), historyID, storage.DefaultLogConfig(), func(c *storage.ManagerConfig) {
				v := reflect.ValueOf(c).Elem()
				if n := v.NumField(); i >= n {
					v = reflect.ValueOf(&c.Cleaner).Elem()
					i -= n
				}
				name = v.Type().Field(i).Name
				if f := v.Field(i); f.CanInt() && name != "ReserveBytes" { // which can leave no room for anything
					f.SetInt(min(end, math.MaxInt>>1))
				}
			})
			if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err != nil {
				t.Fatalf("%s %d: %v", name, end, err)
			}
			begun := time.Now()
			if err := m.Close(1); err != nil || time.Since(begun) > 10*time.Second {
				t.Fatalf("%s %d: %v after %v", name, end, err, time.Since(begun))
			}
		}
	}
}
