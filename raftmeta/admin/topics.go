package admin

import (
	"fmt"
	mrand "math/rand/v2"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

var errRepeatedTopic = fmt.Errorf("Duplicate topic name.: %w", kerr.InvalidRequest)

func (a *Admin) createTopics(ctx *wire.Request, req *kmsg.CreateTopicsRequest) (*kmsg.CreateTopicsResponse, error) {
	resp := kmsg.NewPtrCreateTopicsResponse()
	name := func(r *kmsg.CreateTopicsRequestTopic) string { return r.Topic }
	asked, twice := wire.Distinct(req.Topics, name), wire.Repeated(req.Topics, name)
	resp.Topics = make([]kmsg.CreateTopicsResponseTopic, len(asked))
	refused, shown := make([]error, len(asked)), make([]bool, len(asked))
	every := ctx.HoldsCluster(acl.Create) || ctx.HoldsCluster(acl.ClusterAction) // brokers make topics for themselves and for clients
	for i := range asked {
		name := asked[i].Topic
		resp.Topics[i].Default()
		resp.Topics[i].Topic = name
		switch {
		case twice[name]:
			refused[i] = errRepeatedTopic
		case !every:
			refused[i] = ctx.May(acl.Create, acl.Topic, name)
		}
		shown[i] = refused[i] == nil && ctx.Could(acl.DescribeConfigs, acl.Topic, name)
	}
	errs := a.changeEach(ctx, req.TimeoutMillis, req.ValidateOnly, len(asked), func(work *image.Image, i int) ([]*image.Record, error) {
		if refused[i] != nil {
			return nil, refused[i]
		}
		records, partitions, err := a.createOne(work, &asked[i], &resp.Topics[i])
		if err == nil && !ctx.Spend(partitions, 6) {
			return nil, errOverQuota
		}
		return records, err
	})
	for i, err := range errs {
		t := &resp.Topics[i]
		if !shown[i] {
			t.ConfigErrorCode, t.NumPartitions, t.ReplicationFactor, t.Configs = kerr.TopicAuthorizationFailed.Code, -1, -1, nil
		}
		if t.ErrorCode, t.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err); err != nil {
			*t = kmsg.CreateTopicsResponseTopic{Topic: t.Topic, ErrorCode: t.ErrorCode, ErrorMessage: t.ErrorMessage, NumPartitions: -1, ReplicationFactor: -1, Configs: []kmsg.CreateTopicsResponseTopicConfig{}}
		}
	}
	return resp, nil
}

// errOverQuota refuses what a client's quota of mutations does not allow now.
var errOverQuota = fmt.Errorf("The throttling quota has been exceeded.: %w", kerr.ThrottlingQuotaExceeded)

// createOne decides on one topic, fills in its answer, and returns how many partitions it gets.
func (a *Admin) createOne(work *image.Image, r *kmsg.CreateTopicsRequestTopic, out *kmsg.CreateTopicsResponseTopic) (records []*image.Record, partitions int, err error) {
	t := controller.NewTopic{Name: r.Topic, Partitions: r.NumPartitions, Factor: r.ReplicationFactor, Configs: map[string]*string{}}
	for _, c := range r.Configs {
		t.Configs[c.Name] = c.Value
	}
	if len(r.ReplicaAssignment) > 0 {
		t.Assignment = map[int32][]int32{}
		for _, a := range r.ReplicaAssignment {
			t.Assignment[a.Partition] = a.Replicas
		}
	}
	defaults := a.meta.Defaults()
	if image.IsInternal(r.Topic) {
		t.Configs = withDefaults(t.Configs, controller.InternalConfigs(r.Topic))
	}
	records, topic, err := controller.CreateTopic(work, t, defaults, controller.NewID(), mrand.Uint64())
	if err != nil {
		return nil, 0, err
	}
	out.TopicID, out.Configs = topic.ID, nil
	out.NumPartitions, out.ReplicationFactor = int32(len(topic.Partitions)), int16(len(topic.Partitions[0].Replicas))
	layers := a.meta.Layers(work, "")
	layers.Topic = map[string]string{}
	for k, v := range t.Configs {
		layers.Topic[k] = *v
	}
	for _, d := range sorted(configs.Topic) {
		v := layers.TopicValue(d)[0]
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = d.Name, v.Value, int8(v.Source)
		out.Configs = append(out.Configs, c)
	}
	return records, len(topic.Partitions), nil
}

