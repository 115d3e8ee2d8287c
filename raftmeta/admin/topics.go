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
		return a.createOne(work, &asked[i], &resp.Topics[i])
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

// createOne decides on one topic, and fills in its answer.
func (a *Admin) createOne(work *image.Image, r *kmsg.CreateTopicsRequestTopic, out *kmsg.CreateTopicsResponseTopic) ([]*image.Record, error) {
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
		return nil, err
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
	return records, nil
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
	targets := req.Topics
	for i := range req.TopicNames {
		targets = append(targets, kmsg.DeleteTopicsRequestTopic{Topic: &req.TopicNames[i]})
	}
	img := a.meta.Newest()
	targets, refused := doomed(targets)
	every := ctx.HoldsCluster(acl.Delete)
	for i := range targets {
		if refused[i] == nil && !every && a.meta.Settings().DeleteTopics {
			refused[i] = authorizeDelete(ctx, img, &targets[i])
		}
	}
	targets, refused = namedTwice(img, targets, refused)
	found := make([]*image.Topic, len(targets)) // what the sender may delete: nothing that is made later
	for i := range targets {
		found[i], _ = controller.FindTopic(img, targets[i].Topic, targets[i].TopicID)
	}
	resp.Topics = make([]kmsg.DeleteTopicsResponseTopic, len(targets))
	for i := range targets {
		t := &resp.Topics[i]
		t.Default()
		t.Topic, t.TopicID = targets[i].Topic, targets[i].TopicID
	}
	errs := a.changeEach(ctx, req.TimeoutMillis, false, len(targets), func(work *image.Image, i int) ([]*image.Record, error) {
		r, t := &targets[i], &resp.Topics[i]
		if !a.meta.Settings().DeleteTopics {
			return nil, fmt.Errorf("Topic deletion is disabled.: %w", kerr.TopicDeletionDisabled)
		}
		if refused[i] != nil {
			return nil, refused[i]
		}
		var topic *image.Topic
		ok := false
		if found[i] != nil {
			topic, ok = work.TopicByID(found[i].ID)
		}
		if !ok && r.Topic == nil {
			return nil, fmt.Errorf("This server does not host this topic ID.: %w", kerr.UnknownTopicID)
		}
		if !ok {
			return nil, fmt.Errorf("This server does not host this topic-partition.: %w", kerr.UnknownTopicOrPartition)
		}
		t.Topic, t.TopicID = &topic.Name, topic.ID
		return controller.DeleteTopic(topic), nil
	})
	for i, err := range errs {
		resp.Topics[i].ErrorCode, resp.Topics[i].ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	}
	return resp, nil
}

// authorizeDelete returns why the sender may not delete a topic. Who may not describe a topic does not learn whether there is one of its name, nor what it is called.
func authorizeDelete(ctx *wire.Request, img *image.Image, r *kmsg.DeleteTopicsRequestTopic) error {
	name := r.Topic
	if name == nil {
		t, ok := img.TopicByID(r.TopicID)
		if !ok {
			return nil // which is another error
		}
		name = &t.Name
	}
	if err := ctx.May(acl.Describe, acl.Topic, *name); err != nil {
		return err
	}
	if _, ok := img.Topic(*name); !ok {
		return nil
	}
	err := ctx.May(acl.Delete, acl.Topic, *name)
	if err != nil {
		r.Topic = name
	}
	return err
}

// doomed names each topic of a DeleteTopics request once, and says beside it why it is not to be deleted: a request that contradicts itself
// deletes nothing of what it contradicts itself about (Kafka's ControllerApis.deleteTopics).
func doomed(asked []kmsg.DeleteTopicsRequestTopic) (targets []kmsg.DeleteTopicsRequestTopic, refused []error) {
	invalid := func(why string) error { return fmt.Errorf("%s: %w", why, kerr.InvalidRequest) }
	byName, byID := map[string]int{}, map[image.UUID]int{}
	for _, r := range asked {
		var why error
		switch n := len(targets); {
		case r.Topic != nil && r.TopicID != image.UUID{}:
			why = invalid("You may not specify both topic name and topic id.")
		case r.Topic == nil && r.TopicID == image.UUID{}:
			why = invalid("Neither topic name nor id were specified.")
		case r.Topic != nil:
			if first, ok := byName[*r.Topic]; ok {
				refused[first] = errRepeatedTopic
				continue
			}
			byName[*r.Topic] = n
		default:
			if first, ok := byID[r.TopicID]; ok {
				refused[first] = invalid("Duplicate topic id.")
				continue
			}
			byID[r.TopicID] = n
		}
		targets, refused = append(targets, r), append(refused, why)
	}
	return targets, refused
}

// namedTwice refuses topics that a request names both by name and by id. It answers them once, with both. Names that are refused already tell
// nothing of their ids.
func namedTwice(img *image.Image, targets []kmsg.DeleteTopicsRequestTopic, refused []error) ([]kmsg.DeleteTopicsRequestTopic, []error) {
	byID := map[image.UUID]int{}
	for i, r := range targets {
		if r.Topic == nil {
			byID[r.TopicID] = i
		}
	}
	var again []int
	for i := range targets {
		if targets[i].Topic == nil || refused[i] != nil {
			continue
		}
		if t, ok := img.Topic(*targets[i].Topic); ok {
			if j, ok := byID[t.ID]; ok && targets[j].Topic == nil {
				targets[i].TopicID, refused[i] = t.ID, fmt.Errorf("The provided topic name maps to an ID that was already supplied.: %w", kerr.InvalidRequest)
				again = append(again, j)
			}
		}
	}
	slices.Sort(again)
	for _, j := range slices.Backward(again) {
		targets, refused = slices.Delete(targets, j, j+1), slices.Delete(refused, j, j+1)
	}
	return targets, refused
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
		return controller.AddPartitions(work, r.Topic, r.Count, assignment, mrand.Uint64())
	})
	for i, err := range errs {
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic, t.ErrorCode, t.ErrorMessage = asked[i].Topic, wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
