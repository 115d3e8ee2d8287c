package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/cli/running"
	"kraft/storage"
	"kraft/storage/logfile"
	"kraft/wire/ident"
)

// cacheDir is kraft's directory for what it can do without: $KRAFT_CACHE, or below the user's cache directory.
func cacheDir() (string, error) {
	if dir := os.Getenv("KRAFT_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "kraft"), err
}

// devData is the directory of a kraft dev.
func devData(c *cli.Context) (string, error) {
	if dir := c.String("data"); dir != "" || c.IsSet("data") {
		if dir == "" {
			return "", badUse("--data needs a directory: is a variable empty?")
		}
		return dir, nil
	}
	cache, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory for the data, give one by --data: %w", err)
	}
	return filepath.Join(cache, "dev"), nil
}

// devHolds is what an earlier kraft dev left in a directory: how many brokers, each in a directory of its own, and whether there is one in
// the directory itself.
func devHolds(dir string) (brokers int, single bool) {
	has := func(path string) bool {
		_, err := os.Stat(filepath.Join(path, "meta.properties"))
		return err == nil
	}
	for has(filepath.Join(dir, strconv.Itoa(brokers+1))) {
		brokers++
	}
	return brokers, has(dir)
}

// devBrokerCount is how many brokers to run: --brokers, or as many as there are in the directory. It never begins another cluster beside one
// that is there.
func devBrokerCount(c *cli.Context, dir string) (int, error) {
	n := c.Int("brokers")
	brokers, single := devHolds(dir)
	switch {
	case brokers == 0 && !single, brokers == n && c.IsSet("brokers"), single && n == 1:
		return n, nil
	case single && brokers > 0 && !c.IsSet("brokers"):
		return 0, badUse("%s holds two clusters, one of %d brokers and one of 1: say which by --brokers, or remove both by --fresh", dir, brokers)
	case !c.IsSet("brokers"):
		return max(brokers, 1), nil
	}
	return 0, badUse("%s holds a cluster of %s: leave out --brokers to run it, add --fresh to remove it and begin anew, or give another directory by --data", dir, counted(max(brokers, 1), "broker"))
}

// refuseRunning is the error for a directory in which a kraft dev runs; begins is false where data is to be removed.
func refuseRunning(dir string, begins bool) error {
	nodes, err := running.Nodes()
	if err != nil {
		return nil // the locks of its directories decide
	}
	var at []string
	pid := 0
	for _, n := range nodes {
		if n.Dev > 0 && n.Has(dir) {
			at, pid = append(at, n.Addresses...), n.Process
		}
	}
	if pid == 0 {
		return nil
	}
	stop := "kraft dev stop"
	if !isDevCache(dir) {
		stop += " --data " + dir
	}
	where := ""
	if len(at) > 0 {
		where = " at " + strings.Join(at, ", ")
	}
	if !begins {
		return fmt.Errorf("a kraft dev runs with its data in %s,%s (process %d): stop it first (%s)", dir, where, pid, stop)
	}
	return fmt.Errorf("a kraft dev runs with its data in %s already,%s (process %d): %s stops it; --data DIR --port PORT runs another one beside it", dir, where, pid, stop)
}

// devMark is the file by which kraft dev knows a directory of its own again, before it removes anything there.
const devMark = ".kraft-dev"

// lockDev marks a directory as kraft dev's, and keeps others out until the lock is closed.
func lockDev(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot use data directory %s: %w", dir, err)
	}
	lock, err := storage.OS{}.Lock(filepath.Join(dir, devMark))
	if errors.Is(err, storage.ErrLocked) {
		return nil, otherDev(dir)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, devMark), fmt.Appendf(nil, "%d %s\n", os.Getpid(), program()), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use data directory %s: %w", dir, err)
	}
	return lock, nil
}

// program is the path of this program's file.
func program() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// otherDev is the error for a directory that is locked by a kraft dev of another program file, or by one that starts.
func otherDev(dir string) error {
	data, _ := os.ReadFile(filepath.Join(dir, devMark))
	pid, path, ok := strings.Cut(strings.TrimSpace(string(data)), " ")
	if !ok || path == program() {
		return fmt.Errorf("another kraft dev starts with its data in %s", dir)
	}
	return fmt.Errorf("a kraft dev that another program file started runs with its data in %s (process %s, %s): stop it with that program, or by kill %s", dir, pid, path, pid)
}

// devLocked reports whether a kraft dev runs with its data in a directory, whatever its program file.
func devLocked(dir string) bool {
	return running.Locked(filepath.Join(dir, devMark))
}

// nodeFiles are the files of a node in its log directory; that by which the directory is known goes last.
var nodeFiles = []string{
	"cleaner-offset-checkpoint", "log-start-offset-checkpoint", "recovery-point-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown", ".kraft_alive",
	"kraft-metadata.db", "kraft-first-users.json", "kraft-quorum.json", "kraft-running.json", "kraft-running.json.new", "meta.properties",
}

