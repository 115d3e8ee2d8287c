//go:build unix

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// sshServer is a host: it runs what it is asked for by a shell, for who has the key. It returns its port, and a file with the key.
func sshServer(t *testing.T, home string) (port int, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	allowed, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(allowed.Marshal()) {
			return nil, fmt.Errorf("another key")
		}
		return nil, nil
	}}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serveSSH(c, config, home) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port, key
}

func serveSSH(c net.Conn, config *ssh.ServerConfig, home string) {
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		ch, requests, err := offered.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				_ = r.Reply(false, nil)
				continue
			}
			_ = r.Reply(true, nil)
			cmd := exec.Command("sh", "-c", string(r.Payload[4:]))
			cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = home, ch, ch, ch.Stderr()
			status := byte(0)
			if cmd.Run() != nil {
				status = 1
			}
			_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, status})
			_ = ch.Close()
		}
	}
}

// TestClusterOverSSH: one command starts a cluster's nodes on hosts with nothing on them, another stops them.
func TestClusterOverSSH(t *testing.T) {
	harness.Need(t, "ssh")
	home := t.TempDir()
	port, key := sshServer(t, home)
	list := "# three nodes\n"
	var first string
	for i := range 3 {
		var ports [2]int
		for j := range ports {
			var err error
			if ports[j], err = freeport.Get(); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			first = fmt.Sprintf("127.0.0.1:%d", ports[0])
		}
		list += fmt.Sprintf("kraft@127.0.0.1 data=node%d's port=%d controller-port=%d\n", i+1, ports[0], ports[1])
	}
	hosts := filepath.Join(home, "hosts")
	if err := os.WriteFile(hosts, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	by := fmt.Sprintf("ssh -p %d -i %s -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -F /dev/null", port, key)
	kraft := func(args ...string) (string, error) {
		out, err := exec.Command(bin, append(args, "-f", hosts, "--ssh", by)...).CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() { _, _ = kraft("cluster", "stop") })
	out, err := kraft("cluster", "start", "--copy", "--override", "group.initial.rebalance.delay.ms=0")
	if err != nil || strings.Count(out, "kraft runs as process") != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	described, err := exec.Command(bin, "cluster", "describe", "-b", first).CombinedOutput()
	if err != nil || !strings.Contains(string(described), "brokers 3") {
		t.Errorf("%v: %s", err, described)
	}
	if out, err := kraft("cluster", "start"); err != nil || strings.Count(out, "runs already") != 3 {
		t.Errorf("started again: %v: %s", err, out)
	}
	if out, err := kraft("cluster", "stop"); err != nil || strings.Count(out, "stopped") != 3 {
		t.Errorf("stopped: %v: %s", err, out)
	}
	if out, err := kraft("cluster", "stop"); err != nil || strings.Count(out, "does not run") != 3 {
		t.Errorf("stopped again: %v: %s", err, out)
	}
	for text, says := range map[string]string{
		"":                         "it names no host",
		"h id=x":                   "line 1: id is a number",
		"h\nh":                     "line 2: h with data in kraft-data is line 1's already",
		"h colour=red":             "colour is not one of",
		"kraft@127.0.0.1 data=/no": "node 1 on kraft@127.0.0.1:",
	} {
		if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := kraft("cluster", "start", "--binary", "/no/such/kraft"); err == nil || !strings.Contains(out, says) {
			t.Errorf("%q: %v: %s, wanted %s", text, err, out, says)
		}
	}
}
