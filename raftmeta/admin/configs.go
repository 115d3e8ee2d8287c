package admin

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/calls"
	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

func (a *Admin) describeConfigs(ctx *wire.Request, req *kmsg.DescribeConfigsRequest) (*kmsg.DescribeConfigsResponse, error) {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	img := a.meta.Image()
	asked := wire.Distinct(req.Resources, func(r *kmsg.DescribeConfigsRequestResource) string {
		return fmt.Sprint(r.ResourceType, r.ResourceName, r.ConfigNames)
	})
	for i := range asked { // once each: an answer is much larger than what asks for it
		r := &asked[i]
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		var list []described
		err := authorizeConfigs(ctx, acl.DescribeConfigs, r.ResourceType, r.ResourceName)
		if err == nil {
			list, err = a.describe(img, r)
		}
		out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		if err == nil && int8(r.ResourceType) == image.BrokerLoggerResource {
			out.Configs = a.describeLoggers(r.ConfigNames)
		}
		for _, d := range list {
			if len(r.ConfigNames) == 0 || slices.Contains(r.ConfigNames, d.definition.Name) {
				out.Configs = append(out.Configs, d.encode(ctx.Version, req))
			}
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

// authorizeConfigs returns why the sender may not describe or alter the settings of a resource.
func authorizeConfigs(ctx *wire.Request, o acl.Operation, kind kmsg.ConfigResourceType, name string) error {
	switch int8(kind) {
	case image.TopicResource:
		return ctx.May(o, acl.Topic, name)
	case image.GroupResource:
		return ctx.May(o, acl.Group, name)
	case image.BrokerResource, image.BrokerLoggerResource, image.ClientMetricsResource:
		return ctx.MayCluster(o)
	}
	return nil // which is another error
}

// described is a setting with the value in force, and all places where it has one.
type described struct {
	definition *configs.Definition
	value      configs.Value
	synonyms   []configs.Value
	readOnly   bool
}

func (a *Admin) describe(img *image.Image, r *kmsg.DescribeConfigsRequestResource) ([]described, error) {
	var out []described
	switch int8(r.ResourceType) {
	case image.TopicResource:
		if err := controller.CheckTopicName(r.ResourceName); err != nil {
			return nil, err
		}
		if _, ok := img.Topic(r.ResourceName); !ok {
			return nil, fmt.Errorf("This server does not host this topic-partition.: %w", kerr.UnknownTopicOrPartition)
		}
		layers := a.meta.Layers(img, r.ResourceName)
		for _, d := range sorted(configs.Topic) {
			out = append(out, described{d, layers.TopicValue(d)[0], layers.ResourceSynonyms(layers.Topic, configs.TopicSource, d), false})
		}
		return out, nil
	case image.BrokerResource:
		return a.describeBroker(img, r.ResourceName)
	case image.BrokerLoggerResource:
		return nil, a.checkLoggerBroker(r.ResourceName)
	case image.GroupResource:
		if r.ResourceName == "" {
			return nil, fmt.Errorf("Group name must not be empty: %w", kerr.InvalidRequest)
		}
		return a.describeResource(img, r, configs.Group, configs.GroupSource), nil
	case image.ClientMetricsResource:
		if r.ResourceName == "" {
			return nil, fmt.Errorf("Client metrics subscription name must not be empty: %w", kerr.InvalidRequest)
		}
		return a.describeResource(img, r, configs.ClientMetrics, configs.ClientMetricsSource), nil
	}
	return nil, fmt.Errorf("Unsupported resource type: %d: %w", r.ResourceType, kerr.InvalidRequest)
}

// describeResource describes a group, or a subscription to clients' metrics.
func (a *Admin) describeResource(img *image.Image, r *kmsg.DescribeConfigsRequestResource, definitions map[string]*configs.Definition, source configs.Source) (out []described) {
	layers, own := a.meta.Layers(img, ""), img.Config(int8(r.ResourceType), r.ResourceName)
	for _, d := range sorted(definitions) {
		out = append(out, described{d, layers.ResourceValue(own, source, d)[0], layers.ResourceSynonyms(own, source, d), false})
	}
	return out
}

func (a *Admin) describeBroker(img *image.Image, name string) ([]described, error) {
	var out []described
	if name == "" { // the cluster's defaults: only what is set
		for k, v := range img.Config(image.BrokerResource, "") {
			if d, ok := configs.Broker[k]; ok {
				set := configs.Value{Name: k, Value: &v, Source: configs.DynamicDefaultSource}
				out = append(out, described{d, set, []configs.Value{set}, false})
			}
		}
		return out, nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("Broker id must be an integer, but it is: %s: %w", name, kerr.InvalidRequest)
	}
	if int32(id) != a.meta.Config.NodeID {
		return nil, fmt.Errorf("Unexpected broker id, expected %d or empty string, but received %s: %w", a.meta.Config.NodeID, name, kerr.InvalidRequest)
	}
	layers := a.meta.Layers(img, "")
	for _, d := range sorted(configs.Broker) {
		if v := layers.BrokerValue(d)[0]; !d.Internal || v.Source != configs.DefaultSource {
			out = append(out, described{d, v, layers.Synonyms(d.Name), d.Mode == configs.ReadOnly})
		}
	}
	for _, d := range layers.OfListeners() {
		values := layers.Synonyms(d.Name)
		out = append(out, described{d, values[0], values, false})
	}
	return out, nil
}

func (d described) encode(version int16, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	v := d.value
	c.Name, c.Value, c.ReadOnly = d.definition.Name, v.Value, d.readOnly
	c.Source = kmsg.ConfigSource(v.Source)
	c.IsDefault = v.Source == configs.DefaultSource
	c.ConfigType = kmsg.ConfigType(d.definition.Type)
	c.IsSensitive = d.definition.Type == configs.Password
	if c.IsSensitive {
		c.Value = nil
	}
	if req.IncludeDocumentation && version >= 3 {
		text := d.definition.Documentation()
		c.Documentation = &text
	}
	if req.IncludeSynonyms && version >= 1 {
		for _, s := range d.synonyms {
			y := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			y.Name, y.Value, y.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
			if c.IsSensitive {
				y.Value = nil
			}
			c.ConfigSynonyms = append(c.ConfigSynonyms, y)
		}
	}
	return c
}

// incrementalAlterConfigs answers IncrementalAlterConfigs. Loggers' levels are this node's own, the rest is the active controller's
// matter.
func (a *Admin) incrementalAlterConfigs(ctx *wire.Request, req *kmsg.IncrementalAlterConfigsRequest) (*kmsg.IncrementalAlterConfigsResponse, error) {
	var own []kmsg.IncrementalAlterConfigsResponseResource
	var others []kmsg.IncrementalAlterConfigsRequestResource
	for _, r := range req.Resources {
		if int8(r.ResourceType) == image.BrokerLoggerResource {
			own = append(own, a.alterLoggers(ctx, &r, req.ValidateOnly))
		} else if err := a.refuseOwn(ctx, &r); err != nil {
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = r.ResourceType, r.ResourceName, wire.ErrorCode(err), wire.ErrorMessage(err)
			own = append(own, out)
		} else {
			others = append(others, r)
		}
	}
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	if others != nil {
		req.Resources = others
		var err error
		if resp, err = calls.Forwarded(a.calls, a.alterResources)(ctx, req); err != nil {
			return nil, err
		}
	}
	resp.Resources = append(resp.Resources, own...)
	return resp, nil
}

// refuseOwn returns why this broker could not use its settings if they were changed so. Only who may change them learns that: it tells of files.
func (a *Admin) refuseOwn(ctx *wire.Request, r *kmsg.IncrementalAlterConfigsRequestResource) error {
	if int8(r.ResourceType) != image.BrokerResource || r.ResourceName != strconv.Itoa(int(a.meta.NodeID())) || a.checkOwn == nil || !ctx.HoldsCluster(acl.AlterConfigs) {
		return nil
	}
	own, touched := map[string]string{}, false
	maps.Copy(own, a.meta.Image().Config(image.BrokerResource, r.ResourceName))
	for _, c := range r.Configs {
		touched = touched || configs.IsStoreKey(c.Name)
		if delete(own, c.Name); controller.Op(c.Op) == controller.Set && c.Value != nil {
			own[c.Name] = *c.Value
		}
	}
	if !touched {
		return nil
	}
	if err := a.checkOwn(own); err != nil {
		return fmt.Errorf("%v: %w", err, kerr.InvalidRequest)
	}
	return nil
}

// configResource names what has settings.
type configResource struct {
	kind kmsg.ConfigResourceType
	name string
}

var errRepeatedResource = fmt.Errorf("Each resource must appear at most once.: %w", kerr.InvalidRequest)

// refuseResources returns why the settings of resources are not altered, nil for those that may be. named names a resource of a request.
func refuseResources[R any](ctx *wire.Request, resources []R, named func(*R) configResource) []error {
	twice := wire.Repeated(resources, named)
	refused := make([]error, len(resources))
	for i := range resources {
		r := named(&resources[i])
		if refused[i] = errRepeatedResource; !twice[r] {
			refused[i] = authorizeConfigs(ctx, acl.AlterConfigs, r.kind, r.name)
		}
	}
	return refused
}

func (a *Admin) alterResources(ctx *wire.Request, req *kmsg.IncrementalAlterConfigsRequest) (*kmsg.IncrementalAlterConfigsResponse, error) {
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	named := func(r *kmsg.IncrementalAlterConfigsRequestResource) configResource {
		return configResource{r.ResourceType, r.ResourceName}
	}
	refused := refuseResources(ctx, req.Resources, named)
	errs := a.changeEach(ctx, defaultTimeout, req.ValidateOnly, len(req.Resources), func(work *image.Image, i int) ([]*image.Record, error) {
		r := &req.Resources[i]
		if refused[i] != nil {
			return nil, refused[i]
		}
		var changes []controller.Alteration
		for _, c := range r.Configs {
			changes = append(changes, controller.Alteration{Key: c.Name, Op: controller.Op(c.Op), Value: c.Value})
		}
		records, err := controller.AlterConfigs(work, int8(r.ResourceType), r.ResourceName, changes, a.effective(work, r.ResourceType, r.ResourceName))
		return controller.RecountEligible(work, a.meta.Policy(), records), err
	})
	for i, err := range errs {
		r := &req.Resources[i]
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

// effective finds the values in force of a topic's settings, or of brokers'; "" for what is unknown.
func (a *Admin) effective(work *image.Image, resource kmsg.ConfigResourceType, name string) func(string) string {
	return func(key string) string {
		if int8(resource) == image.TopicResource {
			if _, ok := configs.Topic[key]; ok {
				return a.meta.Layers(work, name).Effective(key)
			}
		} else if _, ok := configs.Broker[key]; ok {
			layers := a.meta.Layers(work, "")
			if int8(resource) == image.BrokerResource { // of another broker the file is not known here: it is taken to be like this one's
				layers.Broker = work.Config(image.BrokerResource, name)
			}
			return layers.EffectiveBroker(key)
		}
		return ""
	}
}

func (a *Admin) alterConfigs(ctx *wire.Request, req *kmsg.AlterConfigsRequest) (*kmsg.AlterConfigsResponse, error) {
	resp := kmsg.NewPtrAlterConfigsResponse()
	named := func(r *kmsg.AlterConfigsRequestResource) configResource {
		return configResource{r.ResourceType, r.ResourceName}
	}
	refused := refuseResources(ctx, req.Resources, named)
	errs := a.changeEach(ctx, defaultTimeout, req.ValidateOnly, len(req.Resources), func(work *image.Image, i int) ([]*image.Record, error) {
		r := &req.Resources[i]
		if refused[i] != nil {
			return nil, refused[i]
		}
		values := map[string]*string{}
		for _, c := range r.Configs {
			values[c.Name] = c.Value
		}
		records, err := controller.ReplaceConfigs(work, int8(r.ResourceType), r.ResourceName, values, a.effective(work, r.ResourceType, r.ResourceName))
		return controller.RecountEligible(work, a.meta.Policy(), records), err
	})
	for i, err := range errs {
		r := &req.Resources[i]
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

// listConfigResources answers ListConfigResources (KIP-1142), before version 1 for subscriptions to clients' metrics only.
func (a *Admin) listConfigResources(ctx *wire.Request, req *kmsg.ListConfigResourcesRequest) (*kmsg.ListConfigResourcesResponse, error) {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	if err := ctx.MayCluster(acl.DescribeConfigs); err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		return resp, nil
	}
	types := req.ResourceTypes
	if ctx.Version == 0 {
		types = []int8{image.ClientMetricsResource}
	} else if len(types) == 0 {
		types = []int8{image.TopicResource, image.BrokerResource, image.BrokerLoggerResource, image.ClientMetricsResource, image.GroupResource}
	}
	img := a.meta.Image()
	for _, t := range types {
		names, err := resources(img, t)
		if err != nil {
			resp.ErrorCode, resp.ConfigResources = wire.ErrorCode(err), nil
			return resp, nil
		}
		for _, name := range names {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = name, t
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	return resp, nil
}

func resources(img *image.Image, resourceType int8) (names []string, err error) {
	switch resourceType {
	case image.TopicResource:
		img.Topics("", func(t *image.Topic) bool { names = append(names, t.Name); return true })
	case image.BrokerResource, image.BrokerLoggerResource:
		img.Brokers(func(b *image.Broker) { names = append(names, strconv.Itoa(int(b.ID))) })
	case image.ClientMetricsResource, image.GroupResource:
		names = img.ConfigResources(resourceType)
	default:
		return nil, kerr.UnsupportedVersion
	}
	return names, nil
}

func sorted(defs map[string]*configs.Definition) []*configs.Definition {
	out := make([]*configs.Definition, 0, len(defs))
	for _, d := range defs {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