// removeNode removes what a node left in a directory, and the directory if nothing else is in it. The node must not run.
func removeNode(dir string) error {
	path := filepath.Join(dir, ".lock")
	lock, err := storage.OS{}.Lock(path)
	if err != nil {
		return err
	}
	defer lock.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && isPartition(filepath.Join(dir, e.Name())) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, name := range append(slices.Clone(nodeFiles), ".lock") {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_ = os.Remove(dir) // something of somebody else's may be in it
	return nil
}

// isPartition reports whether a directory holds a partition, or what is left of one: other programs' are named so, too.
func isPartition(dir string) bool {
	name := filepath.Base(dir)
	_, ok := ident.ParseTopicPartition(name)
	if i := strings.LastIndexByte(name, '.'); !ok && i > 0 { // orders-0.3f2a-delete
		_, ok = ident.ParseTopicPartition(name[:i])
	}
	if !ok {
		return false
	}
	files, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(files, func(e fs.DirEntry) bool {
		_, segment := logfile.ParseName(e.Name(), logfile.LogSuffix)
		return segment || e.Name() == "partition.metadata"
	})
}

// removeDev removes what earlier runs left in a directory, and nothing else that is there.
func removeDev(c *cli.Context, dir string) error {
	brokers, single := devHolds(dir)
	if brokers == 0 && !single {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, devMark)); err != nil && !isDevCache(dir) {
		return fmt.Errorf("%s holds a node's data, but no kraft dev has run there: nothing has been removed", dir)
	}
	for i := brokers; i > 0; i-- { // those that are left are found again if this is interrupted
		if err := removeNode(filepath.Join(dir, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("cannot remove the data of broker %d: %w", i, err)
		}
	}
	if single {
		if err := removeNode(dir); err != nil {
			return fmt.Errorf("cannot remove the data: %w", err)
		}
	}
	removeSecurity(dir)
	for _, name := range []string{socketName, devMark} {
		_ = os.Remove(filepath.Join(dir, name))
	}
	_ = os.Remove(dir)
	fmt.Fprintf(c.App.Writer, "removed the data of %s in %s\n", counted(max(brokers, 1), "broker"), dir)
	return nil
}

// isDevCache reports whether a directory is kraft dev's without --data.
func isDevCache(dir string) bool {
	cache, err := cacheDir()
	return err == nil && running.SameFile(dir, filepath.Join(cache, "dev"))
}

// resetDev is kraft dev reset.
func resetDev(c *cli.Context) error {
	dir, err := devData(c)
	if err != nil {
		return err
	}
	if err := refuseRunning(dir, false); err != nil {
		return err
	}
	if brokers, single := devHolds(dir); brokers == 0 && !single {
		return fmt.Errorf("there is no data of a kraft dev in %s", dir)
	}
	return removeDev(c, dir)
}

// stopDev is kraft dev stop.
func stopDev(c *cli.Context) error {
	nodes, err := devNodes(c)
	if err != nil {
		return err
	}
	return stopNodes(c, nodes, stopPatience)
}

// devStatus is kraft dev status.
func devStatus(c *cli.Context) error {
	nodes, err := devNodes(c)
	if err != nil {
		return err
	}
	return tell(c, runningNodes(nodes))
}

// devNodes are the brokers of a running kraft dev. It is an error if there is none.
func devNodes(c *cli.Context) ([]*running.Node, error) {
	dir, err := devData(c)
	if err != nil {
		return nil, err
	}
	nodes, err := running.Nodes()
	if err != nil {
		return nil, err
	}
	nodes = slices.DeleteFunc(nodes, func(n *running.Node) bool { return n.Dev == 0 || !n.Has(dir) })
	switch {
	case len(nodes) > 0:
		return nodes, nil
	case devLocked(dir):
		return nil, otherDev(dir)
	}
	return nil, fmt.Errorf("no kraft dev runs with its data in %s", dir)
}

// devAddress is where a running kraft dev is, for commands that name no brokers.
type devAddress struct {
	Process   int      `json:"process"`
	Data      string   `json:"data"`
	Addresses []string `json:"addresses"`
	Settings  string   `json:"settings,omitempty"` // the file with a client's settings, of a cluster with security
}

func devAddressPath() (string, error) {
	dir, err := cacheDir()
	return filepath.Join(dir, "dev.json"), err
}

// publishDev lets commands find this kraft dev until forget is called.
func publishDev(dir string, addresses []string, settings string) (forget func()) {
	path, err := devAddressPath()
	if err != nil {
		return func() {}
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	data, err := json.Marshal(devAddress{os.Getpid(), dir, addresses, settings})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path+".new", data, 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return func() {}
	}
	return func() {
		if a := readDevAddress(); a != nil && a.Process == os.Getpid() {
			_ = os.Remove(path)
		}
	}
}

func readDevAddress() *devAddress {
	path, err := devAddressPath()
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(path)
	a := new(devAddress)
	if err != nil || json.Unmarshal(data, a) != nil || len(a.Addresses) == 0 {
		return nil
	}
	return a
}

// findDev is the kraft dev that this user started last, if it runs; nil if not.
func findDev() *devAddress {
	if a := readDevAddress(); a != nil && devLocked(a.Data) {
		return a
	}
	return nil
}
