package workload

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"kraft/wire/record"
)

// Stored is one record in a replica's log.
type Stored struct {
	Offset int64
	Epoch  int32
	Value  string
}

// Disk is where a broker has its logs.
type Disk interface {
	Paths() []string
	ReadFile(path string) ([]byte, error)
}

// ReadLog reads a partition's log from a disk, with its producers' records only.
func ReadLog(disk Disk, p Partition) ([]Stored, error) {
	var out []Stored
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
				out = append(out, Stored{r.Offset, b.LeaderEpoch(), string(r.Value)})
			}
		}
	}
	return out, nil
}

// ReadReplicas reads what each replica of a partition has on its disk.
func (h *History) ReadReplicas(p Partition, replicas []int32, disk func(id int32) Disk) map[int32][]Stored {
	logs := map[int32][]Stored{}
	for _, id := range replicas {
		log, err := ReadLog(disk(id), p)
		if err != nil {
			h.Wrong("unreadable", "%s on %d: %v", p, id, err)
			continue
		}
		logs[id] = log
	}
	return logs
}

// CheckReads holds what consumers have read against what producers have sent, when both have ended.
func (h *History) CheckReads() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for where, value := range h.seen {
		if a := h.attempts[value]; a == nil || a.To != where.Partition {
			h.violation("invented", "%q was read at %s/%d and not sent there", value, where.Partition, where.offset)
		}
	}
}

// CheckSame compares the logs of a partition's replicas.
func (h *History) CheckSame(p Partition, replicas map[int32][]Stored) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checkSame(p, replicas)
}

// checkSame returns one of the logs. mu is held.
func (h *History) checkSame(p Partition, replicas map[int32][]Stored) []Stored {
	var log []Stored
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
	return log
}

// CheckLogs holds the replicas of a partition, which have come to rest, against each other and against what producers
// and consumers were told.
func (h *History) CheckLogs(p Partition, replicas map[int32][]Stored) {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := h.checkSame(p, replicas)
	at := map[int64]string{}
	values := map[string]int{}
	newest := map[int]int{} // by producer
	for i, r := range log {
		if i > 0 && (r.Offset != log[i-1].Offset+1 || r.Epoch < log[i-1].Epoch) {
			h.violation("log out of order", "%s: %s after %s", p, describe(log, i), describe(log, i-1))
		}
		at[r.Offset] = r.Value
		a := h.attempts[r.Value]
		if a == nil || a.To != p {
			h.violation("invented", "%s at %s/%d was not sent there", r.Value, p, r.Offset)
			continue
		}
		values[r.Value]++
		if n := values[r.Value]; n > 1 {
			if a.Idempotent {
				h.violation("duplicated", "%s is %d times in %s, at %d too", r.Value, n, p, r.Offset)
			}
			continue
		}
		if last, ok := newest[a.Producer]; ok && a.N < last && !a.Unordered {
			h.violation("reordered", "%s at %s/%d comes after the producer's record %d", r.Value, p, r.Offset, last)
		}
		newest[a.Producer] = max(newest[a.Producer], a.N)
	}
	if p.Topic == h.Unclean {
		return
	}
	for value, a := range h.attempts {
		if a.To == p && a.acked && at[a.offset] != value {
			h.violation("lost", "%s was acknowledged at %s/%d, where %q is now", value, p, a.offset, at[a.offset])
		}
	}
	for where, value := range h.seen {
		if where.Partition == p && at[where.offset] != value {
			h.violation("lost after it was read", "%s was read at %s/%d, where %q is now", value, p, where.offset, at[where.offset])
		}
	}
}

func describe(l []Stored, i int) string {
	if i < 0 || i >= len(l) {
		return fmt.Sprintf("nothing (ends after %d records)", len(l))
	}
	return fmt.Sprintf("%s at %d in epoch %d", l[i].Value, l[i].Offset, l[i].Epoch)
}

// Same says that all replicas hold the same; an empty one is as good a measure as another.
func Same(replicas map[int32][]Stored) bool {
	logs := slices.Collect(maps.Values(replicas))
	return !slices.ContainsFunc(logs, func(l []Stored) bool { return !slices.Equal(l, logs[0]) })
}

// Ranges are the offsets that there are, and their epochs.
func Ranges(log []Stored) string {
	var out []string
	for i := 0; i < len(log); {
		j := i
		for j+1 < len(log) && log[j+1].Offset == log[j].Offset+1 && log[j+1].Epoch == log[i].Epoch {
			j++
		}
		out = append(out, fmt.Sprintf("%d-%d@%d", log[i].Offset, log[j].Offset, log[i].Epoch))
		i = j + 1
	}
	return strings.Join(out, " ")
}
