package controller

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
)

// TestSlowSubscriber: a subscriber that waits for a disk holds up neither decisions nor what is published, sees every change in the
// end, in order, and one that comes meanwhile sees what it has missed.
func TestSlowSubscriber(t *testing.T) {
	c := New(zerolog.Nop())
	node, err := quorum.Open(quorum.Config{ID: 1, Voters: []uint64{1}, Path: filepath.Join(t.TempDir(), "metadata"), Tick: 10 * time.Millisecond, SnapshotBytes: 1 << 20, Log: zerolog.Nop()}, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(node); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		c.Stop()
	}()
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
