package transactions

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

func batchesOf(w *world, data []byte) (out []string) {
	for len(data) > 0 {
		b, rest, err := record.Next(data)
		if err != nil {
			return append(out, err.Error())
		}
		kind := ""
		if k, _, ok := b.Marker(); ok {
			kind = []string{" abort", " commit"}[k]
		}
		w.read = b.LastOffset()
		out = append(out, fmt.Sprintf("%d-%d %s/%d%s", b.BaseOffset(), b.LastOffset(), w.name(b.ProducerID()), b.ProducerEpoch(), kind))
		data = rest
	}
	return out
}

// trials is how many TestAsApacheKafka plays; KRAFT_TRIALS sets another number, KRAFT_SEED the first seed.
func trials() (first, n int) {
	first, n = 1, 120
	if s, err := strconv.Atoi(os.Getenv("KRAFT_SEED")); err == nil {
		first = s
	}
	if s, err := strconv.Atoi(os.Getenv("KRAFT_TRIALS")); err == nil {
		n = s
	}
	return first, n
}

// TestAsApacheKafka plays generated sequences of transactional requests, right and wrong ones of all versions, to kraft and to Apache Kafka
// 4.4.0: both give the same answers. Before each step, both brokers have written the markers of all decided transactions.
func TestAsApacheKafka(t *testing.T) {
	kafka := harness.NewKafka(t, "transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=1")
	kraft := harness.NewKraft(t, "--override", "transaction.state.log.num.partitions=1", "--override", "offsets.topic.num.partitions=1")
	servers := []*server{connect(t, "Apache Kafka", kafka.Addr), connect(t, "kraft", kraft.Addr)}
	first, n := trials()
	faults := 0
	for seed := first; seed < first+n; seed++ {
		steps := generate(rand.New(rand.NewPCG(uint64(seed), 1)), 25)
		worlds := make([]*world, len(servers))
		for i, s := range servers {
			worlds[i] = s.begin(t, fmt.Sprint(seed))
		}
		var told []string
		for _, s := range steps {
			if worlds[0].differs(s) {
				continue
			}
			answers := make([]string, len(worlds))
			for i, w := range worlds {
				var err error
				if answers[i], err = w.settled(s); err != nil {
					answers[i] = "error: " + err.Error()
				}
			}
			told = append(told, fmt.Sprintf("%v\n      %s", s, answers[0]))
			if answers[0] != answers[1] {
				faults++
				t.Errorf("seed %d:\n    %s\n      kraft: %s", seed, strings.Join(told, "\n    "), answers[1])
				break
			}
		}
		if faults >= 5 {
			t.Fatal("and so on")
		}
	}
}

// differs reports whether kraft answers a step differently on purpose, by what Apache Kafka, w, says of the transaction:
//   - Apache Kafka aborts an open transaction for an InitProducerId with an old pair, and then refuses that. kraft only refuses it: a zombie
//     does not end its successor's transaction.
//   - Apache Kafka takes batches of a producer with a negative epoch. kraft refuses them.
//   - Apache Kafka goes by the first request of a producer to a partition when it decides whether the first sequence must be 0. kraft goes by
//     the first one of the epoch.
//   - In Apache Kafka a request with a later epoch, which the coordinator refuses, leaves a guard behind: the next batch of the open transaction
//     is OUT_OF_ORDER_SEQUENCE_NUMBER. kraft heeds guards only where a transaction begins.
//   - Apache Kafka keeps a group without members and offsets until the next sweep; kraft forgets it at once.
func (w *world) differs(s step) bool {
	switch s.kind {
	case "init":
		if s.pair == "nobody" || s.pair == "now" {
			return false
		}
		answer, err := w.settled(step{kind: "describe", id: s.id})
		return err != nil || strings.Contains(answer, "Ongoing")
	case "produce":
		at := fmt.Sprint(s.id, s.partition)
		old := w.old[at]
		w.old[at] = old || s.version < 12
		refused := w.old["ahead"+at]
		w.old["ahead"+at] = refused || s.pair == "ahead"
		return w.which(s.id, s.pair).epoch < 0 || old && s.version >= 12 && s.sequence == "gap" || refused
	case "commitOffset":
		used := w.old[s.group]
		w.old[s.group] = true
		return used && s.gen >= 0
	}
	return false
}

// settled plays a step, again while the answer asks for that.
func (w *world) settled(s step) (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.settle(ctx, ids); err != nil {
		return "", err
	}
	for range 200 {
		if answer, err = w.play(ctx, s); err != nil || !isTransient(answer) {
			return answer, err
		}
		time.Sleep(20 * time.Millisecond) // the back-off of a client
	}
	return answer, err
}
