package storage

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"kraft/storage/logfile"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

const (
	lockFile     = ".lock"
	metaFile     = "meta.properties"
	cleanFile    = ".kafka_cleanshutdown"
	aliveFile    = ".kraft_alive"
	deleteSuffix = "-delete"
	straySuffix  = "-stray"
	futureSuffix = "-future" // of a move: the copy
	movedSuffix  = "-moved"  // of a move: the log while its copy takes its place
)

// Meta is what meta.properties says a directory belongs to.
type Meta struct {
	ClusterID   string
	NodeID      int32
	DirectoryID [16]byte
}

// Dir is one locked log directory.
type Dir struct {
	fs    *dirFS
	path  string
	lock  io.Closer
	meta  *Meta // nil until claimed
	clean bool  // the last stop was clean
	epoch int64 // of the broker after which nothing that it wrote was lost, -1 if that is not known
	space space

	writes     writes // that are under way
	notesSyncs bool   // syncs among them

	keeping    locks.Mutex // held by who keeps starts
	startMoved atomic.Bool // of some log, by DeleteBefore or SetStart, and the checkpoint does not say so yet

	pool    *filePool             // of the manager
	failed  chan<- *Dir           // of the manager, told once
	failure atomic.Pointer[error] // why the directory is offline
}

// ErrDirFailed is wrapped by OpenDir's errors when the directory itself cannot be used, as against a
// directory that is another's.
var ErrDirFailed = errors.New("the directory cannot be used")

// inUseError says that another process has a directory; it is an ErrLocked.
type inUseError struct{ path string }

func (e *inUseError) Error() string {
	return fmt.Sprintf("data directory %s is in use by another process: stop it or choose another directory", e.path)
}

func (e *inUseError) Is(target error) bool { return target == ErrLocked }

// FailedDir stands for a directory that OpenDir could not use, so that the broker can tell of it.
func FailedDir(path string, err error) *Dir {
	d := &Dir{path: path}
	d.failure.Store(&err)
	return d
}

// OpenDir creates and locks a log directory and reads its meta.properties. Its errors are sentences for
// the person who started the program.
func OpenDir(fsys FS, path string) (*Dir, error) {
	if err := fsys.MkdirAll(path); err != nil {
		return nil, cannotUse(path, err)
	}
	if _, err := fsys.ReadDir(path); err != nil {
		return nil, cannotUse(path, err)
	}
	lock, err := fsys.Lock(filepath.Join(path, lockFile))
	if errors.Is(err, ErrLocked) {
		return nil, &inUseError{path}
	}
	if err != nil {
		return nil, cannotUse(path, err)
	}
	d := &Dir{path: path, lock: lock, epoch: -1}
	d.fs = &dirFS{fsys, d}
	if d.meta, err = readMeta(fsys, filepath.Join(path, metaFile)); err != nil {
		_ = lock.Close()
		return nil, err
	}
	d.readCleanEpoch()
	return d, nil
}

// BootIDFile tells one run of this machine's kernel from another, where there is such a file (Linux): what processes
// wrote before they were killed is in its page cache.
const BootIDFile = "/proc/sys/kernel/random/boot_id"

// marker is what the clean-shutdown file says (Kafka's), and the one that says that a broker runs.
type marker struct {
	BrokerEpoch *int64 `json:"brokerEpoch"`
	Boot        string `json:"boot,omitempty"` // of the machine that the broker runs on
}

func (d *Dir) readMarker(name string) (m marker, ok bool) {
	data, err := d.fs.ReadFile(filepath.Join(d.path, name))
	return m, err == nil && json.Unmarshal(data, &m) == nil && m.BrokerEpoch != nil
}

// readCleanEpoch reads which broker epoch lost nothing here: because it stopped cleanly (KIP-966), or because its
// process ended and the machine still runs.
func (d *Dir) readCleanEpoch() {
	if m, ok := d.readMarker(cleanFile); ok {
		d.epoch = *m.BrokerEpoch
	} else if m, ok := d.readMarker(aliveFile); ok && m.Boot != "" && m.Boot == bootID(d.fs) {
		d.epoch = *m.BrokerEpoch
	}
}