func withDefaults(c, defaults map[string]*string) map[string]*string {
	for k, v := range defaults {
		if _, ok := c[k]; !ok {
			c[k] = v
		}
	}
	return c
}

func (a *Admin) deleteTopics(ctx *wire.Request, req *kmsg.DeleteTopicsRequest) (*kmsg.DeleteTopicsResponse, error) {
	resp := kmsg.NewPtrDeleteTopicsResponse()
	asked := req.Topics
	for i := range req.TopicNames {
		asked = append(asked, kmsg.DeleteTopicsRequestTopic{Topic: &req.TopicNames[i]})
	}
	// What the request names is looked up in the controller's own image: the node's may lack a topic whose creation was acknowledged.
	var list []deletion
	if err := a.look(ctx, req.TimeoutMillis, func(work *image.Image) { list = deletions(work, asked) }); err != nil {
		list = deletions(a.meta.Newest(), asked)
		for i := range list {
			list[i].refused = err
		}
	}
	every := ctx.HoldsCluster(acl.Delete)
	for i := range list {
		if d := &list[i]; d.refused == nil && !every && a.meta.Settings().DeleteTopics {
			d.authorize(ctx)
		}
	}
	list = namedTwice(list)
	resp.Topics = make([]kmsg.DeleteTopicsResponseTopic, len(list))
	for i := range list {
		t := &resp.Topics[i]
		t.Default()
		t.Topic, t.TopicID = list[i].name, list[i].id
	}
	errs := a.changeEach(ctx, req.TimeoutMillis, false, len(list), func(work *image.Image, i int) ([]*image.Record, error) {
		d, t := &list[i], &resp.Topics[i]
		if !a.meta.Settings().DeleteTopics {
			return nil, fmt.Errorf("Topic deletion is disabled.: %w", kerr.TopicDeletionDisabled)
		}
		if d.refused != nil {
			return nil, d.refused
		}
		var topic *image.Topic
		ok := false
		if d.topic != nil { // nothing that was made since the right to it was asked for
			topic, ok = work.TopicByID(d.topic.ID)
		}
		if !ok && d.name == nil {
			return nil, fmt.Errorf("This server does not host this topic ID.: %w", kerr.UnknownTopicID)
		}
		if !ok {
			return nil, fmt.Errorf("This server does not host this topic-partition.: %w", kerr.UnknownTopicOrPartition)
		}
		t.Topic, t.TopicID = &topic.Name, topic.ID
		if !ctx.Spend(len(topic.Partitions), 5) {
			return nil, errOverQuota
		}
		return controller.DeleteTopic(topic), nil
	})
	for i, err := range errs {
		resp.Topics[i].ErrorCode, resp.Topics[i].ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	}
	return resp, nil
}

// deletion is a topic that a DeleteTopics request names, by name or by id.
type deletion struct {
	name    *string
	id      image.UUID
	topic   *image.Topic // nil if there is none
	refused error
}

// authorize refuses the deletion if the sender may not do it. Who may not describe a topic learns neither whether there is one of its name, nor
// what it is called.
func (d *deletion) authorize(ctx *wire.Request) {
	name := d.name
	switch {
	case name != nil:
	case d.topic == nil:
		return // which is another error
	default:
		name = &d.topic.Name
	}
	if d.refused = ctx.May(acl.Describe, acl.Topic, *name); d.refused != nil || d.topic == nil {
		return
	}
	if d.refused = ctx.May(acl.Delete, acl.Topic, *name); d.refused != nil {
		d.name = name
	}
}

