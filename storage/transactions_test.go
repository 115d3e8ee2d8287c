package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

func transactional(t *testing.T, pid int64, epoch int16, seq int32) record.Batch {
	t.Helper()
	w := record.NewBuilder(record.None)
	w.ProducerID, w.ProducerEpoch, w.BaseSequence, w.Attributes = pid, epoch, seq, record.TransactionalFlag
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte("v")})
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// appendGuarded appends a batch as a leader does that has verified it.
func appendGuarded(t *testing.T, l *Log, b record.Batch, adds bool) (Appended, error) {
	t.Helper()
	now := time.Now()
	g, err := l.Guard(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), adds, now)
	if err != nil {
		return Appended{}, err
	}
	v, err := l.Validate(b, now)
	if err != nil {
		t.Fatal(err)
	}
	return l.AppendValidated(v.Guarded(g), 0)
}

// TestGuards: the first batch of a transaction needs the guard of this log, which a batch or a marker of the producer uses up.
func TestGuards(t *testing.T) {
	m := testManager(t, t.TempDir())
	defer stop(t, m)
	l := open(t, m, DefaultLogConfig())
	now := time.Now()
	mark := func(marker Marker) error {
		_, errs, err := l.AppendMarkers([]Marker{marker}, 0, now)
		return errors.Join(append(errs, err)...)
	}
	put := func(b record.Batch, g *Guard) error {
		v, err := l.Validate(b, now)
		if err == nil {
			_, err = l.AppendValidated(v.Guarded(g), 0)
		}
		return err
	}
	guard := func(epoch int16, seq int32) *Guard {
		t.Helper()
		g, err := l.Guard(7, epoch, seq, false, now)
		if err != nil || g == nil {
			t.Fatalf("epoch %d: %v %v", epoch, g, err)
		}
		return g
	}
	wants := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, wanted %v", what, got, want)
		}
	}
	wants("without a guard", put(transactional(t, 7, 0, 0), nil), kerr.InvalidTxnState)
	wants("with another's", put(transactional(t, 7, 0, 0), new(Guard)), kerr.InvalidTxnState)
	old := guard(0, 0)
	wants("an abort that comes before the batch", mark(Marker{ProducerID: 7, CoordinatorEpoch: 1}), nil)
	wants("the batch behind it", put(transactional(t, 7, 0, 0), old), kerr.InvalidTxnState)
	wants("verified again", put(transactional(t, 7, 0, 0), guard(0, 0)), nil)
	if g, err := l.Guard(7, 0, 1, false, now); g != nil || err != nil {
		t.Errorf("while it is open: %v %v", g, err)
	}
	wants("a batch of no transaction", put(batch(t, 1, now.UnixMilli(), 7, 0, 1), nil), kerr.InvalidTxnState)
	wants("the next batch", put(transactional(t, 7, 0, 1), nil), nil)
	wants("the same batch", put(transactional(t, 7, 0, 1), nil), nil)
	wants("a gap", put(transactional(t, 7, 0, 3), nil), kerr.OutOfOrderSequenceNumber)
	wants("an old coordinator's marker", mark(Marker{ProducerID: 7, CoordinatorEpoch: 0}), kerr.TransactionCoordinatorFenced)
	wants("version 2 with the same epoch", mark(Marker{ProducerID: 7, CoordinatorEpoch: 1, Version: 2}), kerr.InvalidProducerEpoch)
	wants("version 2", mark(Marker{ProducerID: 7, Epoch: 1, CoordinatorEpoch: 1, Version: 2, Commit: true}), nil)
	wants("the same again", mark(Marker{ProducerID: 7, Epoch: 1, CoordinatorEpoch: 1, Version: 2, Commit: true}), nil)
	_, err := l.Guard(7, 0, 2, false, now)
	wants("the epoch before", err, kerr.InvalidProducerEpoch)
	next := guard(1, 0)
	wants("a marker that comes again", mark(Marker{ProducerID: 7, Epoch: 1, CoordinatorEpoch: 1, Version: 2, Commit: true}), nil)
	wants("the next transaction keeps its guard", put(transactional(t, 7, 1, 0), next), nil)
	_, err = appendGuarded(t, l, transactional(t, 8, 0, 3), true)
	wants("a first sequence that is not 0", err, kerr.OutOfOrderSequenceNumber)
	_, err = appendGuarded(t, l, transactional(t, 9, 0, 3), false)
	wants("the same of an old client", err, nil)
}

