package transactions

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// TestExchange: kraft and Apache Kafka 4.4.0 exchange their directories while transactions are open, in their partitions and in groups' offsets,
// after a clean stop and after a kill. Each goes on with what the other has written, and both give the same answers.
func TestExchange(t *testing.T) {
	for name, clean := range map[string]bool{"stopped": true, "killed": false} {
		t.Run(name, func(t *testing.T) { exchange(t, clean) })
	}
}

func exchange(t *testing.T, clean bool) {
	settings := []string{"transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=1", "transaction.abort.timed.out.transaction.cleanup.interval.ms=300"}
	var overrides []string
	for _, s := range settings {
		overrides = append(overrides, "--override", s)
	}
	theirs, ours := harness.NewKafka(t, settings...), harness.NewKraft(t, overrides...)
	b := &both{t: t, worlds: []*world{connect(t, "Apache Kafka", theirs.Addr).begin(t, "x"), connect(t, "kraft", ours.Addr).begin(t, "x")}}
	init := func(id string, timeout int32) {
		b.play(step{kind: "init", id: id, version: 5, pair: "nobody", timeout: timeout})
	}
	produce := func(id string, version int16, partition int32) {
		b.play(step{kind: "produce", id: id, version: version, pair: "now", partition: partition, sequence: "next"})
	}
	end := func(id string, version int16, commit bool) {
		b.play(step{kind: "end", id: id, version: version, pair: "now", commit: commit})
		b.awaits(step{kind: "describe", id: id}, "Complete")
	}
	look := func() {
		for _, id := range []string{"committed", "aborted", "open", "old", "late"} {
			b.play(step{kind: "describe", id: id})
		}
		for p := range int32(partitions) {
			b.play(step{kind: "producers", partition: p})
			b.play(step{kind: "listOffset", partition: p, at: -1, isolation: 1})
			b.play(step{kind: "fetch", partition: p})
			b.play(step{kind: "fetch", partition: p, isolation: 1})
		}
		b.play(step{kind: "stable", group: "g"})
		b.play(step{kind: "offsets", group: "g"})
	}

	init("committed", 60_000)
	produce("committed", 12, 0)
	b.play(step{kind: "commitOffset", id: "committed", version: 5, pair: "now", group: "g", gen: -1, partition: 0, offset: 3})
	end("committed", 5, true)
	init("aborted", 60_000)
	produce("aborted", 12, 0)
	produce("aborted", 12, 1)
	b.play(step{kind: "commitOffset", id: "aborted", version: 5, pair: "now", group: "g", gen: -1, partition: 1, offset: 4})
	end("aborted", 5, false)
	init("open", 60_000)
	produce("open", 12, 0)
	b.play(step{kind: "commitOffset", id: "open", version: 5, pair: "now", group: "g", gen: -1, partition: 0, offset: 5})
	init("old", 60_000) // a client that knows version 1 of transactions
	b.play(step{kind: "add", id: "old", version: 3, pair: "now", partition: 1})
	produce("old", 11, 1)
	init("late", 600_000)
	produce("late", 12, 1)
	look()

	stop := func(process interface {
		Stop(time.Duration) error
		Kill()
	}) {
		if !clean {
			process.Kill()
		} else if err := process.Stop(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	stop(theirs)
	stop(ours)
	swap(t, theirs.Data, ours.Data, b.worlds[0].topic+"-0", b.worlds[0].topic+"-1", "__transaction_state-0", "__consumer_offsets-0")
	if err := theirs.Start(); err != nil {
		t.Fatal(err)
	}
	if err := ours.Start(); err != nil {
		t.Fatal(err)
	}
	names := []*world{b.worlds[1], b.worlds[0]}
	for i, s := range []*server{connect(t, "Apache Kafka", theirs.Addr), connect(t, "kraft", ours.Addr)} {
		w := *names[i] // the producers that it finds are the other's
		w.server, w.id = s, b.worlds[i].id
		names[i] = &w
	}
	b.worlds = names
	b.each(func(w *world) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return w.awaitLeaders(ctx)
	})
	look()
	b.play(step{kind: "produce", id: "open", version: 12, pair: "now", sequence: "again"})
	produce("open", 12, 0)
	end("open", 5, true)
	produce("old", 11, 1)
	end("old", 4, false)
	look()
	b.play(step{kind: "init", id: "late", version: 5, pair: "now", timeout: 1000}) // aborts it
	produce("late", 12, 0)
	b.awaits(step{kind: "describe", id: "late"}, "CompleteAbort")
	look()
	if strings.Contains(ours.Output(), "WRN") {
		t.Errorf("kraft warned of Apache Kafka's files:\n%s", ours.Output())
	}
}

// swap exchanges partitions' directories and the checkpoints, under the topic ids of each broker.
func swap(t *testing.T, one, other string, partitions ...string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(one, "*-checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		partitions = append(partitions, filepath.Base(f))
	}
	for _, name := range partitions {
		a, b, between := filepath.Join(one, name), filepath.Join(other, name), filepath.Join(one, "between")
		ids := [2][]byte{}
		for i, dir := range []string{a, b} {
			ids[i], _ = os.ReadFile(filepath.Join(dir, "partition.metadata")) // checkpoints are files
		}
		for _, m := range [][2]string{{a, between}, {b, a}, {between, b}} {
			if err := os.Rename(m[0], m[1]); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		for i, dir := range []string{a, b} {
			if ids[i] == nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, "partition.metadata"), ids[i], 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
