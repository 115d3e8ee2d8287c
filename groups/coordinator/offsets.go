package coordinator

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
)

// Commit is one partition of an OffsetCommit.
type Commit struct {
	TopicPartition
	Offset Offset
	// Err is set in the reply, and may be set before: such partitions are passed over.
	Err *kerr.Error
}

// CommitOffsets serves OffsetCommit; the reply is the []Commit with their errors set. Its records may
// share a batch with other callers'.
func (c *Coordinator) CommitOffsets(now time.Time, to runtime.Token, req *kmsg.OffsetCommitRequest, commits []Commit) runtime.Effects {
	g, err := c.committer(now, req)
	if err != nil {
		return reply(to, failAll(commits, err))
	}
	if g == nil {
		g = newGroup(req.Group)
	}
	var records []runtime.Record
	for i := range commits {
		cm := &commits[i]
		if cm.Err == nil && len(cm.Offset.Metadata) > c.config.MaxMetadata {
			cm.Err = kerr.OffsetMetadataTooLarge
		}
		if cm.Err == nil {
			records = append(records, offsetRecord(g.id, cm.TopicPartition, &cm.Offset))
		}
	}
	if len(records) == 0 {
		return reply(to, commits)
	}
	return runtime.Effects{
		Records: records,
		Apply: func() {
			g := c.group(req.Group) // it may have come or gone since
			for i := range commits {
				if commits[i].Err == nil {
					g.offsets[commits[i].TopicPartition] = commits[i].Offset
				}
			}
		},
		Done: func(_ time.Time, err error) runtime.Effects {
			if err != nil {
				return reply(to, failAll(commits, kerr.TypedErrorForCode(commitError(err))))
			}
			return reply(to, commits)
		},
	}
}

func failAll(commits []Commit, err *kerr.Error) []Commit {
	for i := range commits {
		if commits[i].Err == nil {
			commits[i].Err = err
		}
	}
	return commits
}

// committer checks who commits (Kafka's ClassicGroup.validateOffsetCommit). A nil group is a new one.
func (c *Coordinator) committer(now time.Time, req *kmsg.OffsetCommitRequest) (*group, *kerr.Error) {
	generation, memberID := req.Generation, req.MemberID
	if req.Version == 0 {
		generation, memberID = -1, "" // as it was stored in ZooKeeper, by anybody
	}
	g := c.groups[req.Group]
	switch {
	case g == nil && generation < 0:
		return nil, nil
	case g == nil && req.Version >= 9:
		return nil, kerr.GroupIDNotFound
	case g == nil:
		return nil, kerr.IllegalGeneration
	case generation < 0 && g.state == Empty: // by an administrator, or a consumer that assigns partitions to itself, whatever it says it is
		return g, nil
	case generation < 0 && memberID == "" && req.InstanceID == nil:
		return nil, kerr.UnknownMemberID // a consumer outside the group would disturb it
	}
	m, err := g.find(memberID, req.InstanceID)
	switch {
	case err != nil:
		return nil, err
	case generation != g.generation:
		return nil, kerr.IllegalGeneration
	case g.state == CompletingRebalance:
		// Its partitions may belong to another already.
		return nil, kerr.RebalanceInProgress
	}
	c.touch(g, m, now)
	return g, nil
}

// FetchOffsets serves one group of an OffsetFetch: the reply is a map of what is committed of want, or of
// everything for nil. The map is the caller's.
func (c *Coordinator) FetchOffsets(to runtime.Token, groupID string, want []TopicPartition) runtime.Effects {
	out := map[TopicPartition]Offset{}
	if g := c.groups[groupID]; g != nil {
		if want == nil {
			for tp, o := range g.offsets {
				out[tp] = o
			}
		}
		for _, tp := range want {
			if o, ok := g.offsets[tp]; ok {
				out[tp] = o
			}
		}
	}
	return reply(to, out)
}

