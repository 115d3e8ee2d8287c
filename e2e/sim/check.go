package sim

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kraft/storage/faultfs"
	"kraft/wire/record"
)

// stored is one record in a replica's log.
type stored struct {
	offset int64
	epoch  int32
	value  string
}

// readLog reads a partition's log from a disk, with its producers' records only.
func readLog(disk *faultfs.FS, p partition) ([]stored, error) {
	var out []stored
	for _, file := range disk.Paths() {
		if path.Base(path.Dir(file)) != p.String() || !strings.HasSuffix(file, ".log") {
			continue
		}
		data, err := disk.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for len(data) > 0 {
			b, rest, err := record.Next(data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			data = rest
			if b.IsControl() {
				continue
			}
			records, err := b.Records(record.MaxRecordsBytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			for _, r := range records {
				out = append(out, stored{r.Offset, b.LeaderEpoch(), string(r.Value)})
			}
		}
	}
	return out, nil
}

// checkLogs holds the replicas of a partition, which have come to rest, against each other and against what producers
// and consumers were told.
func (h *History) checkLogs(p partition, replicas map[int32][]stored) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var log []stored
	var of int32
	for id, l := range replicas {
		if of == 0 || id < of {
			of, log = id, l
		}
	}
	for id, l := range replicas {
		if slices.Equal(l, log) {
			continue
		}
		i := 0
		for i < len(l) && i < len(log) && l[i] == log[i] {
			i++
		}
		h.violation("replicas differ", "%s on %d and on %d: %s, %s", p, of, id, describe(log, i), describe(l, i))
	}
	at := map[int64]string{}
	values := map[string]int{}
	newest := map[int]int{} // by producer
	for i, r := range log {
		if i > 0 && (r.offset != log[i-1].offset+1 || r.epoch < log[i-1].epoch) {
			h.violation("log out of order", "%s: %s after %s", p, describe(log, i), describe(log, i-1))
		}
		at[r.offset] = r.value
		a := h.attempts[r.value]
		if a == nil || a.to != p {
			h.violation("invented", "%s at %s/%d was not sent there", r.value, p, r.offset)
			continue
		}
		values[r.value]++
		if n := values[r.value]; n > 1 {
			if a.idempotent {
				h.violation("duplicated", "%s is %d times in %s, at %d too", r.value, n, p, r.offset)
			}
			continue
		}
		if last, ok := newest[a.producer]; ok && a.n < last {
			h.violation("reordered", "%s at %s/%d comes after the producer's record %d", r.value, p, r.offset, last)
		}
		newest[a.producer] = max(newest[a.producer], a.n)
	}
	if p.topic == h.unclean {
		return
	}
	for value, a := range h.attempts {
		if a.to == p && a.acked && at[a.offset] != value {
			h.violation("lost", "%s was acknowledged at %s/%d, where %q is now", value, p, a.offset, at[a.offset])
		}
	}
	for where, value := range h.seen {
		if where.partition == p && at[where.offset] != value {
			h.violation("lost after it was read", "%s was read at %s/%d, where %q is now", value, p, where.offset, at[where.offset])
		}
	}
}

func describe(l []stored, i int) string {
	if i < 0 || i >= len(l) {
		return fmt.Sprintf("nothing (ends after %d records)", len(l))
	}
	return fmt.Sprintf("%s at %d in epoch %d", l[i].value, l[i].offset, l[i].epoch)
}
