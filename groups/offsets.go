package groups

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/coordinator"
	"kraft/groups/runtime"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

// Versions of OffsetCommit and OffsetFetch from which topics are named by id (KIP-848).
const (
	commitByID = 10
	fetchByID  = 10
)

func (m *Manager) offsetCommit(ctx *wire.Request, req *kmsg.OffsetCommitRequest) (*kmsg.OffsetCommitResponse, error) {
	timeout := m.meta.Settings().OffsetsCommitTimeout
	c, cancel := context.WithTimeout(ctx.Context(), timeout)
	defer cancel()
	commits := m.commits(ctx, req)
	err := ctx.May(acl.Read, acl.Group, req.Group)
	if err == nil {
		err = m.ensureForOld(ctx)
	}
	if err == nil && req.Group == "" && ctx.Version > 0 && len(req.Topics) == 0 {
		err = kerr.InvalidGroupID
	} else if err == nil && anyLeft(commits) {
		var done []coordinator.Commit
		ctx.Wait(func() {
			done, err = ask[[]coordinator.Commit](c, m, req.Group, true, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
				return c.CommitOffsets(call, req, commits)
			})
		})
		if err == nil {
			commits = done
		}
	}
	resp := kmsg.NewPtrOffsetCommitResponse()
	i := 0
	for _, t := range req.Topics {
		out := kmsg.NewOffsetCommitResponseTopic()
		out.Topic, out.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			r := kmsg.NewOffsetCommitResponseTopicPartition()
			r.Partition = p.Partition
			switch {
			case err != nil:
				r.ErrorCode = wire.ErrorCode(err)
			case commits[i].Err != nil:
				r.ErrorCode = commits[i].Err.Code
			}
			i++
			out.Partitions = append(out.Partitions, r)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// ensureForOld creates the offsets topic for clients of version 0, which never look for a coordinator:
// their offsets were in ZooKeeper.
func (m *Manager) ensureForOld(ctx *wire.Request) error {
	if ctx.Version > 0 {
		return nil
	}
	_, err := m.topic.ensure(ctx.Context())
	return err
}

func has(topic *image.Topic, n int32) bool {
	_, ok := topic.Partition(n)
	return ok
}

// findTopic finds a topic, which the client has to be allowed to read, by its id or by its name. Without one it returns nil, and the error for its
// partitions.
func findTopic(ctx *wire.Request, img *image.Image, byID bool, name string, id image.UUID) (*image.Topic, *kerr.Error) {
	if byID {
		t, ok := img.TopicByID(id)
		if !ok {
			return nil, kerr.UnknownTopicID
		}
		name = t.Name
	}
	if ctx.May(acl.Read, acl.Topic, name) != nil {
		return nil, kerr.TopicAuthorizationFailed
	}
	t, _ := img.Topic(name)
	return t, kerr.UnknownTopicOrPartition
}

// named is a topic's partition; missing is the error if there is no topic.
func named(t *image.Topic, n int32, missing *kerr.Error) (tp ident.TopicPartition, err *kerr.Error) {
	switch {
	case t == nil:
		return tp, missing
	case !has(t, n):
		return tp, kerr.UnknownTopicOrPartition
	}
	return ident.TopicPartition{Topic: t.Name, Partition: n}, nil
}

// anyLeft reports whether any of commits has no error.
func anyLeft(commits []coordinator.Commit) bool {
	return slices.ContainsFunc(commits, func(c coordinator.Commit) bool { return c.Err == nil })
}

// commits resolves what a request commits. Partitions that do not exist carry their error.
func (m *Manager) commits(ctx *wire.Request, req *kmsg.OffsetCommitRequest) []coordinator.Commit {
	img := m.meta.Image()
	var out []coordinator.Commit
	now := ctx.Received.UnixMilli()
	for _, t := range req.Topics {
		topic, missing := findTopic(ctx, img, ctx.Version >= commitByID, t.Topic, t.TopicID)
		for _, p := range t.Partitions {
			o := coordinator.Offset{Offset: p.Offset, LeaderEpoch: -1, Committed: now, Expires: -1}
			if p.Metadata != nil {
				o.Metadata = *p.Metadata
			}
			if ctx.Version >= 6 {
				o.LeaderEpoch = p.LeaderEpoch
			}
			if ctx.Version == 1 && p.Timestamp >= 0 {
				o.Committed = p.Timestamp
			}
			if ctx.Version >= 2 && ctx.Version <= 4 && req.RetentionTimeMillis >= 0 {
				o.Expires = now + req.RetentionTimeMillis
			}
			c := coordinator.Commit{Offset: o}
			c.TopicPartition, c.Err = named(topic, p.Partition, missing)
			out = append(out, c)
		}
	}
	return out
}

func (m *Manager) offsetFetch(ctx *wire.Request, req *kmsg.OffsetFetchRequest) (*kmsg.OffsetFetchResponse, error) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	if ctx.Version >= 8 {
		for i := range req.Groups {
			resp.Groups = append(resp.Groups, m.fetchGroup(ctx, &req.Groups[i], req.RequireStable))
		}
		return resp, nil
	}
	// Versions 0 to 7 ask for one group: the same by other names.
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics != nil {
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = t.Topic, t.Partitions
		g.Topics = append(g.Topics, gt)
	}
	found := m.fetchGroup(ctx, &g, req.RequireStable)
	resp.ErrorCode = found.ErrorCode
	for _, t := range found.Topics {
		out := kmsg.NewOffsetFetchResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			r := kmsg.NewOffsetFetchResponseTopicPartition()
			r.Partition, r.Offset, r.LeaderEpoch, r.Metadata, r.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			if ctx.Version == 0 && r.Offset < 0 && r.ErrorCode == 0 {
				r.ErrorCode = kerr.UnknownTopicOrPartition.Code
			}
			out.Partitions = append(out.Partitions, r)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// fetchGroup answers one group; an error of the whole group stands in its partitions too, where versions
// before 2 look for it.
func (m *Manager) fetchGroup(ctx *wire.Request, req *kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = req.Group
	byID := ctx.Version >= fetchByID
	img := m.meta.Image()
	var want []ident.TopicPartition
	if req.Topics != nil {
		want = []ident.TopicPartition{}
	}
	names := map[image.UUID]string{}
	denied := map[string]bool{}
	if err := ctx.May(acl.Describe, acl.Group, req.Group); err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		if ctx.Version < 2 { // the partitions have it
			for _, t := range req.Topics {
				resp.Topics = append(resp.Topics, failedTopic(&t, err))
			}
		}
		return resp
	}
	if err := m.ensureForOld(ctx); err != nil {
		m.log.Error().Err(err).Msg("cannot create " + offsetsTopic)
	}
	for _, t := range req.Topics {
		name := t.Topic
		if byID {
			topic, ok := img.TopicByID(t.TopicID)
			if !ok {
				continue
			}
			name = topic.Name
			names[t.TopicID] = name
		}
		if ctx.May(acl.Describe, acl.Topic, name) != nil {
			denied[name] = true
			continue
		}
		for _, p := range t.Partitions {
			want = append(want, ident.TopicPartition{Topic: name, Partition: p})
		}
	}
	found, err := ask[coordinator.Fetched](ctx.Context(), m, req.Group, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
		return c.FetchOffsets(call.To, req.Group, want, stable)
	})
	resp.ErrorCode = wire.ErrorCode(err)
	if err != nil && ctx.Version >= 8 {
		return resp
	}
	if req.Topics == nil {
		resp.Topics = slices.DeleteFunc(allOffsets(img, found, byID), func(t kmsg.OffsetFetchResponseGroupTopic) bool {
			return !ctx.Could(acl.Describe, acl.Topic, t.Topic)
		})
		return resp
	}
	for _, t := range req.Topics {
		out := kmsg.NewOffsetFetchResponseGroupTopic()
		out.Topic, out.TopicID = t.Topic, t.TopicID
		name := t.Topic
		if byID {
			name = names[t.TopicID]
		}
		for _, n := range t.Partitions {
			p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = n, -1, -1, new(string)
			tp := ident.TopicPartition{Topic: name, Partition: n}
			switch o, ok := found.Offsets[tp]; {
			case err != nil:
				p.ErrorCode = wire.ErrorCode(err)
			case name == "" && byID:
				p.ErrorCode = kerr.UnknownTopicID.Code
			case denied[name]:
				p.ErrorCode = kerr.TopicAuthorizationFailed.Code
			case found.Unstable[tp]:
				p.ErrorCode = kerr.UnstableOffsetCommit.Code
			case ok:
				p.Offset, p.LeaderEpoch, p.Metadata = o.Offset, o.LeaderEpoch, &o.Metadata
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// failedTopic answers all partitions of a topic with an error.
func failedTopic(t *kmsg.OffsetFetchRequestGroupTopic, err error) kmsg.OffsetFetchResponseGroupTopic {
	out := kmsg.NewOffsetFetchResponseGroupTopic()
	out.Topic, out.TopicID = t.Topic, t.TopicID
	for _, n := range t.Partitions {
		p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = n, -1, -1, new(string), wire.ErrorCode(err)
		out.Partitions = append(out.Partitions, p)
	}
	return out
}

// allOffsets groups everything that a group has committed by topic.
func allOffsets(img *image.Image, found coordinator.Fetched, byID bool) []kmsg.OffsetFetchResponseGroupTopic {
	at := map[string]int{}
	var out []kmsg.OffsetFetchResponseGroupTopic
	for tp, o := range found.Offsets {
		i, ok := at[tp.Topic]
		if !ok {
			t := kmsg.NewOffsetFetchResponseGroupTopic()
			t.Topic = tp.Topic
			if topic, ok := img.Topic(tp.Topic); ok {
				t.TopicID = topic.ID
			} else if byID {
				continue // deleted: there is no id to tell
			}
			i = len(out)
			at[tp.Topic] = i
			out = append(out, t)
		}
		p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = tp.Partition, o.Offset, o.LeaderEpoch, &o.Metadata
		if found.Unstable[tp] {
			p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = -1, -1, new(string), kerr.UnstableOffsetCommit.Code
		}
		out[i].Partitions = append(out[i].Partitions, p)
	}
	return out
}

func (m *Manager) offsetDelete(ctx *wire.Request, req *kmsg.OffsetDeleteRequest) (*kmsg.OffsetDeleteResponse, error) {
	if err := ctx.May(acl.Delete, acl.Group, req.Group); err != nil {
		return &kmsg.OffsetDeleteResponse{ErrorCode: wire.ErrorCode(err)}, nil
	}
	var denied []kmsg.OffsetDeleteRequestTopic
	req.Topics = slices.DeleteFunc(req.Topics, func(t kmsg.OffsetDeleteRequestTopic) bool {
		if ctx.May(acl.Read, acl.Topic, t.Topic) == nil {
			return false
		}
		denied = append(denied, t)
		return true
	})
	resp, err := ask[*kmsg.OffsetDeleteResponse](ctx.Context(), m, req.Group, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
		return c.DeleteOffsets(call, req)
	})
	if err != nil {
		resp = kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = wire.ErrorCode(err)
	}
	img := m.meta.Image()
	for i := range resp.Topics {
		t := &resp.Topics[i]
		topic, _ := img.Topic(t.Topic)
		for j := range t.Partitions {
			if p := &t.Partitions[j]; !has(topic, p.Partition) {
				p.ErrorCode = kerr.UnknownTopicOrPartition.Code
			}
		}
	}
	if resp.ErrorCode == 0 {
		for _, t := range denied {
			out := kmsg.NewOffsetDeleteResponseTopic()
			out.Topic = t.Topic
			for _, p := range t.Partitions {
				out.Partitions = append(out.Partitions, kmsg.OffsetDeleteResponseTopicPartition{Partition: p.Partition, ErrorCode: kerr.TopicAuthorizationFailed.Code})
			}
			resp.Topics = append(resp.Topics, out)
		}
	}
	return resp, nil
}

// errNoShareGroups is the error for share coordinators. Clients ask again after most errors; this one ends them at once.
var errNoShareGroups = fmt.Errorf("this version of kraft has no share groups: %w", kerr.InvalidRequest)
