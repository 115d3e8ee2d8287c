// Package running finds the nodes that run on this machine. Each node keeps a record in a log directory that it has locked; command lines are
// not read.
package running

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"kraft/storage"
)

// recordFile is the record's name in a log directory.
const recordFile = "kraft-running.json"

// State is how far a node's life has come.
type State string

const (
	Starting State = "starting"
	Serving  State = "serving"
	Stopping State = "stopping"
	Unknown  State = "unknown" // its record cannot be read
)

// Node is what a running node says of itself.
type Node struct {
	Process   int       `json:"process"`
	NodeID    int32     `json:"node"`
	State     State     `json:"state"`
	Roles     []string  `json:"roles"`
	Cluster   string    `json:"cluster,omitempty"`
	Addresses []string  `json:"addresses"` // that clients are told, host:port
	Quorum    string    `json:"quorum,omitempty"`
	Directory string    `json:"directory"` // of the record
	Data      []string  `json:"data"`
	Dev       int       `json:"dev,omitempty"` // how many brokers the kraft dev has of which this is one
	Version   string    `json:"version"`
	Started   time.Time `json:"started"`
	// ZooKeeper says that the node found its quorum by zookeeper.connect.
	ZooKeeper bool `json:"zookeeper,omitempty"`
}

// Save writes the record. The caller has locked the directory.
func (n *Node) Save() error {
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(n.Directory, recordFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot keep the record of this node: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot keep the record of this node: %w", err)
	}
	return point(n)
}

// Remove removes the record. The caller still has the directory locked.
func (n *Node) Remove() {
	_ = os.Remove(filepath.Join(n.Directory, recordFile))
	unpoint(n)
}

// read is the record in a directory; nil if there is none.
func read(dir string) (*Node, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := new(Node)
	if err := json.Unmarshal(data, n); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, recordFile), err)
	}
	n.Directory = dir
	return n, nil
}

// Nodes are the nodes that processes of this program run, by node id. Those of other users are seen by the superuser alone.
func Nodes() ([]*Node, error) {
	out, err := find()
	slices.SortFunc(out, func(a, b *Node) int {
		if a.NodeID != b.NodeID {
			return int(a.NodeID) - int(b.NodeID)
		}
		return a.Process - b.Process
	})
	return out, err
}

// Name is the node's id, or ? where that is not known.
func (n *Node) Name() string {
	if n.NodeID < 0 {
		return "?"
	}
	return strconv.Itoa(int(n.NodeID))
}

// Has reports whether a directory is one of the node's, or holds those of a kraft dev of which the node is.
func (n *Node) Has(dir string) bool {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	for _, own := range append(slices.Clone(n.Data), n.Directory) {
		if SameFile(own, dir) || n.Dev > 1 && SameFile(filepath.Dir(own), dir) {
			return true
		}
	}
	return false
}

// Locked reports whether a process has a lock file locked. It does not create the file.
func Locked(path string) bool {
	if _, err := os.Stat(path); err != nil {
		return false
	}
	lock, err := storage.OS{}.Lock(path)
	if err != nil {
		return errors.Is(err, storage.ErrLocked)
	}
	_ = lock.Close()
	return false
}

// SameFile reports whether two paths are of one file or directory.
func SameFile(a, b string) bool {
	if a == b {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	two, err := os.Stat(b)
	return err == nil && os.SameFile(one, two)
}