// openTxn is an open transaction of the model.
type openTxn struct{ first int64 }

// TestStable: the last stable offset and the aborted transactions are those of a plain model, whatever is written, replicated, cut off and
// loaded again.
func TestStable(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		config := DefaultLogConfig()
		config.SegmentBytes = 600
		m := testManager(t, dir)
		l := open(t, m, config)
		type ended struct {
			pid         int64
			first, last int64
			aborted     bool
		}
		opened, done, seqs := map[int64]openTxn{}, []ended{}, map[int64]int32{}
		loaded := false
		var cutTo []func() // what the model was before each record, by offset
		remember := func() {
			o, d, q := map[int64]openTxn{}, slices.Clone(done), map[int64]int32{}
			for k, v := range opened {
				o[k] = v
			}
			for k, v := range seqs {
				q[k] = v
			}
			cutTo = append(cutTo, func() { opened, done, seqs = o, d, q })
		}
		check := func(what string) {
			t.Helper()
			want := l.HighWatermark()
			for _, o := range opened {
				want = min(want, o.first)
			}
			most := want
			var aborted []logfile.AbortedTxn
			for _, e := range done {
				if e.last >= l.HighWatermark() {
					want = min(want, e.first)
				}
				if e.aborted {
					aborted = append(aborted, logfile.AbortedTxn{ProducerID: e.pid, First: e.first, Last: e.last})
				}
			}
			// A snapshot does not hold ended transactions whose markers are not replicated, as Kafka's does not.
			if got := l.LastStableOffset(); got != want && (!loaded || got < want || got > most) {
				t.Fatalf("seed %d, %s: the last stable offset is %d, wanted %d (high watermark %d, end %d, open %v, ended %v)", seed, what, got, want, l.HighWatermark(), l.EndOffset(), opened, done)
			}
			from, upTo := int64(0), l.EndOffset()
			got, err := l.AbortedTransactions(from, upTo)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				got[i].LastStable = 0
			}
			slices.SortFunc(aborted, func(a, b logfile.AbortedTxn) int { return int(a.First - b.First) })
			if !slices.Equal(got, aborted) {
				t.Fatalf("seed %d, %s: aborted %v, wanted %v", seed, what, got, aborted)
			}
			if upTo == 0 {
				return
			}
			from = r.Int64N(upTo)
			s, err := l.Read(from, 1+r.IntN(1000), upTo, true)
			if err != nil || s.Length == 0 {
				t.Fatal(s, err)
			}
			data := make([]byte, s.Length)
			if _, err := s.File.ReadAt(data, s.Offset); err != nil {
				t.Fatal(err)
			}
			last := int64(-1)
			for b, rest, err := record.Next(data); err == nil; b, rest, err = record.Next(rest) {
				last = b.LastOffset()
			}
			if s.End <= last || s.End > upTo {
				t.Fatalf("seed %d, %s: a run from %d to %d of %d is said to end at %d", seed, what, from, last, upTo, s.End)
			}
			listed, err := l.AbortedTransactions(from, s.End)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range aborted {
				if a.First <= last && a.Last >= from && !slices.ContainsFunc(listed, func(b logfile.AbortedTxn) bool { return b.ProducerID == a.ProducerID && b.First == a.First }) {
					t.Fatalf("seed %d, %s: of a run from %d to %d %v is not listed: %v", seed, what, from, last, a, listed)
				}
			}
		}
		for step := range 80 {
			pid := int64(r.IntN(4))
			what := ""
			switch k := r.IntN(20); {
			case k < 10:
				what = fmt.Sprint("a batch of ", pid)
				remember()
				a, err := appendGuarded(t, l, transactional(t, pid, 0, seqs[pid]), false)
				if err != nil {
					t.Fatalf("seed %d, %s: %v", seed, what, err)
				}
				seqs[pid]++
				if _, ok := opened[pid]; !ok {
					opened[pid] = openTxn{a.First}
				}
			case k < 15:
				commit := r.IntN(2) == 0
				what = fmt.Sprint("the end of ", pid)
				remember()
				a, errs, err := l.AppendMarkers([]Marker{{ProducerID: pid, Commit: commit, CoordinatorEpoch: 1}}, 0, time.Now())
				if err != nil || errs[0] != nil {
					t.Fatal(err, errs)
				}
				if o, ok := opened[pid]; ok {
					done = append(done, ended{pid, o.first, a.First, !commit})
					delete(opened, pid)
				}
			case k < 18:
				what = "replicated"
				l.SetHighWatermark(l.HighWatermark() + r.Int64N(l.EndOffset()-l.HighWatermark()+1))
			case k < 19:
				at := l.HighWatermark() + r.Int64N(l.EndOffset()-l.HighWatermark()+1)
				what = fmt.Sprint("cut to ", at)
				if at < l.EndOffset() {
					if _, err := l.Truncate(at); err != nil {
						t.Fatal(err)
					}
					loaded = true
					cutTo[at]()
					cutTo = cutTo[:at]
				}
			default:
				what = "loaded again"
				high := l.HighWatermark()
				loaded = true
				stop(t, m)
				m = testManager(t, dir)
				l = open(t, m, config)
				l.SetHighWatermark(high)
			}
			check(fmt.Sprint("step ", step, ", ", what))
		}
		stop(t, m)
	}
}

