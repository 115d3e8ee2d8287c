package scripts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/config"
	"kraft/raftmeta/image"
)

var configsScript = script{
	about: "describe and change settings of topics, brokers, groups and client metrics, levels of brokers' loggers, and quotas of users, clients and addresses",
	options: slices.Concat(connection, zooKeeper, flags("alter", "describe", "all", "entity-default", "user-defaults", "client-defaults", "broker-defaults", "ip-defaults", "force"),
		valued("entity-type", "entity-name", "add-config", "add-config-file", "delete-config", "topic", "client", "user", "broker", "broker-logger", "ip", "group", "client-metrics", "bootstrap-controller")),
	run: configs,
}

// entity is what settings are of; name is nil for the default of its kind, and unnamed for all of its kind.
type entity struct {
	kind string // topics, brokers, broker-loggers, groups, client-metrics, users, clients, ips
	name *string
	all  bool
}

// kinds of entities that have settings: their type in the protocol, and what they are called.
var kinds = map[string]struct {
	resource kmsg.ConfigResourceType
	called   string
}{
	"topics": {2, "topic"}, "brokers": {4, "broker"}, "broker-loggers": {8, "broker-logger"}, "groups": {32, "group"}, "client-metrics": {16, "client-metric"},
}

// quotaKinds are those that have quotas: their type in the protocol, and what they are called in descriptions and in answers.
var quotaKinds = map[string]struct{ part, described, called string }{
	"users": {image.UserEntity, "user-principal", "user"}, "clients": {image.ClientEntity, "client-id", "client"}, "ips": {image.AddressEntity, "ip", "ip"},
}

// shorts are options that say type and name at once.
var shorts = map[string]string{"topic": "topics", "client": "clients", "user": "users", "broker": "brokers", "broker-logger": "broker-loggers", "ip": "ips", "group": "groups", "client-metrics": "client-metrics"}

func (c *call) entities() (list []entity, err error) {
	for _, kind := range c.all("entity-type") {
		if _, ok := kinds[kind]; !ok && quotaKinds[kind].part == "" {
			return nil, fmt.Errorf("Invalid entity type %s, the entity type must be one of topics, clients, users, brokers, broker-loggers, ips, client-metrics, groups with a --bootstrap-server or --bootstrap-controller argument", kind)
		}
		list = append(list, entity{kind: kind, all: true})
	}
	names := c.all("entity-name")
	for i := range list { // names belong to the types in their order; a default takes the first that has none
		if i < len(names) {
			list[i].name, list[i].all = &names[i], false
		} else if c.has("entity-default") {
			list[i].all = false
		}
	}
	for _, option := range slices.Sorted(maps.Keys(shorts)) {
		if c.has(option) {
			name := c.get(option, "")
			list = append(list, entity{kind: shorts[option], name: &name})
		}
	}
	for option, kind := range map[string]string{"user-defaults": "users", "client-defaults": "clients", "broker-defaults": "brokers", "ip-defaults": "ips"} {
		if c.has(option) {
			list = append(list, entity{kind: kind})
		}
	}
	if len(list) == 0 {
		return nil, errors.New("At least one entity type must be specified with --entity-type")
	}
	if len(list) > 1 && slices.ContainsFunc(list, func(e entity) bool { return e.kind != "users" && e.kind != "clients" }) {
		return nil, errors.New("Only users and clients can be combined")
	}
	return list, nil
}

func configs(c *call) error {
	action, err := c.one("alter", "describe")
	if err != nil {
		return err
	}
	list, err := c.entities()
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	k := &configsCall{c, cl}
	_, quota := quotaKinds[list[0].kind]
	switch {
	case action == "describe" && quota:
		err = k.describeQuotas(list)
	case action == "describe":
		err = k.describe(list[0])
	case quota:
		err = k.alterQuotas(list)
	default:
		err = k.alter(list[0])
	}
	var use useError
	var status statusError
	if err == nil || errors.As(err, &use) || errors.As(err, &status) {
		return err
	}
	fmt.Fprintf(c.errOut, "Error while executing config command with args '%s'\n", strings.Join(c.args, " "))
	return err
}

