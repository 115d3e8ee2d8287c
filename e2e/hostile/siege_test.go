//go:build linux

package hostile

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// attack is what peers do, each on a connection of its own. They say each time that they did it, and return an error where they give up.
type attack struct {
	peers int
	act   func(peer int, c net.Conn, did func()) error
}

// allActed is what the process says once each of its peers has acted.
const allActed = "all acted"

// Variables of the environment that make a process of this test one of an attack's peers.
const (
	attackName    = "KRAFT_HOSTILE_ATTACK"
	attackAddress = "KRAFT_HOSTILE_ADDRESS"
)

// busy is an attack that takes the processors, and asks nothing of the broker: what a client waits beside it is the machine's doing.
const busy = "busy"

// siege is an attack's peers at work.
type siege struct {
	acted chan struct{} // closed when each of them has acted, one has complained, or their process has ended
	end   func()        // ends them, and fails the test where one of them has not acted, or has given up
}

// besiege has an attack's peers connect and act, in a process of their own that has the processors when neither the broker nor its other
// clients want them: peers are on other machines.
func besiege(t *testing.T, name, address string) *siege {
	t.Helper()
	cmd := exec.Command("chrt", "--idle", "0", os.Args[0])
	cmd.Env = append(os.Environ(), attackName+"="+name, attackAddress+"="+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	until, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s, lines, rest := &siege{acted: make(chan struct{})}, bufio.NewScanner(said), make(chan string, 1)
	s.end = func() {
		t.Helper()
		_ = until.Close()
		if complaint := <-rest; complaint != "" {
			t.Errorf("the peers of %q: %s", name, complaint)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the peers of %q: %v", name, err)
		}
	}
	connected := lines.Scan()
	go func() {
		var complaints []string
		for acted := sync.OnceFunc(func() { close(s.acted) }); ; {
			if !lines.Scan() {
				acted()
				break
			}
			if lines.Text() != allActed {
				complaints = append(complaints, lines.Text())
			}
			acted()
		}
		rest <- strings.Join(complaints, "\n")
	}()
	if !connected {
		s.end()
		t.Fatalf("the peers of %q have not connected", name)
	}
	return s
}

// actPatience is how long it may take until each of the peers has acted.
const actPatience = 2 * time.Minute

// awaitActed waits until each of the peers has acted, or cannot any more. end says which.
func (s *siege) awaitActed() {
	select {
	case <-s.acted:
	case <-time.After(actPatience):
	}
}

// attacks are all there are.
func attacks() map[string]attack {
	all := map[string]attack{busy: {runtime.NumCPU(), func(_ int, _ net.Conn, did func()) error {
		for {
			did()
		}
	}}}
	maps.Copy(all, names)
	maps.Copy(all, promises)
	return all
}

// attackIfAsked makes this process the peers of an attack, if the environment names one. It prints when all are connected, when all have
// acted, and each peer that gives up. When its input ends it prints how many have not acted, and exits.
func attackIfAsked() {
	name, address := os.Getenv(attackName), os.Getenv(attackAddress)
	if name == "" {
		return
	}
	a := attacks()[name]
	peers := make([]net.Conn, a.peers)
	for i := range peers {
		var err error
		if peers[i], err = dial(i, address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println("connected")
	did, left := make([]sync.Once, a.peers), atomic.Int32{}
	left.Store(int32(a.peers))
	for i, c := range peers {
		act := func() {
			if left.Add(-1) == 0 {
				fmt.Println(allActed)
			}
			runtime.Gosched() // let the next peer act: a busy machine gives this process little time
		}
		go func() {
			if err := a.act(i, c, func() { did[i].Do(act) }); err != nil {
				fmt.Printf("peer %d: %v\n", i, err)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	if n := left.Load(); n > 0 {
		fmt.Printf("%d of %d have done nothing\n", n, a.peers)
	}
	os.Exit(0)
}