// TestCompactionOfLongAborts: a record of an aborted transaction does not take the place of a committed one, also where the marker lies in a
// later segment than the record, or behind what is compacted.
func TestCompactionOfLongAborts(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		m := testManager(t, t.TempDir())
		config := DefaultLogConfig()
		config.Compact, config.Delete = true, false
		l := open(t, m, config)
		now := time.Now()
		roll := func() {
			t.Helper()
			if err := l.Roll(now); err != nil {
				t.Fatal(err)
			}
		}
		put := func(b record.Batch) {
			t.Helper()
			if _, err := appendGuarded(t, l, b, false); err != nil {
				t.Fatal(err)
			}
		}
		put(transactional(t, 1, 0, 0)) // offset 0: key k
		if _, _, err := l.AppendMarkers([]Marker{{ProducerID: 1, Commit: true}}, 0, now); err != nil {
			t.Fatal(err)
		}
		roll()
		put(transactional(t, 2, 0, 0)) // offset 2: key k, of a transaction that is aborted
		roll()
		if _, _, err := l.AppendMarkers([]Marker{{ProducerID: 2}}, 0, now); err != nil {
			t.Fatal(err)
		}
		if sealed {
			roll()
		}
		put(batch(t, 1, now.UnixMilli(), -1, -1, -1))
		roll()
		l.SetHighWatermark(l.EndOffset())
		if _, err := l.Compact(0, 1<<20, now); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, r := range readAll(t, l, 0) {
			found = found || r.Offset == 0
			if r.Offset == 2 {
				t.Errorf("sealed %v: the aborted record is still there", sealed)
			}
		}
		if !found {
			t.Errorf("sealed %v: the committed record is gone", sealed)
		}
		stop(t, m)
	}
}

// TestGuardsOfBefore: a guard that was made before another leader appended is worth nothing, and keeps nobody from writing.
func TestGuardsOfBefore(t *testing.T) {
	m := testManager(t, t.TempDir())
	defer stop(t, m)
	l := open(t, m, DefaultLogConfig())
	now := time.Now()
	old, err := l.Guard(7, 0, 0, false, now)
	if err != nil {
		t.Fatal(err)
	}
	b := transactional(t, 7, 0, 0)
	b.SetBaseOffset(0)
	if _, err := l.AppendReplicated(b, false, now); err != nil {
		t.Fatal(err)
	}
	if _, err := appendGuarded(t, l, transactional(t, 7, 0, 1), false); err != nil {
		t.Errorf("the next batch of the open transaction: %v", err)
	}
	marker, err := record.NewMarker(7, 0, record.Abort, 1, now.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	marker.SetBaseOffset(2)
	if _, err := l.AppendReplicated(marker, false, now); err != nil {
		t.Fatal(err)
	}
	v, err := l.Validate(transactional(t, 7, 0, 2), now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendValidated(v.Guarded(old), 1); !errors.Is(err, kerr.InvalidTxnState) {
		t.Errorf("a batch behind the marker: %v", err)
	}
}
