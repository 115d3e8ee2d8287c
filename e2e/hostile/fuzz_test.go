package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/config"
	"kraft/cli/node"
	"kraft/storage"
	"kraft/wire/logging"
	"kraft/wire/record"
)

const (
	mostMemory     = 512 << 20 // of a node that is asked for nonsense, after a garbage collection
	mostGoroutines = 20_000
)

// FuzzRequests sends requests of every kind, with random fields in random versions, cut at random, to a node through its
// listener. Nothing may panic, memory and goroutines stay bounded, an answer is one to the question, and another client
// gets the same bytes as ever.
func FuzzRequests(f *testing.F) {
	for key := int16(0); key < 100; key++ {
		if r := kmsg.RequestForKey(key); r != nil {
			for _, v := range []int16{0, r.MaxVersion() / 2, r.MaxVersion()} {
				f.Add(key, v, []byte{}, uint16(0))
				f.Add(key, v, bytes.Repeat([]byte{1, 3, 1, 2, 1}, 20), uint16(0))
				f.Add(key, v, bytes.Repeat([]byte{2, 1, 9, 4, 5, 3}, 20), uint16(30))
			}
		}
	}
	address := startNode(f)
	honest := newWitness(f, address)
	blobs := blobs(f)
	runs := 0
	f.Fuzz(func(t *testing.T, key, version int16, dice []byte, cut uint16) {
		r := kmsg.RequestForKey(key)
		if r == nil || version < 0 || version > r.MaxVersion()+1 {
			return
		}
		r.SetVersion(version)
		(*Dice)(&dice).Fill(r, blobs)
		if u, ok := r.(*kmsg.UnregisterBrokerRequest); ok && u.BrokerID == 1 {
			return // an administrator may take the broker away; the witness would notice
		}
		frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("hostile")).AppendRequest(nil, r, 77)
		if n := int(cut); n > 0 {
			frame = frame[:4+n%(len(frame)-4)]
			if n%2 == 0 { // else the rest never comes
				binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
			}
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write(frame)
		if cut == 0 {
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // some wait for what never happens
			var head [8]byte
			if _, err := io.ReadFull(c, head[:]); err == nil && binary.BigEndian.Uint32(head[4:]) != 77 {
				t.Errorf("%s version %d: the answer is to request %d", kmsg.NameForKey(key), version, binary.BigEndian.Uint32(head[4:]))
			}
		}
		honest.ask(t)
		if runs++; runs%500 == 0 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > mostMemory {
				t.Fatalf("%d bytes of memory are in use", m.HeapAlloc)
			}
			if n := runtime.NumGoroutine(); n > mostGoroutines {
				t.Fatalf("there are %d goroutines", n)
			}
		}
	})
}

// startNode starts a node in this process: if it panics, the fuzzer knows.
func startNode(f *testing.F) (address string) {
	c, err := config.New(map[string]string{"log.dirs": f.TempDir(), "listeners": "PLAINTEXT://127.0.0.1:0", "offsets.topic.num.partitions": "1",
		"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "false"})
	if err != nil {
		f.Fatal(err)
	}
	var bound net.Listener
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := node.StartOn(ctx, node.World{FS: storage.OS{}, Listen: func(a string) (l net.Listener, err error) {
		l, err = net.Listen("tcp", a)
		bound = l
		return l, err
	}}, c, logging.New(zerolog.New(io.Discard), nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = n.Stop() })
	return bound.Addr().String()
}

// witness is a client that asks the same again and again, and wants the same answers.
type witness struct {
	conn      net.Conn
	questions [][]byte
	answers   [][]byte
}

func newWitness(f *testing.F, address string) *witness {
	c, err := net.Dial("tcp", address)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	w := &witness{conn: c}
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version, create.TimeoutMillis = 4, 10_000
	for _, name := range []string{"honest", "t", "v"} {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 1, 1
		create.Topics = append(create.Topics, t)
	}
	produce := kmsg.NewPtrProduceRequest()
	produce.Version, produce.Acks, produce.TimeoutMillis = 9, -1, 10_000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = blobs(f)[1]
	produce.Topics = []kmsg.ProduceRequestTopic{{Topic: "honest", Partitions: []kmsg.ProduceRequestTopicPartition{p}}}
	for _, r := range []kmsg.Request{create, produce} {
		if _, err := w.send(kmsg.NewRequestFormatter().AppendRequest(nil, r, 1)); err != nil {
			f.Fatal(err)
		}
	}
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.Version = 2
	for i, r := range []kmsg.Request{fetchRequest("honest", 1<<20), versions} {
		q := kmsg.NewRequestFormatter().AppendRequest(nil, r, int32(i))
		a, err := w.send(q)
		if err != nil {
			f.Fatal(err)
		}
		w.questions, w.answers = append(w.questions, q), append(w.answers, a)
	}
	if !bytes.Contains(w.answers[0], []byte("honest value")) {
		f.Fatal("the witness does not read its record")
	}
	return w
}

// fetchRequest asks for a topic's first partition, from its beginning on.
func fetchRequest(topic string, bytes int32) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.Version, r.ReplicaID, r.MinBytes, r.MaxBytes, r.SessionEpoch = 11, -1, 1, bytes, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes, p.CurrentLeaderEpoch = bytes, -1
	r.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return r
}

func (w *witness) ask(t *testing.T) {
	for i, q := range w.questions {
		a, err := w.send(q)
		if err != nil {
			t.Fatalf("another client: %v", err)
		}
		if !bytes.Equal(a, w.answers[i]) {
			t.Fatalf("another client reads\n%q\nand read\n%q", a, w.answers[i])
		}
	}
}

func (w *witness) send(frame []byte) ([]byte, error) {
	_ = w.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := w.conn.Write(frame); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(w.conn, answer)
	return answer, err
}

// blobs are a good batch of records, and bytes that are none.
func blobs(f *testing.F) [][]byte {
	b := record.NewBuilder(record.None)
	b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte("honest value")})
	good, err := b.Build()
	if err != nil {
		f.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	return [][]byte{nil, good, flipped, good[:len(good)/2], append(bytes.Clone(good), good...), []byte("\x00\x00\x00\x01"), bytes.Repeat([]byte{0xff}, 64)}
}
