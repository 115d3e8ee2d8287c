package scripts

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/ops"
	rights "kraft/wire/acl"
)

var aclsScript = script{
	about: "list, add and remove ACLs: who may do what with which topics, groups, transactional ids, and with the cluster",
	options: slices.Concat(connection, zooKeeper, valued("bootstrap-controller", "authorizer", "authorizer-properties"), flags("list", "add", "remove", "force"),
		valued("topic", "group", "transactional-id", "delegation-token", "user-principal", "resource-pattern-type"), flags("cluster"),
		valued("operation", "allow-principal", "deny-principal", "principal", "allow-host", "deny-host"), flags("producer", "consumer", "idempotent")),
	run: acls,
}

// aclResources are the types of resources: the option that names some, and the operations on them besides All (AclEntry.supportedOperations).
var aclResources = []struct {
	kind       kmsg.ACLResourceType
	option     string
	operations []kmsg.ACLOperation
}{
	{kmsg.ACLResourceTypeTopic, "topic", []kmsg.ACLOperation{
		kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationCreate, kmsg.ACLOperationDescribe, kmsg.ACLOperationDelete, kmsg.ACLOperationAlter,
		kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs,
	}},
	{kmsg.ACLResourceTypeGroup, "group", []kmsg.ACLOperation{
		kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationDelete, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs,
	}},
	{kmsg.ACLResourceTypeCluster, "cluster", []kmsg.ACLOperation{
		kmsg.ACLOperationCreate, kmsg.ACLOperationClusterAction, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs,
		kmsg.ACLOperationIdempotentWrite, kmsg.ACLOperationAlter, kmsg.ACLOperationDescribe,
	}},
	{kmsg.ACLResourceTypeTransactionalId, "transactional-id", []kmsg.ACLOperation{kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite}},
	{kmsg.ACLResourceTypeDelegationToken, "delegation-token", []kmsg.ACLOperation{kmsg.ACLOperationDescribe}},
	{kmsg.ACLResourceTypeUser, "user-principal", []kmsg.ACLOperation{kmsg.ACLOperationCreateTokens, kmsg.ACLOperationDescribeTokens}},
}

// resource is a resource, or a pattern of resources' names (ResourcePattern).
type resource struct {
	kind    kmsg.ACLResourceType
	name    string
	pattern kmsg.ACLResourcePatternType
}

func (r resource) String() string {
	return fmt.Sprintf("ResourcePattern(resourceType=%v, name=%s, patternType=%v)", r.kind, r.name, r.pattern)
}

// acl allows or denies a principal an operation from a host (AccessControlEntry).
type acl struct {
	principal, host string
	operation       kmsg.ACLOperation
	permission      kmsg.ACLPermissionType
}

func (a acl) String() string {
	return fmt.Sprintf("(principal=%s, host=%s, operation=%v, permissionType=%v)", a.principal, a.host, a.operation, a.permission)
}

// aclRule is the ACLs for a resource.
type aclRule struct {
	resource resource
	acls     []acl
}

// print prints the ACLs in order, behind a heading.
func (r aclRule) print(c *call, heading, separator string) {
	var lines []string
	for _, a := range r.acls {
		lines = append(lines, "\t"+a.String())
	}
	slices.Sort(lines)
	fmt.Fprintf(c.out, "%s for resource `%v`:%s%s\n\n", heading, r.resource, separator, strings.Join(lines, "\n"))
}

