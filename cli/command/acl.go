package command

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/wire/acl"
)

func aclCommand() *cli.Command {
	resources := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringSliceFlag{Name: "topic", Usage: "a `TOPIC`; orders-* stands for all that begin with orders-, * for every one"},
			&cli.StringSliceFlag{Name: "group", Usage: "a `GROUP` of consumers, likewise"},
			&cli.StringSliceFlag{Name: "transactional-id", Usage: "a transactional `ID`, likewise"},
			&cli.BoolFlag{Name: "cluster", Usage: "the cluster"},
		}
	}
	host := &cli.StringFlag{Name: "host", Value: acl.Any, DefaultText: "every host", Usage: "only from an IP `ADDRESS`, or a range of them like 10.0.0.0/8"}
	rights := "RIGHT is consume, produce, admin or an operation of Kafka's: " + strings.Join(operationNames(), ", ") + "."
	return &cli.Command{
		Name:  "acl",
		Usage: "show and change who may do what, and find out why",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list rules", UsageText: "kraft acl list [USER]... [--topic TOPIC | --group GROUP | --transactional-id ID | --cluster]",
				Description:  `With a topic, group or id it lists all rules that hold for it, those for what its name begins with too.`,
				OnUsageError: usageError, Action: listRules, Flags: append([]cli.Flag{bootstrapFlag(), jsonFlag()}, resources()...),
			},
			{
				Name: "grant", Usage: "allow a user something", UsageText: "kraft acl grant USER RIGHT... [--topic TOPIC]... [--group GROUP]... [--transactional-id ID]... [--cluster]",
				Description: rights + `
consume is Read of the topics and groups, produce is Write to the topics and with the transactional ids, admin is everything. USER may be * for all
users. A rule with --deny is stronger than all that allow.`,
				OnUsageError: usageError, Action: withArguments(grant),
				Flags: append([]cli.Flag{bootstrapFlag(), host, &cli.BoolFlag{Name: "deny", Usage: "deny it instead"}}, resources()...),
			},
			{
				Name: "revoke", Usage: "take rules back", UsageText: "kraft acl revoke USER RIGHT... [--topic TOPIC]... [--group GROUP]... [--transactional-id ID]... [--cluster]\nkraft acl revoke USER --all",
				Description:  `It removes the rules that kraft acl grant adds with the same words. With --all it removes every rule of the user.`,
				OnUsageError: usageError, Action: withArguments(revoke),
				Flags: slices.Concat([]cli.Flag{bootstrapFlag(), host, &cli.BoolFlag{Name: "deny", Usage: "rules that deny"}, &cli.BoolFlag{Name: "all", Usage: "every rule of the user"}}, resources(), confirmFlags()),
			},
			{
				Name: "why", Usage: "say whether somebody may do something, and which rule decides", UsageText: "kraft acl why --principal User:NAME --operation OPERATION (--topic TOPIC | --group GROUP | --transactional-id ID | --cluster) [--host ADDRESS]",
				OnUsageError: usageError, Action: why,
				Flags: append([]cli.Flag{
					bootstrapFlag(), jsonFlag(),
					&cli.StringFlag{Name: "principal", Usage: "`WHO`: User:NAME, or NAME alone"},
					&cli.StringFlag{Name: "operation", Usage: "what: an `OPERATION` of Kafka's, like Read"},
					&cli.StringFlag{Name: "host", DefaultText: "any", Usage: "from where: an IP `ADDRESS`"},
				}, resources()...),
			},
		},
	}
}

func operationNames() (names []string) {
	for o := acl.All; o <= acl.TwoPhaseCommit; o++ {
		names = append(names, acl.OperationName(o))
	}
	return names
}

// operation is an operation by its name; dashes and case do not matter.
func operation(word string) (acl.Operation, error) {
	for o := acl.All; o <= acl.TwoPhaseCommit; o++ {
		if strings.EqualFold(acl.OperationName(o), strings.NewReplacer("-", "", "_", "").Replace(word)) {
			return o, nil
		}
	}
	return 0, badUse("%s is no right: it is consume, produce, admin, %s", word, strings.Join(operationNames(), ", "))
}

// principalOf is a user as rules name it.
func principalOf(user string) string {
	if strings.Contains(user, ":") {
		return user
	}
	return "User:" + user
}

// target is the resources that a pattern of a type stands for.
type target struct {
	resource acl.Resource
	pattern  acl.Pattern
	name     string
}

// targets are the resources that a command's flags name.
func targets(c *cli.Context) (out []target) {
	for flag, resource := range map[string]acl.Resource{"topic": acl.Topic, "group": acl.Group, "transactional-id": acl.TransactionalID} {
		for _, name := range c.StringSlice(flag) {
			t := target{resource, acl.Literal, name}
			if prefix, ok := strings.CutSuffix(name, "*"); ok && prefix != "" {
				t.pattern, t.name = acl.Prefixed, prefix
			}
			out = append(out, t)
		}
	}
	if c.Bool("cluster") {
		out = append(out, target{acl.Cluster, acl.Literal, acl.ClusterName})
	}
	slices.SortFunc(out, func(a, b target) int { return int(a.resource) - int(b.resource) })
	return out
}

