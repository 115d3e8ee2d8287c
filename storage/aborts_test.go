package storage_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/storage/logfile"
	"kraft/wire/ident"
	"kraft/wire/record"
)

// TestAbortsSurvive: after a crash the index of aborted transactions is what the records that are left say.
func TestAbortsSurvive(t *testing.T) {
	tp, c := ident.TopicPartition{Topic: "t"}, storage.DefaultLogConfig()
	c.SegmentBytes = 500
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := &disks{t: t, fs: faultfs.New(seed + 1)}
		if err := d.start("/data"); err != nil {
			t.Fatal(err)
		}
		l := d.open(tp, 0, c)
		seqs := map[int64]int32{}
		var story []string
		for range 60 {
			var err error
			what, stopped := "", false
			switch k := r.IntN(30); {
			case k < 12:
				what = "append"
				err = appendOf(l, r.Int64N(4), seqs)
			case k < 20:
				what = "end"
				_, _, err = l.AppendMarkers([]storage.Marker{{ProducerID: r.Int64N(4), Commit: r.IntN(3) == 0, CoordinatorEpoch: 1}}, 0, time.Now())
			case k < 24:
				what = "flush"
				err = l.Flush()
			case k < 26:
				what = "checkpoint"
				err = d.m.Checkpoint()
			case k < 27:
				what = "truncate"
				_, err = l.Truncate(l.EndOffset() - r.Int64N(min(l.EndOffset()+1, 8)))
				if err == nil {
					seqs = sequencesIn(t, l)
				}
			case k < 28:
				what = "a crash is near"
				d.fs.CrashAfter(r.IntN(20))
			default:
				what = "a crash"
				if stopped = r.IntN(2) == 0; stopped {
					what = "a crash after a stop"
					_ = d.m.Close(1)
				} else {
					d.fs.Crash()
				}
			}
			story = append(story, what)
			switch {
			case d.fs.Crashed() || stopped:
				if !stopped {
					d.m.Abandon()
				}
				if r.IntN(3) == 0 && !d.fs.Crashed() {
					d.fs.Kill()
				} else {
					d.fs.Restart()
				}
				if err := d.start("/data"); err != nil {
					t.Fatal(err)
				}
				l = d.open(tp, 0, c)
				l.SetHighWatermark(l.EndOffset())
				seqs = sequencesIn(t, l)
				want := abortsIn(t, l)
				got, err := l.AbortedTransactions(0, l.EndOffset())
				for i := range got {
					got[i].LastStable = 0
				}
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("seed %d, %v: aborted %v %v, the records say %v", seed, story, got, err, want)
				}
			case err != nil:
				t.Fatalf("seed %d, %v: %v", seed, story, err)
			}
		}
		d.m.Abandon()
	}
}