func acls(c *call) error {
	action, err := c.one("list", "add", "remove")
	if err != nil {
		return err
	}
	properties, err := c.properties("authorizer-properties")
	if err != nil {
		return err
	}
	if properties["zookeeper.connect"] != "" && !c.has("bootstrap-server") { // as it was in the ZooKeeper days
		c.values["zookeeper"] = []string{properties["zookeeper.connect"]}
		if err := c.findBrokers("kafka-acls"); err != nil {
			return err
		}
	}
	if c.has("bootstrap-controller") {
		if c.has("bootstrap-server") {
			return errors.New("Only one of --bootstrap-server or --bootstrap-controller must be specified")
		}
		c.values["bootstrap-server"] = c.all("bootstrap-controller")
	}
	rules, err := c.aclRules(action)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	switch action {
	case "list":
		err = c.listACLs(cl, rules)
	case "add":
		err = c.addACLs(cl, rules)
	default:
		err = c.removeACLs(cl, rules)
	}
	if err != nil {
		fmt.Fprintf(c.out, "Error while executing ACL command: %s\n", javaError(ops.Plain(err)))
		return statusError(1)
	}
	return nil
}

// aclRules returns a rule for each resource that the options name. A rule without ACLs stands for all ACLs of its resource.
func (c *call) aclRules(action string) (rules []aclRule, err error) {
	text := c.get("resource-pattern-type", "literal")
	pattern, err := kmsg.ParseACLResourcePatternType(text)
	if err != nil {
		return nil, fmt.Errorf("Cannot parse argument '%s' of option resource-pattern-type: it is one of any, match, literal, prefixed", text)
	}
	if action == "add" && (pattern == kmsg.ACLResourcePatternTypeAny || pattern == kmsg.ACLResourcePatternTypeMatch) {
		return nil, fmt.Errorf("A '--resource-pattern-type' value of '%v' is not valid when adding acls.", pattern)
	}
	if err := c.checkACLs(action); err != nil {
		return nil, err
	}
	if c.has("idempotent") {
		if rules, err = c.aclRule(rules, resource{kmsg.ACLResourceTypeCluster, rights.ClusterName, kmsg.ACLResourcePatternTypeLiteral}, []kmsg.ACLOperation{kmsg.ACLOperationIdempotentWrite}); err != nil {
			return nil, err
		}
	}
	named := false
	for _, of := range aclResources {
		names := c.distinct(of.option)
		if of.kind == kmsg.ACLResourceTypeCluster && len(names) > 0 {
			names = []string{rights.ClusterName}
			if pattern != kmsg.ACLResourcePatternTypeLiteral { // as in AclCommand
				names = nil
			}
		}
		if len(names) == 0 {
			continue
		}
		named = true
		operations, err := c.operations(of.kind, of.operations)
		if err != nil {
			return nil, err
		}
		if len(operations) == 0 { // what --producer and --consumer mean nothing to
			continue
		}
		for _, name := range names {
			if rules, err = c.aclRule(rules, resource{of.kind, name, pattern}, operations); err != nil {
				return nil, err
			}
		}
	}
	if !named && action != "list" {
		return nil, errors.New("You must provide at least one resource: --topic <topic> or --cluster or --group <group> or --delegation-token <Delegation Token ID>")
	}
	return rules, nil
}

// aclExclusions are the options that do not go with another.
var aclExclusions = []struct {
	option   string
	excludes []string
}{
	{"list", []string{"producer", "consumer", "allow-host", "allow-principal", "deny-host", "deny-principal"}},
	{"producer", []string{"operation", "deny-principal", "deny-host"}},
	{"consumer", []string{"operation", "deny-principal", "deny-host"}},
}

// checkACLs returns an error for options that cannot be combined.
func (c *call) checkACLs(action string) error {
	for _, x := range aclExclusions {
		for _, other := range x.excludes {
			if c.has(x.option) && c.has(other) {
				return fmt.Errorf("Option \"[%s]\" can't be used with option \"[%s]\"", x.option, other)
			}
		}
	}
	switch {
	case action == "add" && !c.has("allow-principal") && !c.has("deny-principal"):
		return errors.New("You must specify one of: --allow-principal, --deny-principal when trying to add ACLs.")
	case c.has("principal") && action != "list":
		return errors.New("The --principal option is only available if --list is set")
	case c.has("producer") && !c.has("topic"):
		return errors.New("With --producer you must specify a --topic")
	case c.has("idempotent") && !c.has("producer"):
		return errors.New("The --idempotent option is only available if --producer is set")
	case c.has("consumer") && (!c.has("topic") || !c.has("group") || !c.has("producer") && (c.has("cluster") || c.has("transactional-id"))):
		return errors.New("With --consumer you must specify a --topic and a --group and no --cluster or --transactional-id option should be specified.")
	}
	return nil
}

