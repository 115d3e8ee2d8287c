package storage

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/record"
)

// written is a batch that a test knows to be in a log.
type written struct {
	segment, base, last int64
	size                int
}

// wantRead is what Read is to find of a log that begins and ends at start and end: which batches of which segment, and how many bytes.
func wantRead(log []written, start, end, offset int64, maxBytes int, upTo int64, whole bool) (first *written, length int, err error) {
	if offset < start || offset > end {
		return nil, 0, kerr.OffsetOutOfRange
	}
	if upTo = min(upTo, end); offset >= upTo {
		return nil, 0, nil
	}
	total := 0
	for i := range log {
		b := &log[i]
		if b.last < offset {
			continue
		}
		if first == nil {
			if b.base >= upTo {
				return nil, 0, nil
			}
			first = b
		}
		if b.segment != first.segment || b.last >= upTo {
			break
		}
		total += b.size
	}
	length = min(total, maxBytes)
	if whole {
		length = min(total, max(maxBytes, first.size))
	}
	return first, length, nil
}

// TestReads asks logs of several segments, which begin anywhere, for every range of offsets and several numbers of bytes, while they are
// written and after they were opened again.
func TestReads(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 6 {
		dir := t.TempDir()
		m := testManager(t, dir)
		c := *DefaultLogConfig()
		c.SegmentBytes, c.IndexInterval, c.DeleteDelay = 400, []int64{1, 200, 4096}[round%3], 0
		l := open(t, m, &c)
		var log []written
		for len(log) < 25 {
			b := batch(t, 1+rng.IntN(4), time.Now().UnixMilli(), -1, -1, -1)
			a := appendTo(t, l, b, time.Now())
			segments := *l.segments.Load()
			log = append(log, written{segments[len(segments)-1].base, a.First, a.Last, b.Size()})
		}
		end := l.EndOffset()
		l.SetHighWatermark(end)
		start := int64(0)
		if round%2 == 1 {
			var err error
			if start, err = l.DeleteBefore(rng.Int64N(end), time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := l.retain(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		for _, again := range []bool{false, true} {
			if again {
				stop(t, m)
				m = testManager(t, dir)
				l = open(t, m, &c)
			}
			for offset := int64(-1); offset <= end+1; offset++ {
				for upTo := int64(0); upTo <= end+1; upTo++ {
					for _, maxBytes := range []int{-1, 0, 1, 90, 250, 1 << 20} {
						for _, whole := range []bool{false, true} {
							s, err := l.Read(offset, maxBytes, upTo, whole)
							first, length, wanted := wantRead(log, start, end, offset, max(maxBytes, 0), upTo, whole)
							if !errors.Is(err, wanted) || s.Length != length {
								t.Fatalf("round %d, opened again %v: from %d to %d, %d bytes, whole %v: %d bytes, %v, wanted %d, %v", round, again, offset, upTo, maxBytes, whole, s.Length, err, length, wanted)
							}
							if first == nil || length == 0 {
								continue
							}
							if s.FirstCut != (length < first.size) {
								t.Fatalf("%d bytes, the first batch has %d: cut %v", length, first.size, s.FirstCut)
							}
							head := make([]byte, record.MinFrame)
							if _, err := s.File.ReadAt(head, s.Offset); err != nil {
								t.Fatal(err)
							}
							if got := record.Batch(head).BaseOffset(); got != first.base {
								t.Fatalf("from %d to %d: the batch at %d, wanted the one at %d", offset, upTo, got, first.base)
							}
						}
					}
				}
			}
		}
		stop(t, m)
	}
}