// TestAbortOnAFullDisk: wherever the disk becomes full while a transaction is aborted, the log goes on when there is room again, and its index of
// aborted transactions is what its records say; also after a stop and after a crash.
func TestAbortOnAFullDisk(t *testing.T) {
	tp, c := ident.TopicPartition{Topic: "t"}, storage.DefaultLogConfig()
	for room := range int64(160) {
		for _, end := range []string{"flush", "stop", "crash"} {
			d := &disks{t: t, fs: faultfs.New(uint64(room) + 1)}
			if err := d.start("/data"); err != nil {
				t.Fatal(err)
			}
			l := d.open(tp, 0, c)
			seqs := map[int64]int32{}
			abort := func(pid int64) error {
				_, _, err := l.AppendMarkers([]storage.Marker{{ProducerID: pid, CoordinatorEpoch: 1}}, 0, time.Now())
				return err
			}
			for pid := range int64(3) {
				if err := appendOf(l, pid, seqs); err != nil {
					t.Fatal(err)
				}
			}
			if err := abort(0); err != nil {
				t.Fatal(err)
			}
			d.fs.SetCapacity(true, room)
			full := abort(1) != nil
			_ = l.Flush() // which may have no room either
			d.fs.SetCapacity(false, 0)
			d.m.LookAtSpace()
			if full {
				if err := abort(1); err != nil {
					t.Fatalf("%d bytes of room, then more: %v", room, err)
				}
			}
			if err := abort(2); err != nil {
				t.Fatalf("%d bytes of room, then more: %v", room, err)
			}
			switch end {
			case "flush":
				if err := l.Flush(); err != nil {
					t.Fatalf("%d bytes of room, then more: %v", room, err)
				}
				d.m.Abandon()
				d.fs.Crash()
				d.fs.Restart()
			case "stop":
				if err := d.m.Close(1); err != nil {
					t.Fatal(err)
				}
				d.fs.Kill()
			case "crash":
				d.m.Abandon()
				d.fs.Kill()
			}
			if err := d.start("/data"); err != nil {
				t.Fatal(err)
			}
			l = d.open(tp, 0, c)
			l.SetHighWatermark(l.EndOffset())
			got, err := l.AbortedTransactions(0, l.EndOffset())
			for i := range got {
				got[i].LastStable = 0
			}
			if want := abortsIn(t, l); err != nil || len(want) != 3 || !slices.Equal(got, want) {
				t.Fatalf("%d bytes of room, %s: aborted %v %v, the records say %v", room, end, got, err, want)
			}
			d.m.Abandon()
		}
	}
}

func appendOf(l *storage.Log, pid int64, seqs map[int64]int32) error {
	w := record.NewBuilder(record.None)
	w.ProducerID, w.ProducerEpoch, w.BaseSequence, w.Attributes = pid, 0, seqs[pid], record.TransactionalFlag
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: fmt.Append(nil, pid)})
	b, err := w.Build()
	if err != nil {
		return err
	}
	now := time.Now()
	g, err := l.Guard(pid, 0, seqs[pid], false, now)
	if err != nil {
		return err
	}
	v, err := l.Validate(b, now)
	if err == nil {
		_, err = l.AppendValidated(v.Guarded(g), 0)
	}
	if err == nil {
		seqs[pid]++
	}
	return err
}

func sequencesIn(t *testing.T, l *storage.Log) map[int64]int32 {
	seqs := map[int64]int32{}
	for _, b := range batchesIn(t, l) {
		if !b.IsControl() {
			seqs[b.ProducerID()] = b.BaseSequence() + 1
		}
	}
	return seqs
}

// abortsIn are the aborted transactions, by first offset, as somebody sees them who reads all records.
func abortsIn(t *testing.T, l *storage.Log) (out []logfile.AbortedTxn) {
	first := map[int64]int64{}
	for _, b := range batchesIn(t, l) {
		pid := b.ProducerID()
		at, ok := first[pid]
		switch {
		case !b.IsControl() && !ok:
			first[pid] = b.BaseOffset()
		case b.IsControl() && ok:
			if kind, _, _ := b.Marker(); kind == record.Abort {
				out = append(out, logfile.AbortedTxn{ProducerID: pid, First: at, Last: b.BaseOffset()})
			}
			delete(first, pid)
		}
	}
	slices.SortFunc(out, func(a, b logfile.AbortedTxn) int { return int(a.First - b.First) })
	return out
}

func batchesIn(t *testing.T, l *storage.Log) (out []record.Batch) {
	t.Helper()
	for at := l.StartOffset(); at < l.EndOffset(); {
		s, err := l.Read(at, 1<<20, l.EndOffset(), true)
		if err != nil || s.Length == 0 {
			t.Fatal(at, s, err)
		}
		data := make([]byte, s.Length)
		if _, err := s.File.ReadAt(data, s.Offset); err != nil {
			t.Fatal(err)
		}
		for b, rest, err := record.Next(data); err == nil; b, rest, err = record.Next(rest) {
			out = append(out, b)
			at = b.LastOffset() + 1
		}
	}
	return out
}
