package node

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/cli/config"
	"kraft/storage"
	"kraft/wire/logging"
)

// brokenFS is the real file system with a disk that can be broken.
type brokenFS struct {
	storage.OS
	broken atomic.Pointer[string] // everything below it fails
}

func (b *brokenFS) check(path string) error {
	if at := b.broken.Load(); at != nil && strings.HasPrefix(path, *at+"/") {
		return syscall.EIO
	}
	return nil
}

func (b *brokenFS) OpenFile(path string, create bool) (storage.File, error) {
	if err := b.check(path); err != nil {
		return nil, err
	}
	f, err := b.OS.OpenFile(path, create)
	return brokenFile{f, b, path}, err
}

func (b *brokenFS) WriteFile(path string, data []byte) error {
	if err := b.check(path); err != nil {
		return err
	}
	return b.OS.WriteFile(path, data)
}

type brokenFile struct {
	storage.File
	fs   *brokenFS
	path string
}

func (f brokenFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(f.path); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

// TestLogDirectoryFails: a broker with two log directories of which one fails tells clients that its
// partitions have no leader, serves the others, and has everything when the disk is back.
func TestLogDirectoryFails(t *testing.T) {
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	fs := new(brokenFS)
	begin := func() *Node {
		c, err := config.New(map[string]string{"log.dirs": a + "," + b, "listeners": "PLAINTEXT://localhost:0"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		n, err := StartOn(ctx, World{FS: fs}, c, logging.New(zerolog.Nop(), nil))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := begin()
	stop := func() {
		t.Helper()
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}
	client := func() (*kgo.Client, *kadm.Client) {
		cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.MetadataMinAge(10*time.Millisecond), kgo.RecordRetries(0), kgo.DisableIdempotentWrite(), kgo.AllowAutoTopicCreation())
		if err != nil {
			t.Fatal(err)
		}
		return cl, kadm.NewClient(cl)
	}
	cl, admin := client()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := admin.CreateTopic(ctx, 4, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	put := func(p int32, v string) error {
		return cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Partition: p, Value: []byte(v)}).FirstErr()
	}
	for p := range int32(4) {
		if err := put(p, "first"); err != nil {
			t.Fatal(err)
		}
	}
	where := func() map[int32]string {
		dirs, err := admin.DescribeAllLogDirs(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := map[int32]string{}
		dirs[1].EachPartition(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == "t" && !p.IsFuture {
				at[p.Partition] = p.Dir
			}
		})
		return at
	}
	at := where()
	inB := 0
	for _, dir := range at {
		if dir == b {
			inB++
		}
	}
	if len(at) != 4 || inB != 2 {
		t.Fatalf("partitions are not spread over the directories: %v", at)
	}

	fs.broken.Store(&b)
	for p := range int32(4) {
		err := put(p, "second")
		if at[p] == a && err != nil || at[p] == b && err == nil {
			t.Errorf("partition %d in %s after %s failed: %v", p, at[p], b, err)
		}
	}
	leaders := func(want map[int32]bool) {
		t.Helper()
		for ctx.Err() == nil {
			topics, err := admin.ListTopics(ctx, "t")
			if err != nil {
				t.Fatal(err)
			}
			same := true
			for p, led := range want {
				d := topics["t"].Partitions[p]
				same = same && (d.Leader == 1) == led && (len(d.OfflineReplicas) == 0) == led
			}
			if same {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("leaders are not %v", want)
	}
	want := map[int32]bool{}
	for p, dir := range at {
		want[p] = dir == a
	}
	leaders(want)
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := dirs[1][b]; !errors.Is(got.Err, kerr.KafkaStorageError) {
		t.Errorf("the failed directory is described as %v", got.Err)
	}
	if _, err := admin.CreateTopic(ctx, 4, 1, nil, "u"); err != nil {
		t.Fatal(err)
	}
	for p := range int32(4) {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "u", Partition: p, Value: []byte("v")}).FirstErr(); err != nil {
			t.Errorf("a topic made after the failure: %v", err)
		}
	}
	cl.Close()
	stop()

	n = begin() // the disk is still broken
	cl, admin = client()
	leaders(want)
	for p, led := range want {
		if err := put(p, "third"); (err == nil) != led {
			t.Errorf("partition %d after a start with a broken disk: %v", p, err)
		}
	}
	cl.Close()
	stop()

	fs.broken.Store(nil)
	n = begin()
	cl, admin = client()
	leaders(map[int32]bool{0: true, 1: true, 2: true, 3: true})
	for p, dir := range at {
		end, err := admin.ListEndOffsets(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		o, _ := end.Lookup("t", p)
		if want := map[string]int64{a: 3, b: 1}[dir]; o.Offset != want {
			t.Errorf("partition %d in %s ends at %d, want %d", p, dir, o.Offset, want)
		}
		if err := put(p, "fourth"); err != nil {
			t.Errorf("partition %d with the disk back: %v", p, err)
		}
	}
	// A move of everything into one directory, under way while the client goes on.
	var req kadm.AlterReplicaLogDirsReq
	req.Add(a, kadm.TopicsSet{"t": {0: {}, 1: {}, 2: {}, 3: {}}})
	moved, err := admin.AlterBrokerReplicaLogDirs(ctx, 1, req)
	if err != nil {
		t.Fatal(err)
	}
	moved.Each(func(p kadm.AlterReplicaLogDirsResponse) {
		if p.Err != nil {
			t.Errorf("move of %d: %v", p.Partition, p.Err)
		}
	})
	for all := false; !all && ctx.Err() == nil; {
		for p := range int32(4) {
			if err := put(p, "moving"); err != nil {
				t.Fatalf("produce while partition %d moves: %v", p, err)
			}
		}
		all = true
		for _, dir := range where() {
			all = all && dir == a
		}
	}
	cl.Close()
	stop()
	n = begin() // the metadata learns of the moves, also of those whose report the stop overtook
	for known := false; !known; time.Sleep(5 * time.Millisecond) {
		image := n.meta.Image()
		topic, _ := image.Topic("t")
		broker, _ := image.Broker(1)
		known = len(broker.LogDirs) == 2
		for _, p := range topic.Partitions {
			known = known && p.Directory(1) == n.dirs[0].Meta().DirectoryID
		}
		if ctx.Err() != nil {
			t.Fatalf("partitions are not said to be in %s", a)
		}
	}
	stop()
}