// DeleteOffsets serves OffsetDelete; the reply is a *kmsg.OffsetDeleteResponse.
func (c *Coordinator) DeleteOffsets(to runtime.Token, req *kmsg.OffsetDeleteRequest) runtime.Effects {
	r := kmsg.NewPtrOffsetDeleteResponse()
	if req.Group == "" {
		r.ErrorCode = kerr.InvalidGroupID.Code
		return reply(to, r)
	}
	g := c.groups[req.Group]
	if g == nil {
		r.ErrorCode = kerr.GroupIDNotFound.Code
		return reply(to, r)
	}
	subscribed := map[string]bool{}
	if g.state != Empty {
		var ok bool
		if subscribed, ok = g.subscribed(); !ok {
			r.ErrorCode = kerr.NonEmptyGroup.Code
			return reply(to, r)
		}
	}
	var doomed []TopicPartition
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.NewOffsetDeleteResponseTopic()
		out.Topic = t.Topic
		for j := range t.Partitions {
			p := kmsg.NewOffsetDeleteResponseTopicPartition()
			p.Partition = t.Partitions[j].Partition
			tp := TopicPartition{t.Topic, p.Partition}
			if subscribed[t.Topic] {
				p.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else if _, ok := g.offsets[tp]; ok {
				doomed = append(doomed, tp)
			}
			out.Partitions = append(out.Partitions, p)
		}
		r.Topics = append(r.Topics, out)
	}
	e := c.deleteOffsets(g, doomed, false)
	e.Replies = reply(to, r).Replies
	if len(doomed) > 0 {
		e.Done = func(_ time.Time, err error) runtime.Effects {
			if err != nil {
				r.ErrorCode, r.Topics = commitError(err), nil
				return reply(to, r)
			}
			return runtime.Effects{}
		}
	}
	return e
}

// deleteOffsets writes tombstones for offsets, and for the group itself if whole.
func (c *Coordinator) deleteOffsets(g *group, tps []TopicPartition, whole bool) runtime.Effects {
	var records []runtime.Record
	for _, tp := range tps {
		records = append(records, offsetRecord(g.id, tp, nil))
	}
	if whole && g.known {
		records = append(records, runtime.Record{Key: groupKey(g.id)})
	}
	if len(records) == 0 {
		if whole {
			delete(c.groups, g.id)
		}
		return runtime.Effects{}
	}
	return runtime.Effects{Records: records, Apply: func() {
		for _, tp := range tps {
			delete(g.offsets, tp)
		}
		if whole {
			g.state = Dead
			delete(c.groups, g.id)
			return
		}
		c.forgetIfVoid(g)
	}}
}

// ForgetTopic removes the offsets of a topic that was deleted. There is no reply.
func (c *Coordinator) ForgetTopic(topic string) runtime.Effects {
	var all runtime.Effects
	for _, g := range c.groups {
		var doomed []TopicPartition
		for tp := range g.offsets {
			if tp.Topic == topic {
				doomed = append(doomed, tp)
			}
		}
		join(&all, c.deleteOffsets(g, doomed, false))
	}
	return all
}

// join puts the records of several effects that only delete into one.
func join(all *runtime.Effects, e runtime.Effects) {
	if len(e.Records) == 0 {
		return
	}
	all.Records = append(all.Records, e.Records...)
	first, second := all.Apply, e.Apply
	all.Apply = func() {
		if first != nil {
			first()
		}
		second()
	}
}

// sweepRecords bounds the tombstones of one sweep; the next comes at once while there are more.
const sweepRecords = 5000

// sweep expires offsets (KIP-211) and forgets groups that are empty and have none left.
func (c *Coordinator) sweep(now time.Time) runtime.Effects {
	var all runtime.Effects
	for _, g := range c.groups {
		doomed := g.expired(now.UnixMilli(), c.config.OffsetsRetention.Milliseconds())
		whole := g.state == Empty && len(doomed) == len(g.offsets) && len(g.pending) == 0
		if len(doomed) == 0 && !whole {
			continue
		}
		join(&all, c.deleteOffsets(g, doomed, whole))
		if len(all.Records) >= sweepRecords {
			c.sweepAt = now
			break
		}
	}
	return all
}

// expired lists the offsets that are over: those of a group without members count from when the last one
// left, those of a topic that a group of consumers no longer reads, or of a consumer outside any group,
// from their commit.
func (g *group) expired(now, retention int64) []TopicPartition {
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
	var out []TopicPartition
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
