//go:build unix

// Package damage damages the files of a node.
package damage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

func TestMain(m *testing.M) { harness.Main(m) }

// damages are what can happen to a file, each as a function of its bytes. A nil result is no file any more.
var damages = []struct {
	name string
	do   func(data []byte, rng *rand.Rand) []byte
}{
	{"deleted", func([]byte, *rand.Rand) []byte { return nil }},
	{"emptied", func([]byte, *rand.Rand) []byte { return []byte{} }},
	{"cut by a byte", func(d []byte, _ *rand.Rand) []byte { return d[:max(0, len(d)-1)] }},
	{"cut in half", func(d []byte, _ *rand.Rand) []byte { return d[:len(d)/2] }},
	{"cut to 3 bytes", func(d []byte, _ *rand.Rand) []byte { return d[:min(3, len(d))] }},
	{"a bit flipped", func(d []byte, rng *rand.Rand) []byte {
		if len(d) > 0 {
			d[rng.IntN(len(d))] ^= 1 << rng.IntN(8)
		}
		return d
	}},
	{"its first 16 bytes zero", func(d []byte, _ *rand.Rand) []byte { clear(d[:min(16, len(d))]); return d }},
	{"its last 16 bytes zero", func(d []byte, _ *rand.Rand) []byte { clear(d[max(0, len(d)-16):]); return d }},
	{"garbage", func(d []byte, rng *rand.Rand) []byte {
		for i := range d {
			d[i] = byte(rng.Uint32())
		}
		return d
	}},
	{"garbage behind it", func(d []byte, rng *rand.Rand) []byte {
		for range 100 {
			d = append(d, byte(rng.Uint32()))
		}
		return d
	}},
}

// TestDamagedFiles damages each file of a node's data in each of ten ways: after a clean stop, after kill -9, and while the node runs,
// which then goes on, and is stopped and started. The node ends with a sentence, or serves: then a consumer reads records that were
// written, in order, or is told of an error. It never panics.
func TestDamagedFiles(t *testing.T) {
	t.Run("stopped", func(t *testing.T) { damageEach(t, true, tryDamaged) })
	t.Run("killed", func(t *testing.T) { damageEach(t, false, tryDamaged) })
	t.Run("running", func(t *testing.T) { damageEach(t, true, tryRunning) })
}

// damageEach tries damages on the files of a node that was stopped, cleanly or not: all with KRAFT_E2E=all, else a third of them.
func damageEach(t *testing.T, clean bool, try func(t *testing.T, template, file string, damage int) (outcome string)) {
	template := filepath.Join(t.TempDir(), "data")
	k := damagedNode(t, template)
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	k.CLI(t, "", "topic", "create", "t", "-c", "segment.bytes=1048576")
	k.CLI(t, "", "topic", "create", "compacted", "-c", "cleanup.policy=compact")
	var lines strings.Builder
	for i := range 200 {
		fmt.Fprintf(&lines, "value-%d\n", i)
	}
	k.CLI(t, lines.String(), "produce", "t")
	k.CLI(t, "k:a\nk:b\n", "produce", "compacted", "-k", ":")
	k.CLI(t, "", "consume", "t", "--from-beginning", "-n", "10", "--group", "g")
	if clean {
		if err := k.Stop(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	} else {
		k.Kill()
	}
	var files []string
	if err := filepath.WalkDir(template, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != ".lock" {
			rel, _ := filepath.Rel(template, path)
			files = append(files, rel)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// Of the fifty partitions of the groups' topic those that have no records are alike.
	files = slices.DeleteFunc(files, func(f string) bool {
		return strings.HasPrefix(f, "__consumer_offsets-") && !hasRecords(filepath.Join(template, filepath.Dir(f)))
	})
	type trial struct {
		file   string
		damage int
	}
	trials := make(chan trial)
	var mu sync.Mutex
	outcomes := map[string]int{}
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for tr := range trials {
				outcome := try(t, template, tr.file, tr.damage)
				if outcome == "silent loss" && !(!clean && damages[tr.damage].name == "emptied" && strings.HasSuffix(tr.file, ".log")) {
					// An empty file that was never flushed is what a kill before the first record leaves.
					t.Errorf("%s %s: records are missing, and the log says nothing of it", tr.file, damages[tr.damage].name)
				}
				mu.Lock()
				outcomes[outcome]++
				mu.Unlock()
			}
		})
	}
	for n, f := range files {
		for i := range damages {
			if harness.All() || (n+i)%3 == 0 {
				trials <- trial{f, i}
			}
		}
	}
	close(trials)
	running.Wait()
	t.Logf("%d files: %v", len(files), outcomes)
}

