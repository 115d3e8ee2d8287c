package workload

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestCheckTransactions: histories that must be rejected are, each for its kind, and those that Kafka allows are not.
func TestCheckTransactions(t *testing.T) {
	p0, p1 := Partition{"x", 0}, Partition{"x", 1}
	type write struct {
		p      Partition
		offset int64
		value  string
	}
	// one adds a transaction with its acknowledged writes.
	one := func(h *Transactions, name string, o outcome, writes ...write) *Txn {
		x := h.Begin("c", name)
		for _, w := range writes {
			h.writes(x, w.value, w.p)
			h.acked(x, w.value, w.offset)
		}
		h.ends(x, o)
		return x
	}
	records := func(writes ...write) map[Partition]map[int64]string {
		out := map[Partition]map[int64]string{p0: {}, p1: {}}
		for _, w := range writes {
			out[w.p][w.offset] = w.value
		}
		return out
	}
	a, b := write{p0, 0, "a"}, write{p1, 0, "b"}
	c, d := write{p0, 2, "c"}, write{p1, 2, "d"}
	for name, tc := range map[string]struct {
		play func(h *Transactions) Last
		want string // kinds, "" for none
	}{
		"all is well": {func(h *Transactions) Last {
			x := one(h, "1", committed, a, b)
			h.commits(x, 1)
			one(h, "2", aborted, c, d)
			y := one(h, "3", committed, write{p0, 4, "e"})
			h.commits(y, 3)
			h.reads(y, p0, 0, "a")
			h.sees(p0, 0, "a")
			return Last{records(a, b, write{p0, 4, "e"}), map[string]int64{"c": 3}}
		}, ""},
		"an unknown one is there":     {func(h *Transactions) Last { one(h, "1", unknown, a, b); return Last{Records: records(a, b)} }, ""},
		"an unknown one is not there": {func(h *Transactions) Last { one(h, "1", unknown, a, b); return Last{Records: records()} }, ""},
		"interleaved writes": {func(h *Transactions) Last {
			one(h, "1", committed, a, d)
			one(h, "2", committed, b, c)
			return Last{Records: records(a, b, c, d)}
		}, ""},
		"a committed record is gone":    {func(h *Transactions) Last { one(h, "1", committed, a, b); return Last{Records: records(a)} }, "lost write"},
		"an aborted record can be read": {func(h *Transactions) Last { one(h, "1", aborted, a, b); return Last{Records: records(b)} }, "aborted read"},
		"half of an unknown one":        {func(h *Transactions) Last { one(h, "1", unknown, a, b); return Last{Records: records(b)} }, "torn"},
		"a record twice": {func(h *Transactions) Last {
			one(h, "1", committed, a)
			return Last{Records: records(a, write{p0, 1, "a"})}
		}, "duplicate wrong offset"},
		"a record of nobody": {func(h *Transactions) Last { return Last{Records: records(a)} }, "invented"},
		"at another offset": {func(h *Transactions) Last {
			one(h, "1", committed, a)
			return Last{Records: records(write{p0, 7, "a"})}
		}, "wrong offset"},
		"in another partition": {func(h *Transactions) Last {
			one(h, "1", committed, a)
			return Last{Records: records(write{p1, 0, "a"})}
		}, "wrong offset"},
		"read once and gone": {func(h *Transactions) Last {
			one(h, "1", unknown, a)
			h.sees(p0, 0, "a")
			return Last{Records: records()}
		}, "aborted read"},
		"another value in its place": {func(h *Transactions) Last {
			one(h, "1", committed, a)
			h.sees(p0, 0, "z")
			return Last{Records: records(a)}
		}, "offset reused"},
		"a transaction reads its own": {func(h *Transactions) Last {
			x := one(h, "1", committed, a)
			h.reads(x, p0, 0, "a")
			return Last{Records: records(a)}
		}, "precommitted read"},
		"two read each other's": {func(h *Transactions) Last {
			x, y := one(h, "1", committed, a), one(h, "2", committed, b)
			h.reads(x, p1, 0, "b")
			h.reads(y, p0, 0, "a")
			return Last{Records: records(a, b)}
		}, "circular reads"},
		"an offset is gone": {func(h *Transactions) Last {
			h.commits(one(h, "1", committed, a), 5)
			return Last{records(a), map[string]int64{"c": -1}}
		}, "lost offset"},
		"an offset of nobody": {func(h *Transactions) Last {
			h.commits(one(h, "1", committed, a), 5)
			return Last{records(a), map[string]int64{"c": 7}}
		}, "invented offset"},
		"an offset of an aborted one": {func(h *Transactions) Last {
			h.commits(one(h, "1", aborted, a), 5)
			return Last{records(), map[string]int64{"c": 5}}
		}, "offset without data"},
		"an offset without its data": {func(h *Transactions) Last {
			h.commits(one(h, "1", unknown, a), 5)
			return Last{records(), map[string]int64{"c": 5}}
		}, "offset without data"},
		"data without its offset": {func(h *Transactions) Last {
			h.commits(one(h, "1", unknown, a), 5)
			return Last{records(a), map[string]int64{"c": -1}}
		}, "data without offset"},
		"what consumers found themselves": {func(h *Transactions) Last { h.fault("skipped: 3 to 7"); return Last{} }, "skipped"},
	} {
		h := NewTransactions()
		kinds := map[string]bool{}
		wrong := h.Check(tc.play(h))
		for _, w := range wrong {
			kind, _, _ := strings.Cut(w, ":")
			kinds[kind] = true
		}
		if got := strings.Join(slices.Sorted(maps.Keys(kinds)), " "); got != tc.want {
			t.Errorf("%s: %q, wanted %q: %v", name, got, tc.want, wrong)
		}
	}
}
