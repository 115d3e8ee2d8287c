package storage

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"kraft/storage/logfile"
)

// TestIndexesThatCannotBeRight: files of indexes whose entries do not rise, pass the segment or are empty are refused, and others are not.
func TestIndexesThatCannotBeRight(t *testing.T) {
	offsets := func(e ...offsetEntry) (out []byte) {
		x := new(indexes)
		x.offsets.replace(e)
		out, _ = x.encode()
		return out
	}
	times := func(e ...timeEntry) (out []byte) {
		x := new(indexes)
		x.times.replace(e)
		_, out = x.encode()
		return out
	}
	for name, tc := range map[string]struct {
		offsets, times []byte
		size           int64
		good           bool
	}{
		"empty":                       {nil, nil, 100, true},
		"rising":                      {offsets(offsetEntry{0, 0}, offsetEntry{3, 50}, offsetEntry{4, 99}), times(timeEntry{5, 1}, timeEntry{6, 1}, timeEntry{7, 3}), 100, true},
		"a segment of unknown size":   {offsets(offsetEntry{3, 50}), nil, 0, true},
		"a time of 1970":              {nil, times(timeEntry{0, 1}), 100, true},
		"half an offset":              {make([]byte, logfile.OffsetEntrySize+1), nil, 100, false},
		"half a time":                 {nil, make([]byte, logfile.TimeEntrySize-1), 100, false},
		"the same offset":             {offsets(offsetEntry{3, 50}, offsetEntry{3, 60}), nil, 100, false},
		"the same position":           {offsets(offsetEntry{3, 50}, offsetEntry{4, 50}), nil, 100, false},
		"a falling position":          {offsets(offsetEntry{3, 50}, offsetEntry{4, 40}), nil, 100, false},
		"an offset below 0":           {offsets(offsetEntry{-1, 50}), nil, 100, false},
		"a position below 0":          {offsets(offsetEntry{1, -50}), nil, 100, false},
		"a position at the end":       {offsets(offsetEntry{1, 100}), nil, 100, false},
		"the same time":               {nil, times(timeEntry{5, 1}, timeEntry{5, 2}), 100, false},
		"a falling time":              {nil, times(timeEntry{5, 1}, timeEntry{4, 2}), 100, false},
		"a time at an earlier offset": {nil, times(timeEntry{5, 2}, timeEntry{6, 1}), 100, false},
		"an empty time":               {nil, times(timeEntry{0, 0}), 100, false},
	} {
		x, err := decodeIndexes(tc.offsets, tc.times, tc.size)
		if tc.good != (err == nil) || err != nil && !errors.Is(err, logfile.ErrBadIndex) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if o, ts := x.encode(); !slices.Equal(o, tc.offsets) || !slices.Equal(ts, tc.times) {
			t.Errorf("%s: read and written it is something else", name)
		}
	}
}

// TestTimeIndexRises: a time that is not newer, or of an earlier record, adds nothing.
func TestTimeIndexRises(t *testing.T) {
	x := new(indexes)
	for _, e := range []timeEntry{{5, 1}, {5, 2}, {4, 3}, {6, 0}, {6, 1}, {7, 4}} {
		x.addTime(e.timestamp, e.rel)
	}
	if got, want := x.times.view(), []timeEntry{{5, 1}, {6, 1}, {7, 4}}; !slices.Equal(got, want) {
		t.Errorf("%v, wanted %v", got, want)
	}
}

// TestRecentBatches: what was appended last to the newest segment is found by its offsets, and nothing that is not there.
func TestRecentBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		var r recentBatches
		var all []batchRef
		segment, next := int64(0), int64(0)
		for range 1 + rng.IntN(3*recentSize) {
			switch rng.IntN(60) {
			case 0:
				segment, all = next, nil
			case 1:
				r.clear()
				all = nil
			}
			next += int64(rng.IntN(2)) // a gap
			ref := batchRef{base: next, last: next + rng.Int64N(4)}
			next = ref.last + 1
			r.add(segment, ref)
			all = append(all, ref)
		}
		kept := all[max(0, len(all)-recentSize):]
		for offset := max(0, next-300); offset < next+2; offset++ {
			want := slices.IndexFunc(kept, func(b batchRef) bool { return b.last >= offset })
			if len(kept) > 0 && offset < kept[0].base {
				want = -1 // what is not remembered may lie before
			}
			got, ok := r.find(segment, offset)
			if ok != (want >= 0) || ok && got != kept[want] {
				t.Fatalf("round %d, offset %d: %v %v of %v", round, offset, got, ok, kept)
			}
			if _, ok := r.find(segment-1, offset); ok {
				t.Fatalf("round %d, offset %d: found in another segment", round, offset)
			}
		}
	}
}