func bootID(fsys FS) string {
	id, err := fsys.ReadFile(BootIDFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// MarkAlive notes that a broker of this epoch runs on this machine: if only its process ends, it has lost nothing. Until
// then the end of its process counts as a loss of power.
func MarkAlive(dirs []*Dir, brokerEpoch int64) error {
	for _, d := range dirs {
		if d.Err() != nil {
			continue
		}
		if id := bootID(d.fs); id != "" {
			// It counts for this run of the machine only, and need not be synced.
			data, _ := json.Marshal(marker{BrokerEpoch: &brokerEpoch, Boot: id})
			if err := writeWhole(d.fs, filepath.Join(d.path, aliveFile), data); err != nil && d.Err() == nil {
				return err
			}
		}
	}
	return nil
}

// CleanEpoch is the epoch of the broker after which nothing that it wrote was lost, by all of the directories; -1 if one of
// them does not say so.
func CleanEpoch(dirs []*Dir) int64 {
	epoch := int64(-1)
	for i, d := range dirs {
		if d.Err() != nil || i > 0 && d.epoch != epoch {
			return -1
		}
		epoch = d.epoch
	}
	return epoch
}

func cannotUse(path string, err error) error {
	return fmt.Errorf("cannot use data directory %s: %w (%w)", path, err, ErrDirFailed)
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
		return cannotUse(d.path, err)
	}
	d.meta = m
	return nil
}

// HasPartitions reports whether the directory holds logs of partitions, of whichever topics.
func (d *Dir) HasPartitions() (bool, error) {
	entries, err := d.fs.ReadDir(d.path)
	if err != nil {
		return false, cannotUse(d.path, err)
	}
	for _, e := range entries {
		if _, ok := ident.ParseTopicPartition(e.Name()); ok && e.IsDir() {
			return true, nil
		}
	}
	return false, nil
}

// Close unlocks the directory.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}

func readMeta(fsys FS, path string) (*Meta, error) {
	data, err := fsys.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cannotUse(filepath.Dir(path), err)
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

// found is what a log directory holds, by the names in it.
type found struct {
	partitions    []ident.TopicPartition
	doomed        []string                        // names of what is to be deleted
	future, moved map[ident.TopicPartition]string // paths of moves that were interrupted
}

// partitionDirs lists the partitions that the directory holds.
func (d *Dir) partitionDirs() (f found, err error) {
	f.future, f.moved = map[ident.TopicPartition]string{}, map[ident.TopicPartition]string{}
	entries, err := d.fs.ReadDir(d.path)
	if err != nil {
		return f, err
	}
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() {
			continue
		}
		if strings.HasSuffix(name, deleteSuffix) {
			f.doomed = append(f.doomed, name)
			continue
		}
		for suffix, into := range map[string]map[ident.TopicPartition]string{futureSuffix: f.future, movedSuffix: f.moved} {
			rest, ok := strings.CutSuffix(name, suffix)
			if i := strings.LastIndexByte(rest, '.'); ok && i > 0 {
				if tp, ok := ident.ParseTopicPartition(rest[:i]); ok {
					into[tp] = filepath.Join(d.path, name)
				}
			}
		}
		if tp, ok := ident.ParseTopicPartition(name); ok {
			path := filepath.Join(d.path, name)
			_, err := d.fs.Stat(filepath.Join(path, partitionMetadata))
			has := err == nil
			if !has { // a crash before there was anything, or Kafka before 2.8
				if has, err = hasSegments(d.fs, path); err != nil {
					return f, err
				}
			}
			if has {
				f.partitions = append(f.partitions, tp)
			}
		}
	}
	slices.SortFunc(f.partitions, ident.TopicPartition.Compare)
	return f, nil
}

func hasSegments(fsys FS, dir string) (bool, error) {
	entries, err := fsys.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), logfile.LogSuffix) }), err
}