// words are the rights that people have names for: the operation on each type of resource.
var words = map[string]map[acl.Resource]acl.Operation{
	"consume": {acl.Topic: acl.Read, acl.Group: acl.Read},
	"produce": {acl.Topic: acl.Write, acl.TransactionalID: acl.Write},
	"admin":   {acl.Topic: acl.All, acl.Group: acl.All, acl.TransactionalID: acl.All, acl.Cluster: acl.All},
}

// rulesOf are the rules that a command names: of a user, rights and resources.
func rulesOf(c *cli.Context, args []string) ([]ops.Rule, error) {
	if len(args) < 2 {
		return nil, badUse("name a user and a right: %s", c.Command.UsageText)
	}
	permission := acl.Allow
	if c.Bool("deny") {
		permission = acl.Deny
	}
	on := targets(c)
	var out []ops.Rule
	for _, word := range args[1:] {
		of, named := words[strings.ToLower(word)]
		o, err := acl.Operation(0), error(nil)
		if !named {
			if o, err = operation(word); err != nil {
				return nil, err
			}
		}
		here := on
		if strings.EqualFold(word, "admin") && len(on) == 0 {
			here = []target{{acl.Topic, acl.Literal, acl.Any}, {acl.Group, acl.Literal, acl.Any}, {acl.Cluster, acl.Literal, acl.ClusterName}, {acl.TransactionalID, acl.Literal, acl.Any}}
		}
		found := 0
		for _, t := range here {
			does := o
			if named {
				if does = of[t.resource]; does == 0 {
					continue
				}
			}
			if does != acl.All && !slices.Contains(acl.Operations(t.resource), does) {
				return nil, badUse("there is no %s of a %s: it has %s", acl.OperationName(does), acl.Noun(t.resource), operationsOf(t.resource))
			}
			found++
			out = append(out, ops.Rule{Resource: t.resource, Pattern: t.pattern, Name: t.name, Principal: principalOf(args[0]), Host: c.String("host"), Operation: does, Permission: permission})
		}
		if found == 0 {
			return nil, badUse("say on what: %s", strings.Join(flagsFor(of, named), ", "))
		}
	}
	return out, nil
}

func operationsOf(r acl.Resource) string {
	names := []string{acl.OperationName(acl.All)}
	for _, o := range acl.Operations(r) {
		names = append(names, acl.OperationName(o))
	}
	return strings.Join(names, ", ")
}

// flagsFor are the flags that name what a right can be about.
func flagsFor(of map[acl.Resource]acl.Operation, named bool) (out []string) {
	for _, f := range []struct {
		resource acl.Resource
		text     string
	}{{acl.Topic, "--topic TOPIC"}, {acl.Group, "--group GROUP"}, {acl.TransactionalID, "--transactional-id ID"}, {acl.Cluster, "--cluster"}} {
		if _, ok := of[f.resource]; ok || !named {
			out = append(out, f.text)
		}
	}
	return out
}

type ruleLines []ops.Rule

func (l ruleLines) text(w io.Writer) error {
	rows := [][]any{{"PRINCIPAL", "MAY", "OPERATION", "RESOURCE", "NAME", "HOST"}}
	for _, r := range l {
		may, name := "yes", r.Name
		if r.Permission == acl.Deny {
			may = "no"
		}
		if r.Pattern == acl.Prefixed {
			name += "*"
		}
		rows = append(rows, []any{r.Principal, may, acl.OperationName(r.Operation), acl.Noun(r.Resource), name, r.Host})
	}
	return table(w, rows)
}

func listRules(c *cli.Context) error {
	users, err := interspersed(c)
	if err != nil {
		return err
	}
	on := targets(c)
	if len(on) == 0 {
		on = []target{{kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, ""}}
	}
	return withClient(c, func(cl *kgo.Client) error {
		out := ruleLines{}
		for _, t := range on {
			f := acl.Filter{Resource: t.resource, Pattern: kmsg.ACLResourcePatternTypeAny, Operation: kmsg.ACLOperationAny, Permission: kmsg.ACLPermissionTypeAny}
			if t.name != "" {
				f.Name, f.Pattern = &t.name, t.pattern
				if t.pattern == acl.Literal && t.name != acl.Any {
					f.Pattern = kmsg.ACLResourcePatternTypeMatch
				}
			}
			list, err := ops.Rules(c.Context, cl, f)
			if err != nil {
				return noAuthorizer(err)
			}
			out = append(out, list...)
		}
		out = slices.DeleteFunc(out, func(r ops.Rule) bool {
			return len(users) > 0 && !slices.ContainsFunc(users, func(u string) bool { return principalOf(u) == r.Principal })
		})
		return show(c, out, nil)
	})
}

