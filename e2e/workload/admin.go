package workload

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// adminOp is what an administrator asked for: to create a topic, delete it, set a value in its configuration, or say
// what there is.
type adminOp struct {
	do    string // create, delete, set, read
	topic string
	value string // to set
}

// adminAnswer is what it was told.
type adminAnswer struct {
	unknown bool // nothing: it may have been done, and may yet be
	refused bool // the topic was there already, or was not
	exists  bool // of read
	value   string
}

// topicState is a topic in the model.
type topicState struct {
	exists bool
	value  string
}

const (
	// AdminKey is the setting that administrators change.
	AdminKey    = "retention.ms"
	adminTopics = 2
)

func adminTopic(n int) string { return fmt.Sprintf("a%d", n) }

// adminModel is what the metadata of one topic is to the outside: each operation takes effect at one moment between its
// request and its answer.
var adminModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		at := map[string]int{}
		for _, op := range history {
			topic := op.Input.(adminOp).topic
			i, ok := at[topic]
			if !ok {
				i = len(parts)
				at[topic] = i
				parts = append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return topicState{} },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(topicState), input.(adminOp), output.(adminAnswer))
	},
}

func step(s topicState, op adminOp, a adminAnswer) (legal bool, next topicState) {
	switch op.do {
	case "create":
		if s.exists {
			return a.refused || a.unknown, s
		}
		// A broker asks again when it has no answer from the controller: a refusal may be of what it did itself.
		return true, topicState{exists: true}
	case "delete":
		if !s.exists {
			return a.refused || a.unknown, s
		}
		return true, topicState{}
	case "set":
		if !s.exists {
			return a.refused || a.unknown, s
		}
		return !a.refused, topicState{true, op.value}
	}
	return a.exists == s.exists && a.value == s.value, s
}

// Administrate creates, deletes and configures topics until the workload stops. Requests are sent once.
func (w *Workload) Administrate(i int, rng *rand.Rand) error {
	cl, err := w.Client(i, kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	for n := 0; w.Context.Err() == nil; n++ {
		op := adminOp{do: []string{"create", "delete", "set", "set"}[rng.IntN(4)], topic: adminTopic(rng.IntN(adminTopics)), value: fmt.Sprint(1_000_000 + i*100_000 + n)}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		begun := time.Now()
		a := ask(ctx, admin, op)
		cancel()
		w.History.asked(i, op, begun, a)
		w.pause(300*time.Millisecond, rng)
	}
	return nil
}

func ask(ctx context.Context, admin *kadm.Client, op adminOp) (a adminAnswer) {
	var err error
	switch op.do {
	case "create":
		_, err = admin.CreateTopic(ctx, 1, 1, nil, op.topic)
	case "delete":
		_, err = admin.DeleteTopic(ctx, op.topic)
	case "set":
		var answers kadm.AlterConfigsResponses
		if answers, err = admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: AdminKey, Value: &op.value}}, op.topic); err == nil && len(answers) == 1 {
			err = answers[0].Err
		}
	}
	a.refused = errors.Is(err, kerr.TopicAlreadyExists) || errors.Is(err, kerr.UnknownTopicOrPartition)
	a.unknown = err != nil && !a.refused
	return a
}

// asked notes an operation and its answer.
func (h *History) asked(client int, op adminOp, begun time.Time, a adminAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := porcupine.Operation{ClientId: client, Input: op, Call: begun.Sub(h.begun).Nanoseconds(), Output: a, Return: time.Since(h.begun).Nanoseconds()}
	if a.unknown {
		o.Return = math.MaxInt64
	}
	h.asks = append(h.asks, o)
	h.tell(fmt.Sprintf("administrator %d: %s %s %s: %+v", client, op.do, op.topic, op.value, a))
}

// AdminTopics are the names of those that administrators create and delete.
func AdminTopics() (names []string) {
	for n := range adminTopics {
		names = append(names, adminTopic(n))
	}
	return names
}

// Found notes what a broker says of an administrators' topic: whether there is one, and its retention.ms.
func (h *History) Found(broker int32, topic string, exists bool, value string, begun time.Time) {
	h.asked(int(broker), adminOp{do: "read", topic: topic}, begun, adminAnswer{exists: exists, value: value})
}

// undecided is how long a search for an order may take, in real time: answers that never came make it long.
const undecided = 2 * time.Second

// CheckOrder looks for an order of what administrators asked for that explains their answers. It is for outside of the
// simulation's bubble, after it.
func (h *History) CheckOrder() {
	switch porcupine.CheckOperationsTimeout(adminModel, h.asks, undecided) {
	case porcupine.Illegal:
		h.Wrong("not linearizable", "no order of what administrators asked for explains their answers")
	case porcupine.Unknown:
		h.Note("administrators", "whether an order explains their answers was not found out")
	}
}
