package controller

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"google.golang.org/protobuf/proto"

	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
)

// alone starts a controller that has the quorum to itself.
func alone(t *testing.T) *Controller {
	t.Helper()
	c := New(zerolog.Nop())
	node, err := quorum.Open(quorum.Config{ID: 1, Voters: []uint64{1}, Path: filepath.Join(t.TempDir(), "metadata"), Tick: 10 * time.Millisecond, SnapshotBytes: 1 << 20, Log: zerolog.Nop()}, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(node); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		c.Stop()
	})
	return c
}

// TestMistakesAreContained: a decision that panics is refused, a record that does when it is applied is left out, and one that cannot be
// encoded is refused; what comes afterwards is decided and applied.
func TestMistakesAreContained(t *testing.T) {
	c := alone(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	decide := func(records ...*image.Record) error {
		for {
			err := c.Decide(ctx, func(*image.Image, time.Time) []*image.Record { return records })
			if !errors.Is(err, kerr.NotController) || ctx.Err() != nil {
				return err
			}
			time.Sleep(time.Millisecond) // it is being elected
		}
	}
	broken := &image.Record{Kind: &image.Record_RemoveTopic{RemoveTopic: &image.RemoveTopicRecord{Id: []byte("no id")}}}
	value := "1"
	if err := decide(broken, image.SetConfig(image.TopicResource, "t", "k", &value)); err != nil {
		t.Errorf("a record that cannot be applied, and one that can: %v", err)
	}
	if err := c.Decide(ctx, func(*image.Image, time.Time) []*image.Record { panic("a test") }); !errors.Is(err, kerr.UnknownServerError) {
		t.Errorf("a decision that panics: %v", err)
	}
	if err := decide(image.SetConfig(image.TopicResource, "t", "\xff", &value)); !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("a name that is not UTF-8: %v", err)
	}
	if err := decide(image.SetConfig(image.TopicResource, "t", "l", &value)); err != nil {
		t.Error(err)
	}
	if got := c.Image().Config(image.TopicResource, "t"); got["k"] != "1" || got["l"] != "1" {
		t.Errorf("what came beside and after them is %v", got)
	}
}

// TestSlowSubscriber: a subscriber that waits for a disk holds up neither decisions nor what is published, sees every change in the
// end, in order, and one that comes meanwhile sees what it has missed.
func TestSlowSubscriber(t *testing.T) {
	c := alone(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	create := func(name string) {
		t.Helper()
		for {
			err := c.Decide(ctx, func(*image.Image, time.Time) []*image.Record {
				id := NewID()
				return []*image.Record{{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Name: name, Id: id[:]}}}}
			})
			if err == nil {
				return
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // it is being elected
		}
	}
	create("a")
	release, saw := make(chan struct{}), make(chan int, 100)
	c.Subscribe(func(m *image.Image, _ *image.Delta) {
		n := 0
		m.Topics("", func(*image.Topic) bool { n++; return true })
		if n > 1 {
			<-release
		}
		saw <- n
	})
	begun := time.Now()
	for _, name := range []string{"b", "c", "d", "e"} {
		create(name)
		if _, ok := c.Image().Topic(name); !ok {
			t.Errorf("%s is not published", name)
		}
	}
	if took := time.Since(begun); took > 5*subscriberPatience {
		t.Errorf("four decisions took %v", took)
	}
	close(release)
	for want := 1; want <= 5; want++ {
		select {
		case n := <-saw:
			if n != want {
				t.Errorf("the subscriber sees %d topics, wanted %d", n, want)
			}
		case <-ctx.Done():
			t.Fatal("the subscriber sees nothing more")
		}
	}
	late := 0
	c.Subscribe(func(m *image.Image, _ *image.Delta) {
		m.Topics("", func(*image.Topic) bool { late++; return true })
	})
	if late < 4 {
		t.Errorf("a later subscriber sees %d topics", late)
	}
}

// TestSnapshotRemoves: subscribers of a node that was away see which topics are gone when it gets a snapshot, one that has another topic
// of the same name included.
func TestSnapshotRemoves(t *testing.T) {
	c := New(zerolog.Nop())
	apply := func(records ...*image.Record) {
		t.Helper()
		data, err := proto.Marshal(&image.Batch{Term: 1, Records: records})
		if err != nil {
			t.Fatal(err)
		}
		c.Apply(1, 1, data)
	}
	topic := func(id byte, name string) *image.Record {
		u := image.UUID{15: id}
		return &image.Record{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Id: u[:], Name: name}}}
	}
	remove := func(id byte) *image.Record {
		u := image.UUID{15: id}
		return &image.Record{Kind: &image.Record_RemoveTopic{RemoveTopic: &image.RemoveTopicRecord{Id: u[:]}}}
	}
	apply(topic(1, "stays"), topic(2, "goes"), topic(3, "again"), topic(4, "before"))
	c.Applied(1)
	apply(remove(4)) // applied, and not shown yet
	later := New(zerolog.Nop())
	for _, r := range []*image.Record{topic(1, "stays"), topic(5, "again")} {
		later.applied.Apply(r)
	}
	snapshot, err := later.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	last := c.changes[len(c.changes)-1]
	for id, want := range map[byte]bool{1: false, 2: true, 3: true, 4: true, 5: false} {
		if _, removed := last.delta.Removed[image.UUID{15: id}]; removed != want {
			t.Errorf("topic %d removed: %v, want %v", id, removed, want)
		}
	}
	if len(last.delta.Topics) != 2 {
		t.Errorf("%d topics are there, want 2", len(last.delta.Topics))
	}
}