// deletions has each topic of a DeleteTopics request once. A request that contradicts itself deletes nothing of what it contradicts itself about
// (Kafka's ControllerApis.deleteTopics).
func deletions(img *image.Image, asked []kmsg.DeleteTopicsRequestTopic) (list []deletion) {
	invalid := func(why string) error { return fmt.Errorf("%s: %w", why, kerr.InvalidRequest) }
	byName, byID := map[string]int{}, map[image.UUID]int{}
	for _, r := range asked {
		d := deletion{name: r.Topic, id: r.TopicID}
		switch n := len(list); {
		case r.Topic != nil && r.TopicID != image.UUID{}:
			d.refused = invalid("You may not specify both topic name and topic id.")
		case r.Topic == nil && r.TopicID == image.UUID{}:
			d.refused = invalid("Neither topic name nor id were specified.")
		case r.Topic != nil:
			if first, ok := byName[*r.Topic]; ok {
				list[first].refused = errRepeatedTopic
				continue
			}
			byName[*r.Topic] = n
		default:
			if first, ok := byID[r.TopicID]; ok {
				list[first].refused = invalid("Duplicate topic id.")
				continue
			}
			byID[r.TopicID] = n
		}
		d.topic, _ = controller.FindTopic(img, r.Topic, r.TopicID)
		list = append(list, d)
	}
	return list
}

// namedTwice refuses topics that a request names both by name and by id, and leaves each of them once, with both. Names that are refused already
// tell nothing of their ids.
func namedTwice(list []deletion) []deletion {
	byID := map[image.UUID]int{}
	for i, d := range list {
		if d.name == nil {
			byID[d.id] = i
		}
	}
	var again []int
	for i := range list {
		d := &list[i]
		if d.name == nil || d.refused != nil || d.topic == nil {
			continue
		}
		if j, ok := byID[d.topic.ID]; ok {
			d.id, d.refused = d.topic.ID, fmt.Errorf("The provided topic name maps to an ID that was already supplied.: %w", kerr.InvalidRequest)
			again = append(again, j)
		}
	}
	slices.Sort(again)
	for _, j := range slices.Backward(again) {
		list = slices.Delete(list, j, j+1)
	}
	return list
}

func (a *Admin) createPartitions(ctx *wire.Request, req *kmsg.CreatePartitionsRequest) (*kmsg.CreatePartitionsResponse, error) {
	resp := kmsg.NewPtrCreatePartitionsResponse()
	name := func(r *kmsg.CreatePartitionsRequestTopic) string { return r.Topic }
	asked, twice := wire.Distinct(req.Topics, name), wire.Repeated(req.Topics, name)
	refused := make([]error, len(asked))
	for i := range asked {
		if refused[i] = errRepeatedTopic; !twice[asked[i].Topic] {
			refused[i] = ctx.May(acl.Alter, acl.Topic, asked[i].Topic)
		}
	}
	errs := a.changeEach(ctx, req.TimeoutMillis, req.ValidateOnly, len(asked), func(work *image.Image, i int) ([]*image.Record, error) {
		r := &asked[i]
		if refused[i] != nil {
			return nil, refused[i]
		}
		var assignment [][]int32 // null where the controller is to choose, which an empty one is not
		if r.Assignment != nil {
			assignment = [][]int32{}
		}
		for _, a := range r.Assignment {
			assignment = append(assignment, a.Replicas)
		}
		before, _ := work.Topic(r.Topic)
		records, err := controller.AddPartitions(work, r.Topic, r.Count, assignment, mrand.Uint64())
		if err == nil && !ctx.Spend(int(r.Count)-len(before.Partitions), 3) {
			return nil, errOverQuota
		}
		return records, err
	})
	for i, err := range errs {
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic, t.ErrorCode, t.ErrorMessage = asked[i].Topic, wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
