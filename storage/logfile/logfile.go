// Package logfile has the names and formats of the files beside a segment of a log, for those that write them and for tools that read them.
package logfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Suffixes of the files of a segment, and of the state of producers.
const (
	LogSuffix       = ".log"
	IndexSuffix     = ".index"
	TimeIndexSuffix = ".timeindex"
	TxnIndexSuffix  = ".txnindex"
	SnapshotSuffix  = ".snapshot"
)

// Sizes of entries in bytes.
const (
	OffsetEntrySize = 8  // of an .index: int32 relative offset, int32 position
	TimeEntrySize   = 12 // of a .timeindex: int64 timestamp, int32 relative offset
)

// ErrBadIndex reports an index whose bytes contradict themselves.
var ErrBadIndex = errors.New("index cannot be right")

// Path is the path of a segment's files, or of a snapshot at offset base, without a suffix.
func Path(dir string, base int64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d", base))
}

// ParseName returns the offset in a name such as 00000000000000000042.log.
func ParseName(name, suffix string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	return v, err == nil
}