// useError is of what was asked for.
type useError struct{ error }

type configsCall struct {
	*call
	client *kgo.Client
}

// added are the settings of --add-config, KEY=VALUE with commas, a value that has commas in [], and of --add-config-file.
func (k *configsCall) added() (map[string]string, error) {
	out := map[string]string{}
	if file := k.get("add-config-file", ""); file != "" {
		data, err := config.ReadText(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, value, _ := strings.Cut(line, "=")
			out[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	for rest := k.get("add-config", ""); rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, useError{fmt.Errorf("requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\".")}
		}
		value, next, _ := strings.Cut(after, ",")
		if strings.HasPrefix(after, "[") {
			inner, behind, closed := strings.Cut(after[1:], "]")
			if !closed {
				return nil, useError{fmt.Errorf("the value of %s has no ]", key)}
			}
			value, next = inner, strings.TrimPrefix(behind, ",")
		}
		out[strings.TrimSpace(key)], rest = strings.TrimSpace(value), next
	}
	return out, nil
}

func (k *configsCall) deleted() []string {
	return strings.FieldsFunc(k.get("delete-config", ""), func(r rune) bool { return r == ',' || r == ' ' })
}

func (k *configsCall) alter(e entity) error {
	if e.all || e.kind == "broker-loggers" && e.name == nil {
		return useError{errors.New("an entity name must be specified with --alter of " + e.kind)}
	}
	add, err := k.added()
	if err != nil {
		return err
	}
	if e.kind == "broker-loggers" {
		if err := k.checkLoggers(*e.name, slices.Concat(slices.Sorted(maps.Keys(add)), k.deleted())); err != nil {
			return err
		}
	}
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType = kinds[e.kind].resource
	if e.name != nil {
		r.ResourceName = *e.name
	}
	for _, key := range slices.Sorted(maps.Keys(add)) {
		value := add[key]
		r.Configs = append(r.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: key, Value: &value})
	}
	for _, key := range k.deleted() {
		r.Configs = append(r.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: key, Op: kmsg.IncrementalAlterConfigOpDelete})
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, r)
	for _, shard := range k.client.RequestSharded(k.ctx, req) {
		if shard.Err != nil {
			return shard.Err
		}
		for _, a := range shard.Resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
			if err := answer(a.ErrorCode, a.ErrorMessage); err != nil {
				return err
			}
		}
	}
	k.completed(e.name, kinds[e.kind].called, e.kind)
	return nil
}

// checkLoggers names loggers that a broker does not have.
func (k *configsCall) checkLoggers(broker string, names []string) error {
	found, err := k.described("broker-loggers", broker)
	if err != nil {
		return err
	}
	var invalid []string
	for _, name := range names {
		if !slices.ContainsFunc(found, func(c kmsg.DescribeConfigsResponseResourceConfig) bool { return c.Name == name }) {
			invalid = append(invalid, name)
		}
	}
	if invalid != nil {
		return useError{fmt.Errorf("Invalid broker logger(s): %s", strings.Join(invalid, ","))}
	}
	return nil
}

// described are the settings of something, by name.
func (k *configsCall) described(kind, name string) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms = true
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kinds[kind].resource, name
	req.Resources = append(req.Resources, r)
	shards := k.client.RequestSharded(k.ctx, req)
	if len(shards) != 1 || shards[0].Err != nil {
		return nil, shards[0].Err
	}
	found := shards[0].Resp.(*kmsg.DescribeConfigsResponse).Resources[0]
	slices.SortFunc(found.Configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(a.Name, b.Name) })
	return found.Configs, answer(found.ErrorCode, found.ErrorMessage)
}

func (k *configsCall) completed(name *string, called, kind string) {
	if name != nil {
		fmt.Fprintf(k.out, "Completed updating config for %s %s.\n", called, *name)
	} else {
		fmt.Fprintf(k.out, "Completed updating default config for %s in the cluster.\n", kind)
	}
}

