package coordinator

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire"
	"kraft/wire/ident"
)

// Commit is one partition of an OffsetCommit.
type Commit struct {
	ident.TopicPartition
	Offset Offset
	// Err is set in the reply, and may be set before: such partitions are passed over.
	Err *kerr.Error
}

// CommitOffsets serves OffsetCommit; the reply is the []Commit with their errors set. Its records may
// share a batch with other callers'.
func (c *Coordinator) CommitOffsets(call runtime.Call, req *kmsg.OffsetCommitRequest, commits []Commit) runtime.Effects {
	if err := c.mayCommit(call.Now, req); err != nil {
		return reply(call.To, failAll(commits, err))
	}
	records := c.offsetRecords(req.Group, commits)
	if err := call.Check(records); err != nil {
		return reply(call.To, failAll(commits, kerr.TypedErrorForCode(wire.ErrorCode(err))))
	}
	e := reply(call.To, commits)
	e.Records = records
	return e
}

func failAll(commits []Commit, err *kerr.Error) []Commit {
	for i := range commits {
		if commits[i].Err == nil {
			commits[i].Err = err
		}
	}
	return commits
}

// mayCommit checks who commits (Kafka's ClassicGroup.validateOffsetCommit).
func (c *Coordinator) mayCommit(now time.Time, req *kmsg.OffsetCommitRequest) *kerr.Error {
	generation, memberID := req.Generation, req.MemberID
	if req.Version == 0 {
		generation, memberID = -1, "" // as it was stored in ZooKeeper, by anybody
	}
	g := c.groups[req.Group]
	switch {
	case g == nil && generation < 0:
		return nil // the commit makes the group
	case g == nil && req.Version >= 9:
		return kerr.GroupIDNotFound
	case g == nil:
		return kerr.IllegalGeneration
	case generation < 0 && g.state == Empty: // by an administrator, or a consumer that assigns partitions to itself, whatever it says it is
		return nil
	case generation < 0 && memberID == "" && req.InstanceID == nil:
		return kerr.UnknownMemberID // a consumer outside the group would disturb it
	}
	m, err := g.find(memberID, req.InstanceID)
	switch {
	case err != nil:
		return err
	case generation != g.generation:
		return kerr.IllegalGeneration
	case g.state == CompletingRebalance:
		// Its partitions may belong to another already.
		return kerr.RebalanceInProgress
	}
	c.touch(g, m, now)
	return nil
}

// Fetched is the reply to FetchOffsets. It is the caller's.
type Fetched struct {
	Offsets map[ident.TopicPartition]Offset
	// Unstable are partitions for which a transaction has an offset and has not ended, if the caller wants stable offsets (KIP-447).
	Unstable map[ident.TopicPartition]bool
}

// FetchOffsets serves one group of an OffsetFetch: the reply is a Fetched of what is committed of want, or of everything for nil.
func (c *Coordinator) FetchOffsets(to runtime.Token, groupID string, want []ident.TopicPartition, stable bool) runtime.Effects {
	out := Fetched{map[ident.TopicPartition]Offset{}, map[ident.TopicPartition]bool{}}
	g := c.groups[groupID]
	if g == nil {
		return reply(to, out)
	}
	find := func(tp ident.TopicPartition) {
		if o, ok := g.offsets[tp]; ok {
			out.Offsets[tp] = o
		}
		if stable && g.open > 0 && c.open.unstable[groupPartition{groupID, tp}] > 0 {
			out.Unstable[tp] = true
		}
	}
	for tp := range g.offsets {
		if want == nil {
			find(tp)
		}
	}
	for _, tp := range want {
		find(tp)
	}
	return reply(to, out)
}

// DeleteOffsets serves OffsetDelete; the reply is a *kmsg.OffsetDeleteResponse.
func (c *Coordinator) DeleteOffsets(call runtime.Call, req *kmsg.OffsetDeleteRequest) runtime.Effects {
	r := kmsg.NewPtrOffsetDeleteResponse()
	if req.Group == "" {
		r.ErrorCode = kerr.InvalidGroupID.Code
		return reply(call.To, r)
	}
	g := c.groups[req.Group]
	if g == nil {
		r.ErrorCode = kerr.GroupIDNotFound.Code
		return reply(call.To, r)
	}
	subscribed := map[string]bool{}
	if g.state != Empty {
		var ok bool
		if subscribed, ok = g.subscribed(); !ok {
			r.ErrorCode = kerr.NonEmptyGroup.Code
			return reply(call.To, r)
		}
	}
	var doomed []ident.TopicPartition
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.NewOffsetDeleteResponseTopic()
		out.Topic = t.Topic
		for j := range t.Partitions {
			p := kmsg.NewOffsetDeleteResponseTopicPartition()
			p.Partition = t.Partitions[j].Partition
			tp := ident.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			if subscribed[t.Topic] {
				p.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else if _, ok := g.offsets[tp]; ok || c.open.unstable[groupPartition{g.id, tp}] > 0 {
				doomed = append(doomed, tp)
			}
			out.Partitions = append(out.Partitions, p)
		}
		r.Topics = append(r.Topics, out)
	}
	records := tombstones(g, doomed, false)
	if err := call.Check(records); err != nil {
		r.ErrorCode, r.Topics, records = wire.ErrorCode(err), nil, nil
	}
	e := reply(call.To, r)
	e.Records = records
	return e
}