// noAuthorizer says what to do where there are no access control lists.
func noAuthorizer(err error) error {
	if ops.NoAuthorizer(err) {
		return fmt.Errorf("the cluster has no access control lists, so everybody may do everything: start its nodes with authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer and super.users (docs/security.md)")
	}
	return err
}

func grant(c *cli.Context, args []string) error {
	rules, err := rulesOf(c, args)
	if err != nil {
		return err
	}
	return withClient(c, func(cl *kgo.Client) error {
		refused, err := ops.Grant(c.Context, cl, rules)
		if refused != nil {
			err = fmt.Errorf("%s: %w", acl.Binding(*refused), err)
		}
		if err != nil {
			return noAuthorizer(err)
		}
		for _, r := range rules {
			fmt.Fprintln(c.App.Writer, acl.Binding(r))
		}
		return nil
	})
}

func revoke(c *cli.Context, args []string) error {
	var filters []acl.Filter
	lines := []string{"take back every rule of " + principalOf(args[0])}
	if c.Bool("all") {
		if len(args) != 1 || len(targets(c)) > 0 {
			return badUse("--all takes a user alone: kraft acl revoke USER --all")
		}
		who := principalOf(args[0])
		filters = []acl.Filter{{Resource: kmsg.ACLResourceTypeAny, Pattern: kmsg.ACLResourcePatternTypeAny, Principal: &who, Operation: kmsg.ACLOperationAny, Permission: kmsg.ACLPermissionTypeAny}}
	} else {
		rules, err := rulesOf(c, args)
		if err != nil {
			return err
		}
		lines = nil
		for _, r := range rules {
			filters = append(filters, r.Filter())
			lines = append(lines, "take back that "+acl.Binding(r).String())
		}
	}
	return withClient(c, func(cl *kgo.Client) error {
		ok, err := confirm(c, func() ([]string, error) { return lines, nil })
		if err != nil || !ok {
			return err
		}
		gone, err := ops.Revoke(c.Context, cl, filters)
		if err != nil {
			return noAuthorizer(err)
		}
		for _, r := range gone {
			fmt.Fprintln(c.App.Writer, "no longer: "+acl.Binding(r).String())
		}
		if len(gone) == 0 {
			return fmt.Errorf("there is no such rule: kraft acl list %s shows what there is", args[0])
		}
		return nil
	})
}

// answer is what kraft acl why tells.
type answer struct {
	ops.Ruling
	question acl.Question
}

func (a answer) text(w io.Writer) error {
	verb := "may"
	if !a.Allowed {
		verb = "may not"
	}
	q := a.question
	on := acl.Noun(q.Resource) + " " + q.Name
	if q.Resource == acl.Cluster {
		on = "the cluster"
	}
	_, err := fmt.Fprintf(w, "%s %s %s %s: %s.\n", q.Principal, verb, acl.OperationName(q.Operation), on, a.Reason)
	if err == nil && !a.Allowed && a.Rule == nil {
		_, err = fmt.Fprintf(w, "To allow it: kraft acl grant %s %s %s\n", strings.TrimPrefix(q.Principal, "User:"), acl.OperationName(q.Operation), flagOf(q))
	}
	if err == nil && a.Audited {
		_, err = fmt.Fprintln(w, "authorizer.mode is audit: it is let through, and logged.")
	}
	return err
}

// flagOf is the flag that names a question's resource.
func flagOf(q acl.Question) string {
	if q.Resource == acl.Cluster {
		return "--cluster"
	}
	return "--" + strings.ReplaceAll(acl.Noun(q.Resource), " ", "-") + " " + q.Name
}

func why(c *cli.Context) error {
	if args, err := interspersed(c); err != nil || len(args) > 0 {
		return cmp.Or(err, badUse("%s is no option: %s", strings.Join(args, " "), c.Command.UsageText))
	}
	on := targets(c)
	if c.String("principal") == "" || c.String("operation") == "" {
		return badUse("name who and what: %s", c.Command.UsageText)
	}
	if len(on) != 1 {
		return badUse("name one topic, group or transactional id, or the cluster: %s", c.Command.UsageText)
	}
	if on[0].pattern == acl.Prefixed || on[0].name == acl.Any {
		return badUse("ask about one %s by its whole name", acl.Noun(on[0].resource))
	}
	o, err := operation(c.String("operation"))
	if err != nil {
		return err
	}
	host, err := ops.ParseHost(c.String("host"))
	if err != nil {
		return badUse("%v", err)
	}
	q := acl.Question{Principal: principalOf(c.String("principal")), Host: host, Operation: o, Resource: on[0].resource, Name: on[0].name}
	return withClient(c, func(cl *kgo.Client) error {
		ruling, err := ops.Why(c.Context, cl, q)
		return show(c, answer{ruling, q}, err)
	})
}
