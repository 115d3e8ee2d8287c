package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Operate does what operators do to a cluster under load until the workload stops: it drains one broker, spreads the
// replicas over all brokers again, slowly or at full speed, takes moves back, and elects preferred leaders. Requests name
// all partitions at once, as `kraft broker drain` and `kraft cluster rebalance` do. Brokers are numbered from 1 to brokers.
func (w *Workload) Operate(i int, brokers int32, rng *rand.Rand) error {
	cl, err := w.Client(i)
	if err != nil {
		return err
	}
	defer cl.Close()
	o := &operator{work: w, admin: kadm.NewClient(cl), who: fmt.Sprintf("operator %d", i), brokers: brokers, rng: rng}
	for w.Context.Err() == nil {
		switch rng.IntN(6) {
		case 0, 1:
			o.move(rng.Int32N(brokers) + 1)
		case 2, 3:
			o.move(0)
		case 4:
			o.slowly(func() { o.move(rng.Int32N(brokers) + 1) })
		case 5:
			o.do("elects the preferred leaders", func(ctx context.Context) error {
				_, err := o.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, o.all())
				return err
			})
		}
		w.pause(200*time.Millisecond, rng)
	}
	return nil
}

type operator struct {
	work    *Workload
	admin   *kadm.Client
	who     string
	brokers int32
	rng     *rand.Rand
}

// operatorPatience bounds one request, and the wait for moves to end before the next step.
const operatorPatience = 5 * time.Second

func (o *operator) do(what string, f func(context.Context) error) (done bool) {
	ctx, cancel := context.WithTimeout(context.Background(), operatorPatience)
	defer cancel()
	o.work.History.Note(o.who, what)
	err := f(ctx)
	if err != nil {
		o.work.History.Note(o.who, fmt.Sprintf("%s: %v", what, err))
	}
	return err == nil
}

// move gives every partition other replicas at random, none of them on the broker without (0 for no such broker), and waits
// until the moves end, or not, or takes some of them back.
func (o *operator) move(without int32) {
	var req, back kadm.AlterPartitionAssignmentsReq
	for _, p := range o.work.Parts {
		var to []int32
		for _, n := range o.rng.Perm(int(o.brokers)) {
			if id := int32(n) + 1; id != without && len(to) < 3 {
				to = append(to, id)
			}
		}
		req.Assign(p.Topic, p.N, to)
		if o.rng.IntN(2) == 0 {
			back.CancelAssign(p.Topic, p.N)
		}
	}
	o.do(fmt.Sprintf("moves all partitions, without broker %d", without), func(ctx context.Context) error {
		_, err := o.admin.AlterPartitionAssignments(ctx, req)
		return err
	})
	if o.rng.IntN(4) == 0 && len(back) > 0 {
		o.work.pause(100*time.Millisecond, o.rng)
		o.do("takes moves back", func(ctx context.Context) error {
			_, err := o.admin.AlterPartitionAssignments(ctx, back)
			return err
		})
	}
	if o.rng.IntN(4) > 0 {
		return // the next plan finds these moves under way
	}
	o.do("waits for the moves", func(ctx context.Context) error {
		for ctx.Err() == nil && o.work.Context.Err() == nil {
			list, err := o.admin.ListPartitionReassignments(ctx, o.all())
			if err == nil && len(list.Sorted()) == 0 {
				return nil
			}
			o.work.pause(100*time.Millisecond, o.rng)
		}
		return nil
	})
}

// all names all partitions: of none kadm asks for none.
func (o *operator) all() kadm.TopicsSet {
	set := kadm.TopicsSet{}
	for _, p := range o.work.Parts {
		set.Add(p.Topic, p.N)
	}
	return set
}

// slowly does f with replication throttled for all partitions.
func (o *operator) slowly(f func()) {
	all, rate := "*", fmt.Sprint(1000+o.rng.IntN(20_000))
	o.throttle(kadm.SetConfig, &all, &rate)
	f()
	o.lift()
}

// throttle changes the throttles of all partitions.
func (o *operator) throttle(op kadm.IncrementalOp, replicas, rate *string) (done bool) {
	return o.do("sets throttles", func(ctx context.Context) error {
		var topics, brokers []kadm.AlterConfig
		for _, side := range []string{"leader", "follower"} {
			topics = append(topics, kadm.AlterConfig{Op: op, Name: side + ".replication.throttled.replicas", Value: replicas})
			brokers = append(brokers, kadm.AlterConfig{Op: op, Name: side + ".replication.throttled.rate", Value: rate})
		}
		answers, err := o.admin.AlterTopicConfigs(ctx, topics, o.work.topics()...)
		if err != nil {
			return err
		}
		more, err := o.admin.AlterBrokerConfigs(ctx, brokers)
		for _, a := range append(answers, more...) {
			err = errors.Join(err, a.Err)
		}
		return err
	})
}

func (o *operator) lift() {
	for removed, tries := false, 0; !removed && tries < 20; tries++ {
		removed = o.throttle(kadm.DeleteConfig, nil, nil)
	}
}

// LateRequests is for how long a broker passes a request on to a controller that it does not reach (request.timeout.ms). It may do so
// after the client has given up, or has had its answer from another broker, and has gone on.
const LateRequests = 30 * time.Second

// LiftThrottles ends throttles that were set by requests that came late.
func (w *Workload) LiftThrottles(admin *kadm.Client) {
	o := &operator{work: w, admin: admin, who: "operator"}
	o.lift()
}