// tombstones are the records that delete offsets and, if whole, the group itself.
func tombstones(g *group, tps []ident.TopicPartition, whole bool) (records []runtime.Record) {
	for _, tp := range tps {
		records = append(records, offsetRecord(g.id, tp, nil))
	}
	if whole && g.known {
		records = append(records, runtime.Record{Key: groupKey(g.id)})
	}
	return records
}

// orphan is an offset of a deleted topic.
type orphan struct {
	group string
	ident.TopicPartition
	at int64 // offset of its record: a newer one is of a topic that was created again
}

// ForgetTopics removes the offsets of topics that were deleted. There is no reply. If they can't be removed now, the next sweep tries again.
func (c *Coordinator) ForgetTopics(call runtime.Call, topics []string) runtime.Effects {
	for _, g := range c.groups {
		for tp, o := range g.offsets {
			if slices.Contains(topics, tp.Topic) {
				c.orphans = append(c.orphans, orphan{g.id, tp, o.at})
			}
		}
		for _, tp := range c.openOf(g, func(tp ident.TopicPartition) bool { return slices.Contains(topics, tp.Topic) }) {
			c.orphans = append(c.orphans, orphan{g.id, tp, -1})
		}
	}
	e := runtime.Effects{Records: c.orphaned()}
	if err := call.Check(e.Records); err != nil {
		return runtime.Effects{}
	}
	c.orphans = nil
	return e
}

// orphaned are the tombstones of orphans.
func (c *Coordinator) orphaned() (records []runtime.Record) {
	for _, o := range c.orphans {
		if g := c.groups[o.group]; g != nil {
			now, ok := g.offsets[o.TopicPartition]
			if ok && now.at == o.at || !ok && o.at < 0 && c.open.unstable[groupPartition{g.id, o.TopicPartition}] > 0 {
				records = append(records, offsetRecord(g.id, o.TopicPartition, nil))
			}
		}
	}
	return records
}

// sweepRecords bounds the tombstones of one sweep; the next comes at once while there are more.
const sweepRecords = 5000

// sweep expires offsets (KIP-211) and forgets groups that are empty and have none left.
func (c *Coordinator) sweep(call runtime.Call) runtime.Effects {
	e := runtime.Effects{Records: c.orphaned()}
	again := c.sweepAt
	for _, g := range c.groups {
		doomed := g.expired(call.Now.UnixMilli(), c.config.OffsetsRetention.Milliseconds())
		if g.open > 0 { // a transaction may be about to commit another
			doomed = slices.DeleteFunc(doomed, func(tp ident.TopicPartition) bool { return c.open.unstable[groupPartition{g.id, tp}] > 0 })
		}
		whole := g.state == Empty && len(doomed) == len(g.offsets) && len(g.pending) == 0 && g.open == 0
		e.Records = append(e.Records, tombstones(g, doomed, whole)...)
		if whole {
			c.forgetIfVoid(g)
		}
		if len(e.Records) >= sweepRecords {
			again = call.Now
			break
		}
	}
	if err := call.Check(e.Records); err != nil {
		return runtime.Effects{}
	}
	c.sweepAt, c.orphans = again, nil
	return e
}

// expired lists the offsets that are over: those of a group without members count from when the last one
// left, those of a topic that a group of consumers no longer reads, or of a consumer outside any group,
// from their commit.
func (g *group) expired(now, retention int64) []ident.TopicPartition {
	var subscribed map[string]bool
	since := int64(-1)
	switch {
	case g.protocolType != "" && g.state == Empty:
		since = g.since
	case g.protocolType == "consumer" && g.state == Stable:
		var ok bool
		if subscribed, ok = g.subscribed(); !ok {
			return nil
		}
	case g.protocolType == "":
	default:
		return nil
	}
	var out []ident.TopicPartition
	for tp, o := range g.offsets {
		if subscribed[tp.Topic] {
			continue
		}
		over := now-max(since, o.Committed) >= retention
		if o.Expires >= 0 {
			over = now >= o.Expires
		}
		if over {
			out = append(out, tp)
		}
	}
	return out
}
