package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fencer plays the members of a group by hand, and commits as members do that the group has left behind.
type fencer struct {
	work   *Workload
	client *kgo.Client
	other  *kgo.Client
	who    string
	group  string
	topic  kmsg.MetadataResponseTopic
}

// Fence has groups of its own rebalance until the workload stops. A commit of an earlier generation, of nobody's member id, or in the
// middle of a rebalance must not succeed.
func (w *Workload) Fence(i int, rng *rand.Rand) error {
	cl, err := w.Client(i, kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	other, err := w.Client(i, kgo.RequestRetries(0)) // answers come in the order of the requests: who waits to join needs a connection
	if err != nil {
		return err
	}
	defer other.Close()
	for n := 0; w.Context.Err() == nil; n++ {
		f := &fencer{work: w, client: cl, other: other, who: fmt.Sprintf("fencer %d", i), group: fmt.Sprintf("fenced%d-%d", i, n)}
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		err := f.round(ctx)
		cancel()
		w.History.Note(f.who, fmt.Sprintf("round %d: %v", n, err))
		w.pause(500*time.Millisecond, rng)
	}
	return nil
}

// membership is a member in a generation.
type membership struct {
	id, leader string
	generation int32
}

// round has one member join, and another one behind it. It ends with the first request that fails: coordinators come and go.
func (f *fencer) round(ctx context.Context) error {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(f.work.Parts[0].Topic)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return err
	}
	f.topic = resp.Topics[0]
	a, err := f.join(ctx, f.client, "")
	if err != nil {
		return err
	}
	if err := f.sync(ctx, a, true); err != nil {
		return err
	}
	if err := f.commit(ctx, a); err != nil {
		return err
	}
	// Another member: the first has to join again.
	type joined struct {
		m   membership
		err error
	}
	second := make(chan joined, 1)
	go func() {
		m, err := f.join(ctx, f.other, "")
		second <- joined{m, err}
	}()
	f.untilRebalance(ctx, a)
	next, err := f.join(ctx, f.client, a.id)
	other := <-second
	if err != nil || other.err != nil || next.generation <= a.generation || other.m.generation != next.generation {
		return fmt.Errorf("two members: %+v %w, %+v %w", next, err, other.m, other.err)
	}
	f.refused(ctx, next, "before the leader has shared out the partitions")
	leader, follower := next, other.m
	if leader.leader != leader.id {
		leader, follower = follower, leader
	}
	if err := f.sync(ctx, leader, true); err != nil {
		return err
	}
	if err := f.sync(ctx, follower, false); err != nil {
		return err
	}
	// The new generation is on disk now: no coordinator has another.
	f.refused(ctx, a, fmt.Sprintf("of generation %d, after %d", a.generation, next.generation))
	f.refused(ctx, membership{id: "nobody", generation: next.generation}, "of nobody")
	return f.commit(ctx, next)
}

// What every member of a fencer's groups has to say of itself.
const protocolType, protocol = "consumer", "range"

// join joins as id, "" for a new member.
func (f *fencer) join(ctx context.Context, client *kgo.Client, id string) (m membership, err error) {
	for {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.ProtocolType = f.group, id, protocolType
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 60_000, 60_000
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name = protocol
		req.Protocols = append(req.Protocols, p)
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return m, err
		}
		if resp.ErrorCode == kerr.MemberIDRequired.Code && id == "" {
			id = resp.MemberID
			continue
		}
		return membership{resp.MemberID, resp.LeaderID, resp.Generation}, kerr.ErrorForCode(resp.ErrorCode)
	}
}

// untilRebalance sends heartbeats as a member until one of them is refused: the coordinator wants the member to join again, or has failed.
func (f *fencer) untilRebalance(ctx context.Context, m membership) {
	for ctx.Err() == nil {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation = f.group, m.id, m.generation
		resp, err := req.RequestWith(ctx, f.client)
		if err != nil || resp.ErrorCode != 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (f *fencer) sync(ctx context.Context, m membership, leads bool) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = f.group, m.id, m.generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr(protocolType), kmsg.StringPtr(protocol)
	if leads {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = m.id, []byte("all")
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// commit commits an offset as a member.
func (f *fencer) commit(ctx context.Context, m membership) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = f.group, m.id, m.generation
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.TopicID = *f.topic.Topic, f.topic.TopicID // by name or id, as the version has it
	t.Partitions = append(t.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// refused commits as a member, which must fail.
func (f *fencer) refused(ctx context.Context, m membership, why string) {
	if err := f.commit(ctx, m); err == nil {
		f.work.History.Wrong("a commit that is to be refused", "%s: %s takes one %s", f.who, f.group, why)
	}
}
