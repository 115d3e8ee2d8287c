package storage

import (
	"slices"
	"sort"

	"kraft/storage/logfile"
	"kraft/wire/ident"
)

// DirUsage is what a log directory holds.
type DirUsage struct {
	Path          string
	Total, Usable int64 // bytes of its disk, -1 if not known
	Err           error // why the directory is offline, or its disk could not be asked
	Logs          []LogUsage
}

// LogUsage is one partition's share.
type LogUsage struct {
	Partition ident.TopicPartition
	Size      int64 // bytes
	Future    bool  // a copy that will take the log's place (KIP-113)
	Lag       int64 // offsets that a future log has yet to copy
}

// Usage describes all directories with their logs, by path and by partition. Any goroutine may call it.
func (m *Manager) Usage() []DirUsage {
	var out []DirUsage
	logs := m.snapshot()
	for _, d := range m.dirs {
		u := d.room()
		if d.offline() != nil {
			out = append(out, u)
			continue
		}
		for _, p := range logs {
			if p.dir == d {
				u.Logs = append(u.Logs, LogUsage{Partition: p.log.tp, Size: p.log.Size()})
			}
		}
		u.Logs = append(u.Logs, m.mover.usage(d)...)
		slices.SortStableFunc(u.Logs, func(a, b LogUsage) int { return a.Partition.Compare(b.Partition) })
		out = append(out, u)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}

// Room is Usage without the logs.
func (m *Manager) Room() (out []DirUsage) {
	for _, d := range m.dirs {
		out = append(out, d.room())
	}
	return out
}

func (d *Dir) room() DirUsage {
	u := DirUsage{Path: d.path, Total: -1, Usable: -1}
	if u.Err = d.offline(); u.Err != nil {
		return u
	}
	total, usable, err := d.fs.Usage(d.path)
	if err != nil {
		u.Err = err
		return u
	}
	u.Total, u.Usable = total, usable
	return u
}

// Producers lists the producers that are remembered, by id. Any goroutine may call it.
func (l *Log) Producers() []logfile.Producer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.list()
}
