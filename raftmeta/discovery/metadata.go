package discovery

import (
	"errors"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

// metadata answers Metadata. Topics that a client names and that may be created automatically are there
// when the answer leaves, so that no client has to ask twice.
func (d *Discovery) metadata(ctx *wire.Request, req *kmsg.MetadataRequest) (*kmsg.MetadataResponse, error) {
	resp := kmsg.NewPtrMetadataResponse()
	if ctx.Version < metadataByID && slices.ContainsFunc(req.Topics, func(t kmsg.MetadataRequestTopic) bool { return t.Topic == nil || t.TopicID != image.UUID{} }) {
		return invalidMetadata(req), nil
	}
	for i := range req.Topics {
		if r := &req.Topics[i]; r.TopicID != (image.UUID{}) {
			r.Topic = nil // a name beside an id may be of another topic
		}
	}
	all := req.Topics == nil || ctx.Version == 0 && len(req.Topics) == 0
	req.Topics = wire.Distinct(req.Topics, keyOf)
	may, failed := map[string]error{}, map[string]error{} // by name: why a topic is not described, and why one was not created
	for _, r := range req.Topics {
		if r.Topic != nil {
			may[*r.Topic] = ctx.May(acl.Describe, acl.Topic, *r.Topic)
		}
	}
	if !all && (ctx.Version < 4 || req.AllowAutoTopicCreation) {
		d.autoCreate(ctx, req, may, failed)
	}
	img := d.meta.Image()
	listener := ctx.Session.Listener
	img.Brokers(func(b *image.Broker) {
		if e, ok := b.Endpoint(listener); ok && !b.Fenced {
			n := kmsg.NewMetadataResponseBroker()
			n.NodeID, n.Host, n.Port, n.Rack = b.ID, e.Host, e.Port, b.Rack
			resp.Brokers = append(resp.Brokers, n)
		}
	})
	resp.ClusterID = &img.ClusterID
	resp.ControllerID = d.clientsController()
	resp.AuthorizedOperations = clusterOperations(ctx, req.IncludeClusterAuthorizedOperations)
	add := func(t *image.Topic) {
		mt := metadataTopic(img, t, listener)
		if req.IncludeTopicAuthorizedOperations {
			mt.AuthorizedOperations = ctx.Authorized(acl.Topic, t.Name)
		}
		resp.Topics = append(resp.Topics, mt)
	}
	if all {
		img.Topics("", func(t *image.Topic) bool {
			if ctx.Could(acl.Describe, acl.Topic, t.Name) {
				add(t)
			}
			return true
		})
		return resp, nil
	}
	for i := range req.Topics {
		r := &req.Topics[i]
		t, ok := controller.FindTopic(img, r.Topic, r.TopicID)
		var hidden error
		if r.Topic != nil {
			hidden = may[*r.Topic]
		} else if ok {
			hidden = ctx.May(acl.Describe, acl.Topic, t.Name)
		}
		if ok && hidden == nil {
			add(t)
			continue
		}
		mt := kmsg.NewMetadataResponseTopic()
		mt.Topic, mt.TopicID, mt.AuthorizedOperations = r.Topic, r.TopicID, wire.NoOperations
		if hidden == nil && r.Topic != nil && req.IncludeTopicAuthorizedOperations {
			mt.AuthorizedOperations = ctx.Authorized(acl.Topic, *r.Topic)
		}
		switch {
		case hidden != nil:
			mt.ErrorCode = wire.ErrorCode(hidden)
		case r.Topic == nil:
			mt.ErrorCode = kerr.UnknownTopicID.Code
		case failed[*r.Topic] != nil:
			mt.ErrorCode = wire.ErrorCode(failed[*r.Topic])
		case controller.CheckTopicName(*r.Topic) != nil:
			mt.ErrorCode = kerr.InvalidTopicException.Code
		default:
			mt.ErrorCode = kerr.UnknownTopicOrPartition.Code
		}
		resp.Topics = append(resp.Topics, mt)
	}
	return resp, nil
}

// metadataByID is the first version of Metadata in which a topic's id is enough (KIP-516). Versions 10 and 11 have the field, and refuse it.
const metadataByID = 12

// invalidMetadata refuses all topics of a request.
func invalidMetadata(req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	resp := kmsg.NewPtrMetadataResponse()
	for _, r := range req.Topics {
		mt := kmsg.NewMetadataResponseTopic()
		mt.Topic, mt.TopicID, mt.ErrorCode, mt.AuthorizedOperations = r.Topic, r.TopicID, kerr.InvalidRequest.Code, wire.NoOperations
		if mt.Topic == nil {
			mt.Topic = new(string) // no version before metadataByID can say null
		}
		resp.Topics = append(resp.Topics, mt)
	}
	return resp
}

// topicKey is what a request for Metadata names a topic by.
type topicKey struct {
	name string
	id   image.UUID
}

func keyOf(t *kmsg.MetadataRequestTopic) topicKey {
	k := topicKey{id: t.TopicID}
	if t.Topic != nil {
		k.name = *t.Topic
	}
	return k
}

// autoCreate creates the topics that are missing, if auto.create.topics.enable allows. Why one could not
// be created goes into failed. Those that may not be described, by may, are not.
func (d *Discovery) autoCreate(ctx *wire.Request, req *kmsg.MetadataRequest, may, failed map[string]error) {
	img := d.meta.Image()
	every := ctx.HoldsCluster(acl.Create)
	for i := range req.Topics {
		name := req.Topics[i].Topic
		if ctx.Context().Err() != nil {
			return // a request may name millions
		}
		if name == nil || may[*name] != nil || failed[*name] != nil {
			continue
		}
		if _, ok := img.Topic(*name); ok {
			continue
		}
		if image.IsInternal(*name) {
			continue // coordinators create theirs when they are first asked for
		}
		if !d.meta.Settings().AutoCreateTopics {
			continue
		}
		if !every {
			if failed[*name] = ctx.May(acl.Create, acl.Topic, *name); failed[*name] != nil {
				continue
			}
		}
		if !ctx.Afford(int(d.meta.Defaults().Partitions)) {
			failed[*name] = kerr.UnknownTopicOrPartition // clients ask again
			continue
		}
		err := d.broker.CreateTopic(ctx.Context(), controller.NewTopic{Name: *name, Partitions: -1, Factor: -1}, d.meta.Defaults())
		if err == nil {
			d.log.Info().Str("topic", *name).Str("client", ctx.ClientID).Str("peer", ctx.Session.Peer).Msg("created topic automatically")
			continue
		}
		if errors.Is(err, kerr.NotController) {
			err = kerr.LeaderNotAvailable // clients ask again
		}
		failed[*name] = err
	}
}

func metadataTopic(img *image.Image, t *image.Topic, listener string) kmsg.MetadataResponseTopic {
	mt := kmsg.NewMetadataResponseTopic()
	mt.Topic, mt.TopicID, mt.IsInternal, mt.AuthorizedOperations = &t.Name, t.ID, image.IsInternal(t.Name), wire.NoOperations
	for n, p := range t.Partitions {
		mp := kmsg.NewMetadataResponseTopicPartition()
		mp.Partition, mp.Leader, mp.LeaderEpoch, mp.Replicas, mp.ISR = int32(n), p.Leader, p.LeaderEpoch, p.Replicas, p.ISR
		mp.ErrorCode, mp.Leader = leaderError(img, p, listener)
		mp.OfflineReplicas = offline(img, p)
		mt.Partitions = append(mt.Partitions, mp)
	}
	return mt
}

// leaderError says why a client of the listener cannot reach a partition's leader.
func leaderError(img *image.Image, p *image.Partition, listener string) (code int16, leader int32) {
	b, ok := img.Broker(p.Leader)
	if !ok || b.Fenced {
		return kerr.LeaderNotAvailable.Code, image.NoLeader
	}
	if _, ok := b.Endpoint(listener); !ok {
		return kerr.ListenerNotFound.Code, image.NoLeader
	}
	return 0, p.Leader
}

func offline(img *image.Image, p *image.Partition) []int32 {
	var out []int32
	for _, r := range p.Replicas {
		if !img.ReplicaOnline(p, r) {
			out = append(out, r)
		}
	}
	return out
}

// describeTopicPartitions answers page by page, sorted by topic (KIP-966).
func (d *Discovery) describeTopicPartitions(ctx *wire.Request, req *kmsg.DescribeTopicPartitionsRequest) (*kmsg.DescribeTopicPartitionsResponse, error) {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	img := d.meta.Image()
	limit := max(1, min(int(req.ResponsePartitionLimit), d.meta.Settings().DescribedPartitions))
	if c := req.Cursor; c != nil {
		named := len(req.Topics) == 0 || slices.ContainsFunc(req.Topics, func(t kmsg.DescribeTopicPartitionsRequestTopic) bool { return t.Topic == c.Topic })
		if c.Partition < 0 || !named {
			for _, r := range req.Topics {
				t := kmsg.NewDescribeTopicPartitionsResponseTopic()
				t.Topic, t.ErrorCode = &r.Topic, kerr.InvalidRequest.Code
				resp.Topics = append(resp.Topics, t)
			}
			return resp, nil
		}
	}
	var names []string
	if len(req.Topics) == 0 {
		from := ""
		if req.Cursor != nil {
			from = req.Cursor.Topic
		}
		img.Topics(from, func(t *image.Topic) bool {
			if ctx.May(acl.Describe, acl.Topic, t.Name) == nil {
				names = append(names, t.Name)
			}
			return len(names) <= limit
		})
	} else {
		for _, t := range req.Topics {
			if req.Cursor == nil || t.Topic >= req.Cursor.Topic {
				names = append(names, t.Topic)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
	}
	for _, name := range names {
		first := int32(0)
		if req.Cursor != nil && req.Cursor.Topic == name {
			first = req.Cursor.Partition
		}
		if limit == 0 {
			cursor := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
			cursor.Topic, cursor.Partition = name, first
			resp.NextCursor = &cursor
			break
		}
		var err error
		if len(req.Topics) > 0 {
			err = ctx.May(acl.Describe, acl.Topic, name)
		}
		if err != nil {
			hidden := kmsg.NewDescribeTopicPartitionsResponseTopic()
			hidden.Topic, hidden.ErrorCode, hidden.IsInternal = kmsg.StringPtr(name), wire.ErrorCode(err), false
			resp.Topics = append(resp.Topics, hidden)
			continue
		}
		t, next := describedTopic(img, name, first, &limit, ctx.Session.Listener)
		t.AuthorizedOperations = ctx.Authorized(acl.Topic, name)
		resp.Topics = append(resp.Topics, t)
		if next >= 0 {
			cursor := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
			cursor.Topic, cursor.Partition = name, next
			resp.NextCursor = &cursor
			break
		}
	}
	return resp, nil
}

// describedTopic describes partitions from first on while limit lasts; next is where to go on, -1 at the end.
func describedTopic(img *image.Image, name string, first int32, limit *int, listener string) (out kmsg.DescribeTopicPartitionsResponseTopic, next int32) {
	out = kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.IsInternal = kmsg.StringPtr(strings.Clone(name)), image.IsInternal(name)
	t, ok := img.Topic(name)
	if !ok {
		out.ErrorCode = kerr.UnknownTopicOrPartition.Code
		if controller.CheckTopicName(name) != nil {
			out.ErrorCode = kerr.InvalidTopicException.Code
		}
		return out, -1
	}
	out.TopicID = t.ID
	for n := int(first); n < len(t.Partitions); n++ {
		if *limit == 0 {
			return out, int32(n)
		}
		*limit--
		p := t.Partitions[n]
		d := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		d.Partition, d.LeaderEpoch, d.Replicas, d.ISR, d.OfflineReplicas = int32(n), p.LeaderEpoch, p.Replicas, p.ISR, offline(img, p)
		d.ErrorCode, d.LeaderID = leaderError(img, p, listener)
		// Not null, which clients take for a fault.
		d.EligibleLeaderReplicas, d.LastKnownELR = append([]int32{}, p.ELR...), append([]int32{}, p.LastKnownELR...)
		out.Partitions = append(out.Partitions, d)
	}
	return out, -1
}
