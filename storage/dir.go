package storage

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"crypto/rand"
)

const (
	lockFile     = ".lock"
	metaFile     = "meta.properties"
	cleanFile    = ".kafka_cleanshutdown"
	deleteSuffix = "-delete"
	straySuffix  = "-stray"
)

// Meta is what meta.properties says a directory belongs to.
type Meta struct {
	ClusterID   string
	NodeID      int32
	DirectoryID [16]byte
}

// Dir is one locked log directory.
type Dir struct {
	fs    FS
	path  string
	lock  io.Closer
	meta  *Meta // nil until claimed
	clean bool  // the last stop was clean
	space space
}

// OpenDir creates and locks a log directory and reads its meta.properties. Its errors are sentences for
// the person who started the program.
func OpenDir(fsys FS, path string) (*Dir, error) {
	if err := fsys.MkdirAll(path); err != nil {
		return nil, fmt.Errorf("cannot use data directory %s: %w", path, err)
	}
	if _, err := fsys.ReadDir(path); err != nil {
		return nil, fmt.Errorf("cannot use data directory %s: %w", path, err)
	}
	lock, err := fsys.Lock(filepath.Join(path, lockFile))
	if errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("data directory %s is in use by another process: stop it or choose another directory", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use data directory %s: %w", path, err)
	}
	d := &Dir{fs: fsys, path: path, lock: lock}
	if d.meta, err = readMeta(fsys, filepath.Join(path, metaFile)); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return d, nil
}

// Path is the directory's path.
func (d *Dir) Path() string { return d.path }

// Meta returns what the directory belongs to, nil if it is new.
func (d *Dir) Meta() *Meta { return d.meta }

// Claim writes meta.properties into a new directory, or checks an old one against m.
func (d *Dir) Claim(clusterID string, nodeID int32) error {
	if d.meta != nil {
		return nil
	}
	m := &Meta{ClusterID: clusterID, NodeID: nodeID}
	_, _ = rand.Read(m.DirectoryID[:])
	text := fmt.Sprintf("cluster.id=%s\ndirectory.id=%s\nnode.id=%d\nversion=1\n",
		m.ClusterID, base64.RawURLEncoding.EncodeToString(m.DirectoryID[:]), m.NodeID)
	if err := d.fs.WriteFile(filepath.Join(d.path, metaFile), []byte(text)); err != nil {
		return fmt.Errorf("cannot write data directory %s: %w", d.path, err)
	}
	d.meta = m
	return nil
}

// Close unlocks the directory.
func (d *Dir) Close() error { return d.lock.Close() }

func readMeta(fsys FS, path string) (*Meta, error) {
	data, err := fsys.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	m := &Meta{NodeID: -1}
	for _, line := range strings.Split(string(data), "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "cluster.id":
			m.ClusterID = value
		case "node.id", "broker.id":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%s: bad %s %q", path, key, value)
			}
			m.NodeID = int32(n)
		case "directory.id":
			raw, err := base64.RawURLEncoding.DecodeString(value)
			if err != nil || len(raw) != 16 {
				return nil, fmt.Errorf("%s: bad directory.id %q", path, value)
			}
			m.DirectoryID = [16]byte(raw)
		}
	}
	if m.ClusterID == "" || m.NodeID < 0 {
		return nil, fmt.Errorf("%s lacks cluster.id or node.id", path)
	}
	return m, nil
}

// takeCleanMarker reads and removes the clean-shutdown file: from now on a stop is unclean until
// markClean.
func (d *Dir) takeCleanMarker() error {
	path := filepath.Join(d.path, cleanFile)
	_, err := d.fs.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d.clean = true
	if err := d.fs.Remove(path); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path)
}

func (d *Dir) markClean(brokerEpoch int64) error {
	return d.fs.WriteFile(filepath.Join(d.path, cleanFile), fmt.Appendf(nil, `{"version":0,"brokerEpoch":%d}`, brokerEpoch))
}

// partitionDirs lists the partitions that the directory holds, by name.
func (d *Dir) partitionDirs() ([]TopicPartition, []string, error) {
	entries, err := d.fs.ReadDir(d.path)
	if err != nil {
		return nil, nil, err
	}
	var tps []TopicPartition
	var doomed []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if strings.HasSuffix(e.Name(), deleteSuffix) {
			doomed = append(doomed, e.Name())
			continue
		}
		if tp, ok := parseTopicPartition(e.Name()); ok {
			if _, err := d.fs.Stat(filepath.Join(d.path, e.Name(), partitionMetadata)); err == nil {
				tps = append(tps, tp)
			}
		}
	}
	sort.Slice(tps, func(i, j int) bool { return tps[i].String() < tps[j].String() })
	return tps, doomed, nil
}
