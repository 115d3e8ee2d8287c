package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

// checkLoggerBroker refuses what is not this node's log: levels are each node's own (KIP-412).
func (a *Admin) checkLoggerBroker(name string) error {
	if name == "" {
		return fmt.Errorf("Broker id must not be empty: %w", kerr.InvalidRequest)
	}
	if id, err := strconv.ParseInt(name, 10, 32); err != nil || int32(id) != a.meta.Config.NodeID {
		return fmt.Errorf("Unexpected broker id, expected %d but received %s: %w", a.meta.Config.NodeID, name, kerr.InvalidRequest)
	}
	return nil
}

// describeLoggers tells the levels of those that are named, of all if names is nil.
func (a *Admin) describeLoggers(names []string) (out []kmsg.DescribeConfigsResponseResourceConfig) {
	for _, l := range a.meta.Config.Logs.Levels() {
		if names != nil && !slices.Contains(names, l.Name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.Source = l.Name, &l.Level, kmsg.ConfigSourceDynamicBrokerLoggerConfig
		out = append(out, c)
	}
	return out
}

// alterLoggers sets levels, all or none, until the process ends.
func (a *Admin) alterLoggers(ctx *wire.Request, r *kmsg.IncrementalAlterConfigsRequestResource, validateOnly bool) kmsg.IncrementalAlterConfigsResponseResource {
	out := kmsg.NewIncrementalAlterConfigsResponseResource()
	out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
	right := acl.AlterConfigs
	if !slices.ContainsFunc(a.meta.Config.Endpoints, func(e *image.Endpoint) bool { return e.Listener == ctx.Session.Listener }) {
		right = acl.ClusterAction // on the quorum's listener (ControllerApis)
	}
	err := ctx.MayCluster(right)
	if err == nil {
		err = a.checkLoggerBroker(r.ResourceName)
	}
	change := func(do func(name string, level *string) error) {
		for _, c := range r.Configs {
			if err == nil {
				err = do(c.Name, c.Value)
			}
		}
	}
	for i, c := range r.Configs {
		switch c.Op {
		case kmsg.IncrementalAlterConfigOpSet:
			if c.Value == nil {
				r.Configs[i].Value = new(string) // which is no level
			}
		case kmsg.IncrementalAlterConfigOpDelete:
			r.Configs[i].Value = nil
		default:
			err = cmp.Or(err, fmt.Errorf("%v operation is not allowed for the BROKER_LOGGER resource: %w", c.Op, kerr.InvalidRequest))
		}
	}
	change(a.meta.Config.Logs.Check)
	if !validateOnly {
		change(a.meta.Config.Logs.Set)
	}
	out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return out
}
