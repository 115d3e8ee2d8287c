package broker

import (
	"sync"
	"testing"

	"kraft/raftmeta/active"
	"kraft/raftmeta/calls"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/metatest"
	"kraft/raftmeta/tags"
)

// alone returns the registered broker of a node that is alone.
func alone(t *testing.T) *Broker {
	m := metatest.Open(t)
	c, a := calls.New(m), active.New(m)
	b := New(m, c, a)
	t.Cleanup(func() {
		b.Close()
		c.Close()
		a.Close()
	})
	if err := b.Register(t.Context(), []image.UUID{{1}, {2}}, -1); err != nil {
		t.Fatal(err)
	}
	return b
}

// own is the broker as the metadata has it.
func (b *Broker) own(t *testing.T) *image.Broker {
	own, ok := b.meta.Newest().Broker(1)
	if !ok {
		t.Fatal("not registered")
	}
	return own
}

// TestLife: a broker registers fenced, is unfenced when it asks for that, and is in a higher epoch when it registers again.
func TestLife(t *testing.T) {
	b := alone(t)
	first := b.Epoch()
	if own := b.own(t); first <= 0 || own.Epoch != first || !own.Fenced {
		t.Fatalf("epoch %d, registered as %+v", first, own)
	}
	if err := b.Unfence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.own(t).Fenced {
		t.Error("fenced still")
	}
	if err := b.Register(t.Context(), []image.UUID{{1}}, first); err != nil {
		t.Fatal(err)
	}
	if own := b.own(t); b.Epoch() <= first || !own.Fenced || len(own.LogDirs) != 1 {
		t.Errorf("epoch %d after %d, registered as %+v", b.Epoch(), first, own)
	}
}

// TestReports: the metadata has what the broker reports of its directories.
func TestReports(t *testing.T) {
	b := alone(t)
	if err := b.SetRoom(t.Context(), tags.Room{Scarce: []image.UUID{{1}, {2}}, Full: []image.UUID{{2}}}); err != nil {
		t.Fatal(err)
	}
	if own := b.own(t); len(own.Scarce) != 2 || len(own.Full) != 1 {
		t.Errorf("no room in %v and %v", own.Scarce, own.Full)
	}
	if err := b.SetLogDirs(t.Context(), []image.UUID{{2}}); err != nil {
		t.Fatal(err)
	}
	if own := b.own(t); len(own.LogDirs) != 1 || own.LogDirs[0] != (image.UUID{2}) {
		t.Errorf("directories %v", own.LogDirs)
	}
}

// TestProducerIDs: no id is given out twice, whoever asks at the same time.
func TestProducerIDs(t *testing.T) {
	b := alone(t)
	const each = 600 // more than one block, together
	var mu sync.Mutex
	seen := map[int64]bool{}
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range each {
				id, err := b.NextProducerID(t.Context())
				mu.Lock()
				if err != nil || seen[id] {
					t.Errorf("id %d, given out before %v: %v", id, seen[id], err)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	asking.Wait()
}

// TestCreateTopic: a topic that exists is no error, and one that cannot be is.
func TestCreateTopic(t *testing.T) {
	b := alone(t)
	if err := b.Unfence(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := controller.Defaults{Partitions: 2, Factor: 1}
	for range 2 {
		if err := b.CreateTopic(t.Context(), controller.NewTopic{Name: "t", Partitions: -1, Factor: -1}, d); err != nil {
			t.Fatal(err)
		}
	}
	if topic, ok := b.meta.Newest().Topic("t"); !ok || len(topic.Partitions) != 2 {
		t.Errorf("%+v", topic)
	}
	if err := b.CreateTopic(t.Context(), controller.NewTopic{Name: "no topic", Partitions: -1, Factor: -1}, d); err == nil {
		t.Error("an invalid name was taken")
	}
}
