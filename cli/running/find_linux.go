package running

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// find looks which directories the processes of this program have locked.
func find() (out []*Node, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || strings.TrimSuffix(exe, " (deleted)") != self {
			continue // it may belong to somebody else, or have ended
		}
		out = append(out, heldBy(pid, filepath.Join(dir, "fd"))...)
	}
	return out, nil
}

// heldBy are the nodes of a process, by the locks that it has open.
func heldBy(pid int, descriptors string) (out []*Node) {
	open, err := os.ReadDir(descriptors)
	if err != nil {
		return nil
	}
	var held []string
	for _, fd := range open {
		path, err := os.Readlink(filepath.Join(descriptors, fd.Name()))
		if err != nil || filepath.Base(path) != ".lock" {
			continue
		}
		if n, err := read(filepath.Dir(path)); err == nil && n != nil && n.Process == pid {
			out = append(out, n)
		}
		held = append(held, filepath.Dir(path))
	}
	if len(out) == 0 && len(held) > 0 { // its record is damaged, or gone
		out = append(out, &Node{Process: pid, NodeID: -1, State: Unknown, Directory: held[0], Data: held})
	}
	return out
}

// Processes show what they hold here: nothing needs to point to a record.
func point(*Node) error { return nil }
func unpoint(*Node)     {}
