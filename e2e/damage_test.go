//go:build unix

package e2e

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
)

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

// TestDamagedFiles damages each file of a node's data in each of ten ways, after a clean stop and after kill -9. The node ends with a
// sentence, or serves: then a consumer reads records that were written, in order, or is told of an error. It never panics.
func TestDamagedFiles(t *testing.T) {
	for _, clean := range []bool{true, false} {
		name := map[bool]string{true: "stopped", false: "killed"}[clean]
		t.Run(name, func(t *testing.T) { damageEach(t, clean) })
	}
}

func damageEach(t *testing.T, clean bool) {
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
				outcome := tryDamaged(t, template, tr.file, tr.damage)
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
	for _, f := range files {
		for i := range damages {
			trials <- trial{f, i}
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
	port, err := harness.FreePort()
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
	what := fmt.Sprintf("%s %s", file, damages[damage].name)
	data := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(data, os.DirFS(template)); err != nil {
		t.Error(err)
		return
	}
	path := filepath.Join(data, file)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	rng := rand.New(rand.NewPCG(uint64(damage), uint64(len(file))))
	if after := damages[damage].do(slices.Clone(before), rng); after == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, after, 0o644)
	}
	if err != nil {
		t.Error(err)
		return
	}
	k := damagedNode(t, data)
	err = k.Start()
	defer k.Kill()
	defer func() {
		if out := k.Output(); strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
			t.Errorf("%s: %s", what, out)
		}
	}()
	if err != nil {
		if out := strings.TrimSpace(k.Output()); strings.Count(out, "\n") > 3 {
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
