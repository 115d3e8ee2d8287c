//go:build !linux

package running

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// pointers is where this user's nodes leave a file each, which says in which directory the record is.
func pointers() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "kraft", "running"), err
}

func pointer(n *Node) (string, error) {
	dir, err := pointers()
	return filepath.Join(dir, fmt.Sprintf("%d-%d", n.Process, n.NodeID)), err
}

func point(n *Node) error {
	path, err := pointer(n)
	if err != nil {
		return nil // such a user's nodes are found by --pid-file only
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(n.Directory), 0o600)
}

func unpoint(n *Node) {
	if path, err := pointer(n); err == nil {
		_ = os.Remove(path)
	}
}

func find() (out []*Node, err error) {
	dir, err := pointers()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		at, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		n, err := read(string(at))
		if err != nil {
			continue
		}
		if n == nil || e.Name() != strconv.Itoa(n.Process)+"-"+strconv.Itoa(int(n.NodeID)) || !Alive(n.Process) || !Locked(filepath.Join(n.Directory, ".lock")) {
			_ = os.Remove(path) // of a node that was killed
			continue
		}
		out = append(out, n)
	}
	return out, err
}
