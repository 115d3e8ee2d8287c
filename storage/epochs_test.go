package storage

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestEpochs plays random histories of leaders against a list of who wrote each offset.
func TestEpochs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	for round := range 2000 {
		c := newEpochs(OS{}, dir)
		var wrote []int32 // the epoch of each offset from start on
		start, epoch := int64(0), int32(-1)
		for range 1 + rng.IntN(20) {
			end := start + int64(len(wrote))
			switch rng.IntN(6) {
			case 0: // the log is cut
				to := start + rng.Int64N(int64(len(wrote))+1)
				wrote = wrote[:to-start]
				c.cut(start, to)
				if epoch = -1; len(wrote) > 0 {
					epoch = wrote[len(wrote)-1]
				}
			case 1: // its begin is deleted
				from := start + rng.Int64N(int64(len(wrote))+1)
				if from == end {
					continue // who wrote last is still known then
				}
				wrote, start = wrote[from-start:], from
				c.cut(start, -1)
			case 2: // an old epoch changes nothing
				c.assign(epoch-rng.Int32N(2), end)
				c.assign(-1, end)
			default:
				epoch += 1 + rng.Int32N(3)
				c.assign(epoch, end)
				for range rng.IntN(4) { // perhaps it writes nothing
					wrote = append(wrote, epoch)
				}
			}
		}
		end := start + int64(len(wrote))
		h := c.history()
		for i, e := range wrote {
			if got := h.at(start + int64(i)); got != e {
				t.Fatalf("round %d: offset %d is of epoch %d, not %d: %v", round, start+int64(i), e, got, h)
			}
		}
		if got := h.at(start - 1); got != -1 {
			t.Fatalf("round %d: before the begin, at %d: epoch %d", round, start, got)
		}
		for asked := int32(-1); asked <= h.latest()+2; asked++ {
			want, at := int32(-1), int64(-1)
			if asked >= 0 && asked <= h.latest() {
				want, at = asked, start // older than all
				known := slices.IndexFunc(h, func(e epochEntry) bool { return e.epoch <= asked })
				if known >= 0 {
					at = end
					for i, e := range wrote {
						if e > asked {
							at = start + int64(i)
							break
						}
					}
					for _, e := range h {
						if e.epoch <= asked {
							want = e.epoch
						} else {
							at = min(at, e.start)
							break
						}
					}
				}
			}
			if got, gotAt := h.endOffset(asked, end); got != want || gotAt != at {
				t.Fatalf("round %d: epoch %d ends at %d of epoch %d, wanted %d of %d: %v", round, asked, gotAt, got, at, want, h)
			}
		}
		if err := c.save(end, rng.IntN(2) == 0); err != nil {
			t.Fatal(err)
		}
		if len(h) == 0 {
			continue
		}
		again, err := openEpochs(OS{}, dir)
		if err != nil {
			t.Fatal(err)
		}
		written := slices.DeleteFunc(slices.Clone(h), func(e epochEntry) bool { return e.start >= end }) // whoever has written nothing is not on disk
		if !slices.Equal(again.history(), written) || c.dirty != (len(written) < len(h)) {
			t.Fatalf("round %d: %v on the disk, wanted %v; to be written again: %v", round, again.history(), written, c.dirty)
		}
	}
}

// TestEpochsOnDisk: a file that is no list of epochs is an error that names the line, and one that need not be written is not.
func TestEpochsOnDisk(t *testing.T) {
	dir := t.TempDir()
	if _, err := openEpochs(OS{}, dir); err != nil {
		t.Errorf("no file: %v", err)
	}
	c := newEpochs(OS{}, dir)
	c.assign(1, 0)
	if err := c.save(1, true); err != nil {
		t.Fatal(err)
	}
	if err := (OS{}).WriteFile(c.path, encodeCheckpoint([]string{"0 zero"})); err != nil {
		t.Fatal(err)
	}
	if err := c.save(1, true); err != nil {
		t.Fatal(err)
	}
	if _, err := openEpochs(OS{}, dir); err == nil || !strings.Contains(err.Error(), `"0 zero"`) {
		t.Errorf("a line that is no epoch, which nobody had a reason to write over: %v", err)
	}
	if err := (OS{}).WriteFile(c.path, []byte("0\nmany\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := openEpochs(OS{}, dir); err == nil {
		t.Error("a file that is no checkpoint is read")
	}
}

func TestCommonEnd(t *testing.T) {
	type h = epochHistory
	for name, tc := range map[string]struct {
		copied h
		end    int64
		log    h
		logEnd int64
		want   int64
	}{
		"nothing":                       {nil, 0, nil, 0, 0},
		"no epochs":                     {nil, 5, nil, 9, 5},
		"a part":                        {h{{0, 0}}, 5, h{{0, 0}}, 9, 5},
		"a part of two epochs":          {h{{0, 0}, {3, 4}}, 6, h{{0, 0}, {3, 4}}, 9, 6},
		"cut":                           {h{{0, 0}}, 9, h{{0, 0}}, 5, 5},
		"cut, and another leader":       {h{{0, 0}}, 9, h{{0, 0}, {1, 4}}, 20, 4},
		"cut in an earlier epoch":       {h{{0, 0}, {1, 4}}, 9, h{{0, 0}, {2, 3}}, 20, 3},
		"an epoch that wrote nothing":   {h{{0, 0}, {2, 4}}, 9, h{{0, 0}, {1, 4}, {2, 4}}, 20, 9},
		"records of the begin are gone": {h{{0, 0}, {1, 4}}, 9, h{{1, 6}}, 20, 9},
		"nothing in common":             {h{{0, 0}}, 9, h{{5, 0}}, 20, 0},
		"the log knows no epochs":       {h{{0, 0}}, 9, nil, 20, 0},
	} {
		if got := tc.copied.commonEnd(tc.end, tc.log, tc.logEnd); got != tc.want {
			t.Errorf("%s: %d, not %d", name, got, tc.want)
		}
	}
}
