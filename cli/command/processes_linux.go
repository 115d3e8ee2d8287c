package command

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// openFiles is how many files a process has open, and may have; ok is false where that cannot be seen.
func openFiles(pid int) (open, limit int, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return 0, 0, false
	}
	limits, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(limits)) {
		if rest, found := strings.CutPrefix(line, "Max open files"); found && len(strings.Fields(rest)) > 0 {
			limit, err = strconv.Atoi(strings.Fields(rest)[0])
			return len(entries), limit, err == nil
		}
	}
	return 0, 0, false
}
