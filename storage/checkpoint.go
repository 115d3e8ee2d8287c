package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"kraft/wire/ident"
)

// Checkpoint files of a log directory. The cleaner has another one.
const (
	recoveryPointFile = "recovery-point-offset-checkpoint"
	highWatermarkFile = "replication-offset-checkpoint"
	logStartFile      = "log-start-offset-checkpoint"
)

// readCheckpoint reads Kafka's checkpoint format: version 0, count, then one line an entry. A missing
// file has no entries; nor has an empty one, which Kafka makes when it begins with a directory.
func readCheckpoint(fsys FS, path string) ([]string, error) {
	data, err := fsys.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(lines) < 2 {
		return nil, fmt.Errorf("%s: not a checkpoint file", path)
	}
	if lines[0] != "0" {
		return nil, fmt.Errorf("%s: checkpoint version %q, known is 0", path, lines[0])
	}
	n, err := strconv.Atoi(lines[1])
	if err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("%s: %d entries, the file says %s", path, len(lines)-2, lines[1])
	}
	return lines[2:], nil
}

func writeCheckpoint(fsys FS, path string, lines []string) error {
	return fsys.WriteFile(path, encodeCheckpoint(lines))
}

func encodeCheckpoint(lines []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "0\n%d\n", len(lines))
	for _, l := range lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

func readOffsets(fsys FS, dir, file string) (map[ident.TopicPartition]int64, error) {
	path := filepath.Join(dir, file)
	lines, err := readCheckpoint(fsys, path)
	if err != nil {
		return nil, err
	}
	out := make(map[ident.TopicPartition]int64, len(lines))
	for _, l := range lines {
		var tp ident.TopicPartition
		var offset int64
		if _, err := fmt.Sscanf(l, "%s %d %d", &tp.Topic, &tp.Partition, &offset); err != nil {
			return nil, fmt.Errorf("%s: line %q", path, l)
		}
		out[tp] = offset
	}
	return out, nil
}

func writeOffsets(fsys FS, dir, file string, offsets map[ident.TopicPartition]int64) error {
	lines := make([]string, 0, len(offsets))
	for tp, o := range offsets {
		lines = append(lines, fmt.Sprintf("%s %d %d", tp.Topic, tp.Partition, o))
	}
	sort.Strings(lines)
	return writeCheckpoint(fsys, filepath.Join(dir, file), lines)
}
