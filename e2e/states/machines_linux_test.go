package states

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kraft/e2e/chaos"
	"kraft/e2e/harness"
)

// TestCommandsInStatesOfMachines is TestCommandsInStates for what takes disks and networks of their own: a broker that reads its logs,
// one whose disk is full, and one that the others do not reach, though the operator does.
func TestCommandsInStatesOfMachines(t *testing.T) {
	const operator = 3 // the host behind the brokers'
	network, err := chaos.NewNetwork(operator + 1)
	if err != nil {
		harness.Skip(t, "%v", err)
	}
	t.Cleanup(network.Close)
	dir := t.TempDir()
	small := filepath.Join(dir, "3")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", small, "tmpfs", 0, "size=96m"); err != nil {
		harness.Skip(t, "cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })

	var peers, controllers []string
	for i, h := range network.Hosts[:operator] {
		controllers = append(controllers, h.Address+":9093")
		peers = append(peers, fmt.Sprintf("%d@%s:9093", i+1, h.Address))
	}
	var nodes []*harness.Kraft
	for i, h := range network.Hosts[:operator] {
		address, data := h.Address+":9092", filepath.Join(dir, fmt.Sprint(i+1))
		k := harness.Node(address, data, append([]string{"--node-id", fmt.Sprint(i + 1), "--peers", strings.Join(peers, ","),
			"--listeners", "PLAINTEXT://" + address, "--data", data, "--log-level", "info"}, settings...)...)
		nodes = append(nodes, k)
		begin(t, network, nodes, i)
		t.Cleanup(func() {
			if err := k.Stop(20 * time.Second); err != nil {
				t.Errorf("node %d did not stop cleanly: %v", i+1, err)
			}
			if t.Failed() {
				t.Logf("node %d said:\n%s", i+1, k.Output())
			}
		})
	}
	for _, k := range nodes {
		if err := k.Ready(); err != nil {
			t.Fatal(err)
		}
	}
	s := newStates(t, nodes, controllers)
	s.from = network.Hosts[operator].Do
	s.fill()

	s.until(whole)
	filler := filepath.Join(small, "filler")
	if err := os.WriteFile(filler, make([]byte, usable(t, small)-1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	s.untilSaid("full", "broker", "list", "-b", nodes[0].Addr)
	s.until(without3)
	s.run("full")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}

	s.until(whole)
	nodes[2].Kill()
	s.until(without3)
	release := holdOpening(t, filepath.Join(small, "t-0", fmt.Sprintf("%020d.log", 0)))
	begin(t, network, nodes, 2)
	s.untilSaid("starting", "broker", "list", "-b", nodes[0].Addr)
	s.run("recovering")
	release()
	if err := nodes[2].Ready(); err != nil {
		t.Fatal(err)
	}

	s.until(whole)
	s.preferred()
	for other := range 2 {
		network.Set(other, 2, chaos.Condition{Cut: true})
		network.Set(2, other, chaos.Condition{Cut: true})
	}
	s.until(without3)
	s.asked = nodes[2]
	s.run("cut")
	s.asked = nil
	network.Heal()
	s.until(whole)
}

// begin starts a node on its host.
func begin(t *testing.T, network *chaos.Network, nodes []*harness.Kraft, i int) {
	t.Helper()
	if err := network.Hosts[i].Do(func() error { return nodes[i].Begin() }); err != nil {
		t.Fatal(err)
	}
}

// usable is how many bytes can still be written.
func usable(t *testing.T, dir string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// holdOpening has other processes wait when they open a file, as for a disk that takes long, until release is called: for the kernel's
// lease-break-time (45 s) at most.
func holdOpening(t *testing.T, path string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatalf("a lease on %s: %v", path, err)
	}
	return func() { _ = f.Close() }
}
