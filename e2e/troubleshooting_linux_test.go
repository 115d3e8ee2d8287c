package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// transcript is a command of docs/troubleshooting.md with what is said to it there; ... stands for anything.
type transcript struct{ command, says string }

func readTranscripts(t *testing.T) (nothing, dev []transcript) {
	t.Helper()
	text := contents(t, filepath.Join(harness.Root(), "docs", "troubleshooting.md"))
	before, behind, ok := strings.Cut(text, "## Where a `kraft dev` runs")
	if !ok {
		t.Fatal("no section about a kraft dev")
	}
	read := func(text string) (out []transcript) {
		for _, block := range strings.Split(text, "\n\n") {
			command, says, ok := strings.Cut(block, "\n")
			if command, isCommand := strings.CutPrefix(command, "    $ "); ok && isCommand {
				out = append(out, transcript{command, strings.TrimSpace(strings.ReplaceAll(says, "\n    ", "\n"))})
			}
		}
		return out
	}
	return read(before), read(behind)
}

// TestTroubleshooting types the mistakes of docs/troubleshooting.md in a terminal, and is told what stands there.
func TestTroubleshooting(t *testing.T) {
	dir := harness.Install(t)
	own := filepath.Join(dir, "cache")
	run := func(command string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "KRAFT_CACHE="+own, "KRAFT_PROFILES="+filepath.Join(dir, "profiles.json"))
		return cmd
	}
	play := func(all []transcript) {
		t.Helper()
		if len(all) < 15 {
			t.Errorf("%d mistakes: are the transcripts still there?", len(all))
		}
		for _, tr := range all {
			term := harness.InTerminal(t, run(tr.command))
			status := term.Exit(t, 20*time.Second)
			said := strings.TrimSpace(strings.ReplaceAll(term.Screen(), "\r\n", "\n"))
			var parts []string
			for _, part := range strings.Split(tr.says, "...") {
				parts = append(parts, regexp.QuoteMeta(part))
			}
			if !regexp.MustCompile("^(?s:" + strings.Join(parts, ".*") + ")$").MatchString(said) {
				t.Errorf("$ %s\nsays        %s\nand not     %s", tr.command, said, tr.says)
			}
			if status == 0 {
				t.Errorf("$ %s: status 0", tr.command)
			}
		}
	}
	nothing, dev := readTranscripts(t)
	play(nothing)
	term := harness.InTerminal(t, run("exec kraft dev --port 0 --topic orders:3 --topic payments"))
	term.Await(t, 20*time.Second, func(screen string) bool { return strings.Contains(screen, "q, or Ctrl-C") })
	if out, err := run("echo one | kraft produce orders && kraft consume orders -g billing --exit-at-end --from-beginning").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	play(dev)
}

// TestWrongPorts: what listens at an address is named, soon, if it is not a broker.
func TestWrongPorts(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	each := func(l net.Listener, f func(net.Conn)) string {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go f(c)
			}
		}()
		return l.Addr().String()
	}
	web := listen()
	go func() { _ = http.Serve(web, http.NotFoundHandler()) }()
	both, _ := certificate(t, t.TempDir())
	pair, err := tls.LoadX509KeyPair(both, both)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	defer close(done)
	cluster := harness.NewCluster(t, 3)
	for address, says := range map[string]string{
		web.Addr().String(): "a web server (HTTP) listens at",
		each(listen(), func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
			_ = c.Close()
		}): "speaks TLS: set security.protocol=SSL",
		each(listen(), func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-OpenSSH_9.9\r\n"); <-done; _ = c.Close() }): `is no broker: it says "SSH-`,
		each(listen(), func(c net.Conn) { <-done; _ = c.Close() }):                                           "accepts connections but does not answer",
		each(listen(), func(c net.Conn) { _ = c.Close() }):                                                   "closes the connection",
		cluster.Controllers()[0]: "is the address of a controller",
		"127.0.0.1:1":            "no broker answers at 127.0.0.1:1: start one (kraft dev)",
	} {
		for _, command := range []string{"topic list", "consume orders", "health"} {
			begun := time.Now()
			out, err := exec.Command(bin, append(strings.Fields(command), "-b", address)...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), says) {
				t.Errorf("kraft %s -b %s: %v: %s, wanted %q", command, address, err, out, says)
			}
			if took := time.Since(begun); took > 12*time.Second {
				t.Errorf("kraft %s -b %s took %v: %s", command, address, took, out)
			}
		}
	}
}