// distinct are the values of an option that may be repeated, each once, without blanks around it.
func (c *call) distinct(option string) (out []string) {
	for _, v := range c.all(option) {
		if v = strings.TrimSpace(v); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// principals are the principals of an option.
func (c *call) principals(option string) ([]string, error) {
	all := c.distinct(option)
	for _, p := range all {
		if kind, name, ok := strings.Cut(p, ":"); !ok || kind == "" || name == "" {
			return nil, fmt.Errorf("expected a string in format principalType:principalName but got %s", p)
		}
	}
	return all, nil
}

// operations returns the operations that the options allow or deny on resources of a type.
func (c *call) operations(kind kmsg.ACLResourceType, possible []kmsg.ACLOperation) (out []kmsg.ACLOperation, err error) {
	if c.has("producer") || c.has("consumer") {
		var all []kmsg.ACLOperation
		if c.has("producer") {
			all = map[kmsg.ACLResourceType][]kmsg.ACLOperation{
				kmsg.ACLResourceTypeTopic:           {kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, kmsg.ACLOperationCreate},
				kmsg.ACLResourceTypeTransactionalId: {kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe},
			}[kind]
		}
		if c.has("consumer") {
			all = append(all, map[kmsg.ACLResourceType][]kmsg.ACLOperation{
				kmsg.ACLResourceTypeTopic: {kmsg.ACLOperationRead, kmsg.ACLOperationDescribe},
				kmsg.ACLResourceTypeGroup: {kmsg.ACLOperationRead},
			}[kind]...)
		}
		slices.Sort(all)
		return slices.Compact(all), nil
	}
	if !c.has("operation") {
		return []kmsg.ACLOperation{kmsg.ACLOperationAll}, nil
	}
	for _, text := range c.distinct("operation") {
		operation, err := kmsg.ParseACLOperation(text)
		if err != nil || operation != kmsg.ACLOperationAll && !slices.Contains(possible, operation) {
			return nil, fmt.Errorf("ResourceType %v only supports operations %v", kind, append(slices.Clone(possible), kmsg.ACLOperationAll))
		}
		out = append(out, operation)
	}
	return out, nil
}

// aclRule adds the ACLs of principals and hosts for operations on a resource.
func (c *call) aclRule(rules []aclRule, r resource, operations []kmsg.ACLOperation) ([]aclRule, error) {
	rule := aclRule{resource: r}
	for _, side := range []struct {
		of         string
		permission kmsg.ACLPermissionType
	}{{"allow", kmsg.ACLPermissionTypeAllow}, {"deny", kmsg.ACLPermissionTypeDeny}} {
		principals, err := c.principals(side.of + "-principal")
		if err != nil {
			return nil, err
		}
		hosts := c.distinct(side.of + "-host")
		if hosts == nil {
			hosts = []string{"*"}
		}
		for _, principal := range principals {
			for _, operation := range operations {
				for _, host := range hosts {
					rule.acls = append(rule.acls, acl{principal, host, operation, side.permission})
				}
			}
		}
	}
	return append(rules, rule), nil
}

func (c *call) listACLs(cl *kgo.Client, rules []aclRule) error {
	principals, err := c.principals("principal")
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		rules = []aclRule{{resource: resource{kind: kmsg.ACLResourceTypeAny, pattern: kmsg.ACLResourcePatternTypeAny}}}
	}
	all := map[resource][]acl{}
	for _, rule := range rules {
		found, err := c.findACLs(cl, rule.resource)
		if err != nil {
			return err
		}
		maps.Copy(all, found)
	}
	resources := slices.SortedFunc(maps.Keys(all), func(a, b resource) int { return cmp.Compare(a.String(), b.String()) })
	show := func(of func(acl) bool) {
		for _, r := range resources {
			if shown := slices.DeleteFunc(slices.Clone(all[r]), func(a acl) bool { return !of(a) }); len(shown) > 0 {
				aclRule{r, shown}.print(c, "Current ACLs", "\n")
			}
		}
	}
	if len(principals) == 0 {
		show(func(acl) bool { return true })
	}
	for _, principal := range principals {
		fmt.Fprintf(c.out, "ACLs for principal `%s`\n", principal)
		show(func(a acl) bool { return a.principal == principal })
	}
	return nil
}

// findACLs asks for the ACLs of resources.
func (c *call) findACLs(cl *kgo.Client, of resource) (map[resource][]acl, error) {
	f := rights.Filter{Resource: of.kind, Pattern: of.pattern, Operation: kmsg.ACLOperationAny, Permission: kmsg.ACLPermissionTypeAny}
	if of.name != "" {
		f.Name = &of.name
	}
	list, err := ops.Rules(c.ctx, cl, f)
	if err != nil {
		return nil, err
	}
	found := map[resource][]acl{}
	for _, r := range list {
		at := resource{r.Resource, r.Name, r.Pattern}
		found[at] = append(found[at], acl{r.Principal, r.Host, r.Operation, r.Permission})
	}
	return found, nil
}

func (c *call) addACLs(cl *kgo.Client, rules []aclRule) error {
	for _, rule := range rules {
		existing, err := c.findACLs(cl, rule.resource)
		if err != nil {
			return err
		}
		rule.acls = slices.DeleteFunc(rule.acls, func(a acl) bool {
			exists := slices.Contains(existing[rule.resource], a)
			if exists {
				fmt.Fprintf(c.out, "Acl (pattern=%v, entry=%v) already exists.\n", rule.resource, a)
			}
			return exists
		})
		if len(rule.acls) == 0 {
			continue
		}
		rule.print(c, "Adding ACLs", " \n ")
		var added []ops.Rule
		for _, a := range rule.acls {
			added = append(added, ops.Rule{Resource: rule.resource.kind, Pattern: rule.resource.pattern, Name: rule.resource.name,
				Principal: a.principal, Host: a.host, Operation: a.operation, Permission: a.permission})
		}
		if _, err := ops.Grant(c.ctx, cl, added); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) removeACLs(cl *kgo.Client, rules []aclRule) error {
	answers := bufio.NewReader(c.in)
	for _, rule := range rules {
		var filters []rights.Filter
		question := fmt.Sprintf("Are you sure you want to delete all ACLs for resource filter `%v`? (y/n)", rule.resource)
		if len(rule.acls) > 0 {
			var lines []string
			for _, a := range rule.acls {
				lines = append(lines, "\t"+a.String())
				f := rule.filter()
				f.Principal, f.Host, f.Operation, f.Permission = &a.principal, &a.host, a.operation, a.permission
				filters = append(filters, f)
			}
			question = fmt.Sprintf("Are you sure you want to remove ACLs: \n %s\n from resource filter `%v`? (y/n)", strings.Join(lines, "\n"), rule.resource)
		} else {
			filters = append(filters, rule.filter())
		}
		if !c.has("force") {
			fmt.Fprintln(c.out, question)
			if line, _ := answers.ReadString('\n'); !strings.EqualFold(strings.TrimSpace(line), "y") {
				continue
			}
		}
		if _, err := ops.Revoke(c.ctx, cl, filters); err != nil {
			return err
		}
	}
	return nil
}

// filter matches all ACLs for the rule's resource.
func (r *aclRule) filter() rights.Filter {
	return rights.Filter{Resource: r.resource.kind, Pattern: r.resource.pattern, Name: &r.resource.name, Operation: kmsg.ACLOperationAny, Permission: kmsg.ACLPermissionTypeAny}
}