// names are all entities of a kind that there are.
func (k *configsCall) names(e entity) ([]string, error) {
	if e.name != nil {
		return []string{*e.name}, nil
	}
	if !e.all {
		return []string{""}, nil
	}
	req := kmsg.NewPtrListConfigResourcesRequest()
	req.ResourceTypes = []int8{int8(kinds[e.kind].resource)}
	resp, err := req.RequestWith(k.ctx, k.client)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range resp.ConfigResources {
		names = append(names, r.Name)
	}
	if e.kind == "groups" { // also those that have no settings
		for _, shard := range k.client.RequestSharded(k.ctx, kmsg.NewPtrListGroupsRequest()) {
			if shard.Err != nil {
				return nil, shard.Err
			}
			for _, g := range shard.Resp.(*kmsg.ListGroupsResponse).Groups {
				if !slices.Contains(names, g.Group) {
					names = append(names, g.Group)
				}
			}
		}
	}
	if e.kind == "brokers" {
		names = append(names, "")
	}
	return names, answer(resp.ErrorCode, nil)
}

// sources are the places where settings come from, as Kafka's tools name them.
var sources = map[kmsg.ConfigSource]string{1: "DYNAMIC_TOPIC_CONFIG", 2: "DYNAMIC_BROKER_CONFIG", 3: "DYNAMIC_DEFAULT_BROKER_CONFIG", 4: "STATIC_BROKER_CONFIG", 5: "DEFAULT_CONFIG",
	6: "DYNAMIC_BROKER_LOGGER_CONFIG", 7: "DYNAMIC_CLIENT_METRICS_CONFIG", 8: "DYNAMIC_GROUP_CONFIG"}

func (k *configsCall) describe(e entity) error {
	if e.kind == "broker-loggers" && e.name == nil {
		return useError{errors.New("An entity name must be specified with --describe of broker-loggers")}
	}
	names, err := k.names(e)
	if err != nil {
		return err
	}
	called := kinds[e.kind].called
	for _, name := range names {
		if missing, err := k.missing(e, name); err != nil {
			return err
		} else if missing {
			fmt.Fprintf(k.out, "The %s '%s' doesn't exist and doesn't have dynamic config.\n", called, name)
			continue
		}
		found, err := k.described(e.kind, name)
		if err != nil {
			return err
		}
		switch {
		case e.kind == "brokers" && name == "":
			fmt.Fprintln(k.out, "Default configs for brokers in the cluster are:")
		case k.has("all"):
			fmt.Fprintf(k.out, "All configs for %s %s are:\n", called, name)
		default:
			fmt.Fprintf(k.out, "Dynamic configs for %s %s are:\n", called, name)
		}
		for _, entry := range found {
			if k.has("all") || own(e.kind, name, entry.Source) {
				k.print(entry)
			}
		}
	}
	return nil
}

// missing says that there is no such topic, broker, or resource with settings.
func (k *configsCall) missing(e entity, name string) (bool, error) {
	if e.all || name == "" {
		return false, nil
	}
	list, err := k.names(entity{kind: e.kind, all: true})
	return !slices.Contains(list, name), err
}

// own says that a setting is the entity's own, not a default from elsewhere.
func own(kind, name string, source kmsg.ConfigSource) bool {
	switch kind {
	case "topics":
		return source == 1
	case "brokers":
		return name == "" && source == 3 || source == 2
	case "broker-loggers":
		return source == 6
	case "client-metrics":
		return source == 7
	}
	return source == 8
}

func (k *configsCall) print(entry kmsg.DescribeConfigsResponseResourceConfig) {
	text := func(v *string) string {
		if v == nil {
			return "null"
		}
		return *v
	}
	var synonyms []string
	for _, s := range entry.ConfigSynonyms {
		synonyms = append(synonyms, fmt.Sprintf("%s:%s=%s", sources[s.Source], s.Name, text(s.Value)))
	}
	fmt.Fprintf(k.out, "  %s=%s sensitive=%v synonyms={%s}\n", entry.Name, text(entry.Value), entry.IsSensitive, strings.Join(synonyms, ", "))
}
