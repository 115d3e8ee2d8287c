package transactions

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// both plays steps to kraft and to Apache Kafka, and compares the answers.
type both struct {
	t      *testing.T
	worlds []*world
	told   []string
}

func (b *both) play(s step) string {
	b.t.Helper()
	answers := make([]string, len(b.worlds))
	for i, w := range b.worlds {
		var err error
		if answers[i], err = w.settled(s); err != nil {
			answers[i] = "error: " + err.Error()
		}
	}
	b.told = append(b.told, fmt.Sprintf("%v\n      %s", s, answers[0]))
	if answers[0] != answers[1] {
		b.t.Errorf("%s\n      kraft: %s", strings.Join(b.told, "\n    "), answers[1])
	}
	return answers[1]
}

// awaits plays a step until both answer so.
func (b *both) awaits(s step, want string) {
	b.t.Helper()
	for _, w := range b.worlds {
		if err := harness.Eventually(30*time.Second, func() error {
			if got, err := w.settled(s); err != nil || !strings.Contains(got, want) {
				return fmt.Errorf("%s: %v: %s, %v", w.who, s, got, err)
			}
			return nil
		}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// each calls f for both.
func (b *both) each(f func(w *world) error) {
	b.t.Helper()
	for _, w := range b.worlds {
		if err := f(w); err != nil {
			b.t.Fatalf("%s: %v", w.who, err)
		}
	}
}

// level sets transaction.version.
func (w *world) level(n int16) error {
	req := kmsg.NewPtrUpdateFeaturesRequest()
	req.TimeoutMillis = 10_000
	u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	u.Feature, u.MaxVersionLevel, u.UpgradeType = "transaction.version", n, 2 // a safe downgrade
	if n == 2 {
		u.UpgradeType = 1
	}
	req.FeatureUpdates = append(req.FeatureUpdates, u)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, err := w.ask(ctx, req, 2)
	if err != nil {
		return err
	}
	if r := resp.(*kmsg.UpdateFeaturesResponse); r.ErrorCode != 0 {
		return fmt.Errorf("transaction.version %d: %s", n, code(r.ErrorCode))
	}
	return nil
}

// TestLifeAsApacheKafka: transactions that time out, ids that expire, a topic that is deleted, other levels of transaction.version and a
// restart come out as in Apache Kafka 4.4.0.
func TestLifeAsApacheKafka(t *testing.T) {
	settings := []string{"transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=1", "transaction.abort.timed.out.transaction.cleanup.interval.ms=300",
		"transactional.id.expiration.ms=20000", "transaction.remove.expired.transaction.cleanup.interval.ms=500"}
	theirs := harness.NewKafka(t, settings...)
	var overrides []string
	for _, s := range settings {
		overrides = append(overrides, "--override", s)
	}
	ours := harness.NewKraft(t, overrides...)
	servers := []*server{connect(t, "Apache Kafka", theirs.Addr), connect(t, "kraft", ours.Addr)}
	begin := func(name string) *both {
		b := &both{t: t}
		for _, s := range servers {
			b.worlds = append(b.worlds, s.begin(t, name))
		}
		return b
	}
	init := func(id string, version int16, pair string, timeout int32) step {
		return step{kind: "init", id: id, version: version, pair: pair, timeout: timeout}
	}
	produce := func(id string, version int16, pair string, partition int32) step {
		return step{kind: "produce", id: id, version: version, pair: pair, partition: partition, sequence: "next"}
	}
	add := func(id string) step { return step{kind: "add", id: id, version: 3, pair: "now"} }
	end := func(id string, version int16, pair string, commit bool) step {
		return step{kind: "end", id: id, version: version, pair: pair, commit: commit}
	}
	describe := func(id string) step { return step{kind: "describe", id: id} }

	b := begin("timeouts")
	b.play(init("A", 5, "nobody", 600))
	b.play(produce("A", 12, "now", 0))
	b.awaits(describe("A"), "CompleteAbort")
	b.play(init("B", 4, "nobody", 600))
	b.play(add("B"))
	b.play(produce("B", 11, "now", 0))
	b.awaits(describe("B"), "CompleteAbort")
	b.play(produce("A", 12, "now", 0))
	b.play(end("A", 5, "now", true))
	b.play(end("A", 5, "now", false))
	b.play(init("A", 5, "before", 60_000))
	b.play(produce("B", 11, "now", 0))
	b.play(produce("B", 9, "now", 1))
	b.play(add("B"))
	b.play(end("B", 4, "now", true))
	b.play(init("B", 5, "now", 60_000))
	b.play(describe("A"))
	b.play(describe("B"))
	b.play(step{kind: "producers"})
	b.play(step{kind: "fetch", isolation: 1})

	b = begin("expiry")
	b.play(init("A", 5, "nobody", 60_000))
	b.play(produce("A", 12, "now", 0))
	b.play(end("A", 5, "now", true))
	b.play(init("B", 5, "nobody", 60_000))
	b.play(produce("B", 12, "now", 1))
	b.awaits(describe("A"), "TRANSACTIONAL_ID_NOT_FOUND")
	b.play(end("A", 5, "now", true))
	b.play(add("A"))
	b.play(produce("A", 12, "now", 0))
	b.play(produce("A", 11, "now", 0))
	b.play(init("A", 5, "now", 60_000))
	b.play(describe("B")) // it is open
	b.play(end("B", 5, "now", true))

	b = begin("deleted")
	b.play(init("A", 5, "nobody", 60_000))
	b.play(produce("A", 12, "now", 0))
	b.play(produce("A", 12, "now", 1))
	b.each(func(w *world) error {
		_, err := w.admin.DeleteTopics(context.Background(), w.topic)
		return err
	})
	b.play(end("A", 5, "now", true))
	b.awaits(describe("A"), "CompleteCommit")

	for _, level := range []int16{1, 0} {
		b = begin(fmt.Sprint("level", level))
		b.each(func(w *world) error { return w.level(level) })
		b.play(init("A", 5, "nobody", 60_000))
		b.play(add("A"))
		b.play(produce("A", 11, "now", 0))
		b.play(end("A", 4, "now", true))
		b.play(end("A", 4, "now", true))
		b.play(add("A"))
		b.play(produce("A", 11, "now", 0))
		b.play(init("A", 5, "nobody", 60_000)) // fences
		b.play(produce("A", 11, "before", 0))
		b.play(describe("A"))
		b.play(step{kind: "fetch", isolation: 1})
		if level == 1 { // where a request of version 2 at level 0 leaves an id in Apache Kafka that nothing but a restart frees
			b.play(produce("A", 12, "now", 1))
			b.play(end("A", 5, "now", true))
			b.play(describe("A"))
		}
	}
	w := b.worlds[1]
	ctx := context.Background()
	for _, s := range []struct {
		step
		want string
	}{{init("B", 5, "nobody", 60_000), "ok"}, {produce("B", 12, "now", 1), "ok"}, {end("B", 5, "now", true), "ok"}, {add("B"), "0:ok"}, {end("B", 4, "now", false), "ok"}} {
		if got, err := w.settled(s.step); err != nil || !strings.HasPrefix(got, s.want) {
			t.Errorf("level 0: %v: %s, %v", s.step, got, err)
		}
	}
	b.each(func(w *world) error { return w.level(2) })

	b = begin("restart")
	b.play(init("A", 5, "nobody", 60_000))
	b.play(produce("A", 12, "now", 0))
	b.play(end("A", 5, "now", true))
	b.play(init("B", 5, "nobody", 60_000))
	b.play(produce("B", 12, "now", 1))
	theirs.Kill()
	ours.Kill()
	if err := theirs.Start(); err != nil {
		t.Fatal(err)
	}
	if err := ours.Start(); err != nil {
		t.Fatal(err)
	}
	for i, s := range []*server{connect(t, "Apache Kafka", theirs.Addr), connect(t, "kraft", ours.Addr)} {
		b.worlds[i].server = s
		if err := b.worlds[i].awaitLeaders(ctx); err != nil {
			t.Fatal(err)
		}
	}
	b.awaits(describe("A"), "CompleteCommit")
	b.play(end("A", 5, "before", true))
	b.play(step{kind: "produce", id: "B", version: 12, pair: "now", partition: 1, sequence: "again"})
	b.play(produce("B", 12, "now", 1))
	b.play(end("B", 5, "now", true))
	b.play(describe("B"))
	b.play(step{kind: "fetch", partition: 1, isolation: 1})
}

// TestForeignMarker: a marker that an operator has written with a later coordinator epoch does not leave a transaction without an end, as it
// does in Apache Kafka 4.4.0.
func TestForeignMarker(t *testing.T) {
	k := harness.NewKraft(t)
	w := connect(t, "kraft", k.Addr).begin(t, "foreign")
	for _, s := range []struct {
		step
		want string
	}{
		{step{kind: "init", id: "A", version: 5, pair: "nobody", timeout: 60_000}, "ok"},
		{step{kind: "produce", id: "A", version: 12, pair: "now", sequence: "next"}, "ok 0"},
		{step{kind: "marker", id: "A", version: 2, pair: "now", coord: 5}, "ok"},
		{step{kind: "produce", id: "A", version: 12, pair: "now", sequence: "next"}, "ok 3"},
		{step{kind: "end", id: "A", version: 5, pair: "now", commit: true}, "ok"},
		{step{kind: "describe", id: "A"}, "ok CompleteCommit"},
		{step{kind: "listOffset", at: -1, isolation: 1}, "ok 6"},
	} {
		if got, err := w.settled(s.step); err != nil || !strings.HasPrefix(got, s.want) {
			t.Fatalf("%v: %s, %v", s.step, got, err)
		}
	}
}