func hasRecords(dir string) bool {
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	return slices.ContainsFunc(logs, func(l string) bool {
		info, err := os.Stat(l)
		return err == nil && info.Size() > 0
	})
}

func damagedNode(t *testing.T, data string) *harness.Kraft {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return harness.Node("", data, "--node-id", "1", "--data", data, "--listeners", fmt.Sprintf("PLAINTEXT://localhost:%d", port), "--override", "offsets.topic.num.partitions=2")
}

// readToEnd reads partition 0 of a topic up to its end, or to the first error.
func readToEnd(addr, topic string) (values []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}), kgo.FetchMaxWait(100*time.Millisecond), kgo.RequestRetries(2))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	end, _ := ends.Lookup(topic, 0)
	for next := int64(0); next < end.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			return values, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			values = append(values, string(r.Value))
			next = r.Offset + 1
		})
	}
	return values, nil
}

// tryDamaged starts a node with one damaged file, and says what it did.
func tryDamaged(t *testing.T, template, file string, damage int) (outcome string) {
	k := copied(t, template)
	if !damageFile(t, k.Data, file, damage) {
		return
	}
	return startDamaged(t, k, fmt.Sprintf("%s %s", file, damages[damage].name))
}

// tryRunning damages a file of a node that runs, which is to go on, and says what it does at its next start.
func tryRunning(t *testing.T, template, file string, damage int) (outcome string) {
	what := fmt.Sprintf("%s %s while it runs", file, damages[damage].name)
	k := copied(t, template)
	if err := k.Start(); err != nil {
		t.Errorf("%s: before: %v", what, err)
		return
	}
	defer k.Kill()
	if _, err := os.Stat(filepath.Join(k.Data, file)); errors.Is(err, fs.ErrNotExist) {
		return "not there while it runs"
	}
	if !damageFile(t, k.Data, file, damage) {
		return
	}
	lines, _ := readToEnd(k.Addr, "t")
	for i, line := range lines {
		if line != fmt.Sprintf("value-%d", i) {
			t.Errorf("%s: record %d is read as %q", what, i, line)
		}
	}
	_, _ = k.TryCLI(t, "more\n", "produce", "compacted")
	_, _ = k.TryCLI(t, "", "topic", "create", "later")
	if err := k.Stop(10 * time.Second); err != nil && strings.Contains(k.Output(), "goroutine ") {
		t.Errorf("%s: %s", what, k.Output())
		return
	}
	if strings.Contains(k.Output(), "did not stop within") {
		t.Errorf("%s: it does not stop", what)
	}
	return startDamaged(t, k, what)
}

// copied is a node, not started, with a copy of a node's data.
func copied(t *testing.T, template string) *harness.Kraft {
	data := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(data, os.DirFS(template)); err != nil {
		t.Error(err)
	}
	return damagedNode(t, data)
}

// damageFile damages a file of a data directory, and reports whether it could.
func damageFile(t *testing.T, data, file string, damage int) bool {
	path := filepath.Join(data, file)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return false
	}
	rng := rand.New(rand.NewPCG(uint64(damage), uint64(len(file))))
	if after := damages[damage].do(slices.Clone(before), rng); after == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, after, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// startDamaged starts a node with damaged files, and says what it does.
func startDamaged(t *testing.T, k *harness.Kraft, what string) (outcome string) {
	before := k.Output()
	err := k.Start()
	defer k.Kill()
	defer func() {
		if out := k.Output(); strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
			t.Errorf("%s: %s", what, out)
		}
	}()
	if err != nil {
		if out := strings.TrimPrefix(k.Output(), before); strings.Count(strings.TrimSpace(out), "\n") > 3 {
			t.Errorf("%s: it ends with more than a sentence: %s", what, out)
		}
		return "refused"
	}
	lines, err := readToEnd(k.Addr, "t")
	for i, line := range lines {
		if line != fmt.Sprintf("value-%d", i) {
			t.Errorf("%s: record %d is read as %q", what, i, line)
			return "wrong"
		}
	}
	switch {
	case err != nil:
		return "an error to the consumer"
	case len(lines) < 200 && !strings.Contains(k.Output(), " WRN ") && !strings.Contains(k.Output(), " ERR "):
		return "silent loss"
	case len(lines) < 200:
		return "less, and the log says so"
	}
	return "all there"
}
