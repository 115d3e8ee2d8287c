package replication

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"kraft/storage"
	"kraft/wire/record"
)

// TestAlarmsRing: of alarms set, moved and removed at random those ring that the count has reached, and no others.
func TestAlarmsRing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var list alarms
	all := make([]alarm, 50)
	want := map[int]int64{} // by alarm that is set, when it rings
	for i := range all {
		all[i] = newAlarm(make(chan struct{}, 1))
	}
	for count := int64(0); count < 20_000; count++ {
		for range rng.IntN(4) {
			i, at := rng.IntN(len(all)), count+1+rng.Int64N(40)
			if rng.IntN(3) > 0 {
				list.add(&all[i], at)
				want[i] = at
			} else {
				list.remove(&all[i])
				delete(want, i)
			}
		}
		list.reach(count)
		if rng.IntN(500) == 0 {
			list.ringAll()
			for i := range want {
				want[i] = count
			}
		}
		for i := range all {
			at, set := want[i]
			rang := len(all[i].signal) > 0
			if rang != (set && at <= count) {
				t.Fatalf("at %d alarm %d, set for %d (%v), rang: %v", count, i, at, set, rang)
			}
			if rang {
				<-all[i].signal
				delete(want, i)
			}
		}
		if len(list.set) != len(want) {
			t.Fatalf("at %d %d alarms are set, want %d", count, len(list.set), len(want))
		}
	}
}

// TestWaitersSeeEnough: a Fetch request hears of it when enough bytes have come to its partitions together, and looks a few times before.
func TestWaitersSeeEnough(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 3000 {
		parts := make([]*Partition, 1+rng.IntN(5))
		if round%100 == 0 {
			parts = make([]*Partition, 1000)
		}
		for i := range parts {
			parts[i] = &Partition{}
			parts[i].waiting.appended(rng.IntN(100)) // before it began
			parts[i].waiting.publish()
		}
		need, replica := 1+rng.IntN(1000*len(parts)), rng.IntN(2) == 0
		w := newWaiter(append(parts, parts...), replica) // named twice, they count once
		w.need = int64(need)
		if w.enough() {
			t.Fatalf("round %d: enough at once", round)
		}
		appended, committed := make([]int, len(parts)), make([]int, len(parts))
		came := 0
		looks := 0
		for ended := false; ; {
			i, bytes := rng.IntN(len(parts)), 1+rng.IntN(20*min(len(parts), 50))
			parts[i].waiting.appended(bytes)
			appended[i] += bytes
			if replica {
				came += bytes
			}
			if rng.IntN(2) == 0 {
				parts[i].waiting.publish()
				if !replica {
					came += appended[i] - committed[i]
				}
				committed[i] = appended[i]
			}
			if ended = rng.IntN(100*len(parts)) == 0; ended {
				if replica && rng.IntN(2) == 0 {
					parts[i].waiting.wakeReplicas()
				} else {
					parts[i].waiting.wakeAll()
				}
			}
			select {
			case <-w.signal:
				looks++
				if enough := w.enough(); enough != (ended || came >= need) {
					t.Fatalf("round %d: %d bytes of %d, ended %v: enough %v", round, came, need, ended, enough)
				}
			default:
				if ended || came >= need {
					t.Fatalf("round %d: %d bytes of %d, ended %v, and nobody looks", round, came, need, ended)
				}
			}
			if ended || came >= need {
				break
			}
		}
		w.leave()
		if looks > 25 {
			t.Errorf("round %d: %d looks at %d partitions, for %d bytes", round, looks, len(parts), need)
		}
		if left := slices.IndexFunc(parts, func(p *Partition) bool {
			return len(p.waiting.replicas.sleepers.set)+len(p.waiting.consumers.sleepers.set) > 0
		}); left >= 0 {
			t.Fatalf("round %d: an alarm is left at partition %d", round, left)
		}
	}
}

// TestNoSignalIsLost: what comes to a partition after a Fetch request has looked there, and before it has set its alarms, is not lost.
func TestNoSignalIsLost(t *testing.T) {
	for name, comes := range map[string]func(w *waiting){
		"bytes":      func(w *waiting) { w.appended(20) },
		"a wake-up":  func(w *waiting) { w.wakeReplicas() },
		"new leader": func(w *waiting) { w.wakeAll() },
	} {
		for range 5 {
			parts := []*Partition{{}, {}}
			w := newWaiter(parts, true)
			w.need = 20
			parts[1].mu.Lock() // looking at the first comes before that, setting alarms after it
			enough := make(chan bool)
			go func() { enough <- w.enough() }()
			untilBlocked(t, "replication.(*waiter).enough", "sync.Mutex.Lock")
			parts[0].mu.Lock()
			comes(&parts[0].waiting)
			parts[0].mu.Unlock()
			parts[1].mu.Unlock()
			if <-enough {
				continue
			}
			select {
			case <-w.signal:
			default:
				t.Fatalf("%s: nobody looks", name)
			}
			if !w.enough() {
				t.Fatalf("%s: not enough", name)
			}
		}
	}
}

// TestWrittenBytesCount: who waits for bytes hears of those that are written, whatever the producer sent.
func TestWrittenBytesCount(t *testing.T) {
	p, fetched := leading(t)
	c := *storage.DefaultLogConfig()
	c.KeepCodec, c.Codec = false, record.None
	p.Log().SetConfig(&c)
	w := newWaiter([]*Partition{p}, false)
	w.need = 100_000
	if w.enough() {
		t.Fatal("enough at once")
	}
	b := record.NewBuilder(record.Gzip)
	b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, 500_000)})
	data, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Append(data, nil, -1, time.Now()); err != nil {
		t.Fatal(err)
	}
	fetched(1)
	select {
	case <-w.signal:
	default:
		t.Fatalf("%d bytes were sent, 500,000 written, and nobody looks", len(data))
	}
	if !w.enough() {
		t.Error("500,000 bytes are not 100,000")
	}
}

// BenchmarkAppendBesideWaiters is what an append costs a partition at which 50,000 Fetch requests wait for more.
func BenchmarkAppendBesideWaiters(b *testing.B) {
	p := &Partition{}
	for range 50_000 {
		w := newWaiter([]*Partition{p}, false)
		w.need = 1<<31 - 1
		w.enough()
	}
	for b.Loop() {
		p.waiting.appended(1)
		p.waiting.publish()
	}
}

// BenchmarkWaitersAtManyPartitions is an append of 1 kB to one of 1,000 partitions, at which a Fetch request waits for 1 MB again and again.
func BenchmarkWaitersAtManyPartitions(b *testing.B) {
	parts := make([]*Partition, 1000)
	for i := range parts {
		parts[i] = &Partition{}
	}
	begin := func() *waiter {
		w := newWaiter(parts, false)
		w.need = 1e6
		w.enough()
		return w
	}
	w := begin()
	for i := 0; b.Loop(); i++ {
		p := parts[i*7919%len(parts)]
		p.waiting.appended(1000)
		p.waiting.publish()
		select {
		case <-w.signal:
			if w.enough() {
				w.leave()
				w = begin()
			}
		default:
		}
	}
}
