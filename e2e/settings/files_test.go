package settings

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/cli/config"
	"kraft/e2e/harness"
	"kraft/internal/freeport"
	"kraft/raftmeta/configs"
)

// TestFiles starts a broker with each setting of server.properties at each of its ends and with nonsense, in the file or, every third time,
// in the environment: it serves, and stops when it is told to, or it says in a sentence what is wrong.
func TestFiles(t *testing.T) {
	type trial struct {
		name, value string
		environment bool
	}
	var trials []trial
	for _, name := range slices.Sorted(maps.Keys(configs.Broker)) {
		if slices.Contains([]string{"log.dir", "log.dirs", "metadata.log.dir", "listeners", "advertised.listeners", "node.id"}, name) {
			continue // each start has its own
		}
		for _, v := range ends(configs.Broker[name]) {
			if name == "zookeeper.connect" && v == "foo" {
				continue // it waits for that host
			}
			trials = append(trials, trial{name, v, len(trials)/6%3 == 2})
		}
	}
	trials = sample(trials)
	var running sync.WaitGroup
	queue := make(chan trial)
	for range 4 {
		running.Go(func() {
			for c := range queue {
				if err := startWith(t, c.name, c.value, c.environment); err != nil {
					t.Errorf("%s=%s: %v", c.name, c.value, err)
				}
			}
		})
	}
	for _, c := range trials {
		queue <- c
	}
	close(queue)
	running.Wait()
	t.Logf("%d starts", len(trials))
}

// ends are the values of a setting that are least like those that anybody gives.
func ends(d *configs.Definition) []string {
	switch d.Type {
	case configs.Int, configs.Short, configs.Long, configs.Double:
		out := []string{"0", "1", "-1", "32767", "2147483647", "9223372036854775807", ""}
		for _, v := range values(d) {
			if d.Check(v) == nil && len(v) > 2 {
				out = append(out, v)
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	case configs.Boolean:
		return []string{" TRUE", "foo"}
	}
	return []string{"", "foo", ",", "a:b:c"}
}

// startWith starts a broker with one setting.
func startWith(t *testing.T, name, value string, environment bool) error {
	port, err := freeport.Get()
	if err != nil {
		return err
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "server.properties")
	listener := fmt.Sprintf("PLAINTEXT://127.0.0.1:%d", port)
	text := fmt.Sprintf("node.id=1\nlisteners=%s\nlog.dirs=%s\n", listener, filepath.Join(dir, "data"))
	if !environment {
		text += fmt.Sprintf("%s=%s\n", name, value)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	bin, err := harness.Binary()
	if err != nil {
		return err
	}
	k := harness.Node(fmt.Sprintf("127.0.0.1:%d", port), dir, "server", file)
	cmd := exec.Command(bin, "server", file)
	if environment {
		cmd.Env = append(os.Environ(), config.Variable(name)+"="+value)
	}
	p, err := harness.Start(cmd)
	if err != nil {
		return err
	}
	k.Process = p
	if err := k.Ready(); err != nil {
		out := p.Output()
		if strings.Contains(out, "[running]:") || strings.Contains(out, "panic") || !strings.Contains(out, "kraft: ") {
			return fmt.Errorf("does not start, and says\n%s", out)
		}
		return nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	err = cl.Ping(ctx)
	cancel()
	cl.Close()
	if err != nil && !strings.HasPrefix(name, "max.connection") && !strings.HasPrefix(name, "socket.request") && !strings.HasPrefix(name, "queued.max.request") && name != "connections.max.idle.ms" {
		p.Kill()
		return fmt.Errorf("does not serve: %w\n%s", err, p.Output())
	}
	if err := p.Stop(20 * time.Second); err != nil {
		return fmt.Errorf("does not stop: %w", err)
	}
	if out := p.Output(); strings.Contains(out, "[running]:") || strings.Contains(out, "a mistake in kraft") {
		return fmt.Errorf("says\n%s", out)
	}
	return nil
}
