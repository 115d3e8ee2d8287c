package scripts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/ident"
)

var consumerGroupsScript = script{
	about: "list, describe and delete consumer groups, and reset or delete their offsets",
	options: slices.Concat(connection, zooKeeper, flags("new-consumer", "list", "describe", "delete", "delete-offsets", "reset-offsets", "all-groups", "all-topics", "offsets", "members", "verbose",
		"dry-run", "execute", "export", "to-earliest", "to-latest", "to-current"),
		valued("group", "topic", "timeout", "to-offset", "to-datetime", "by-duration", "shift-by", "from-file"), []option{{name: "state", maybe: true}, {name: "type", maybe: true}}),
	run: consumerGroups,
}

func consumerGroups(c *call) error {
	action, err := c.one("list", "describe", "delete", "reset-offsets", "delete-offsets")
	if err != nil {
		return err
	}
	if action != "list" && !c.has("group") && !c.has("all-groups") {
		return errors.New("Option [" + action + "] takes one of these options: [group], [all-groups]")
	}
	return c.admin(func(admin *kadm.Client) error {
		g := &groupsCall{c, admin}
		err := map[string]func() error{"list": g.list, "describe": g.describe, "delete": g.delete, "reset-offsets": g.reset, "delete-offsets": g.deleteOffsets}[action]()
		var status statusError
		if err != nil && !errors.As(err, &status) {
			fmt.Fprintf(c.out, "\nError: Executing consumer group command failed due to %s\n", javaError(err))
			return nil // as Kafka's tool, it succeeds all the same
		}
		return err
	})
}

type groupsCall struct {
	*call
	cluster *kadm.Client
}

// javaError is an error as a Java client names it.
func javaError(err error) string {
	var k *kerr.Error
	if !errors.As(err, &k) {
		return err.Error()
	}
	name := ""
	for _, word := range strings.Split(strings.ToLower(k.Message), "_") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	words := k.Description
	if before, ok := strings.CutSuffix(err.Error(), ": "+k.Error()); ok {
		words = before
	}
	return "org.apache.kafka.common.errors." + name + "Exception: " + words
}

// names are the groups of --group or --all-groups.
func (g *groupsCall) names() ([]string, error) {
	if !g.has("all-groups") {
		return g.all("group"), nil
	}
	list, err := g.cluster.ListGroups(g.ctx)
	return list.Groups(), err
}

// states reads the list of --state.
func states(text string) (out []string) {
	for _, s := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		out = append(out, strings.ToLower(strings.ReplaceAll(s, "_", "")))
	}
	return out
}

func (g *groupsCall) list() error {
	list, err := g.cluster.ListGroups(g.ctx)
	if err != nil {
		return err
	}
	only := states(g.get("state", ""))
	if !g.has("state") {
		for _, e := range list.Sorted() {
			fmt.Fprintln(g.out, e.Group)
		}
		return nil
	}
	wide := 15
	for _, e := range list {
		wide = max(wide, len(e.Group))
	}
	fmt.Fprintf(g.out, "%-*s %s\n", wide, "GROUP", "STATE")
	for _, e := range list.Sorted() {
		if only == nil || slices.Contains(only, strings.ToLower(e.State)) {
			fmt.Fprintf(g.out, "%-*s %s\n", wide, e.Group, e.State)
		}
	}
	return nil
}

func (g *groupsCall) describe() error {
	names, err := g.names()
	if err != nil {
		return err
	}
	described, err := g.cluster.DescribeGroups(g.ctx, names...)
	if err != nil {
		return err
	}
	for _, name := range names {
		d := described[name]
		if d.Err != nil && !errors.Is(d.Err, kerr.GroupIDNotFound) {
			return d.Err
		}
		if d.Err != nil || d.State == "Dead" {
			return fmt.Errorf("Group %s not found.: %w", name, kerr.GroupIDNotFound)
		}
		if len(d.Members) == 0 {
			fmt.Fprintf(g.errOut, "\nConsumer group '%s' has no active members.\n", name)
		}
		switch {
		case g.has("state"):
			err = g.describeState(d)
		case g.has("members"):
			g.describeMembers(d)
		default:
			err = g.describeOffsets(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *groupsCall) describeState(d kadm.DescribedGroup) error {
	coordinator := fmt.Sprintf("%s:%d  (%d)", d.Coordinator.Host, d.Coordinator.Port, d.Coordinator.NodeID)
	strategy := d.Protocol
	if strategy == "" {
		strategy = "-"
	}
	fmt.Fprintf(g.out, "\n%-25s %-25s %-20s %-20s %s", "GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS")
	fmt.Fprintf(g.out, "\n%-25s %-25s %-20s %-20s %d\n", d.Group, coordinator, strategy, d.State, len(d.Members))
	return nil
}

func (g *groupsCall) describeMembers(d kadm.DescribedGroup) {
	instances := slices.ContainsFunc(d.Members, func(m kadm.DescribedGroupMember) bool { return m.InstanceID != nil })
	row := func(group, consumer, instance, host, client, count, assignment string) {
		fmt.Fprintf(g.out, "\n%-15s %-15s ", group, consumer)
		if instances {
			fmt.Fprintf(g.out, "%-15s ", instance)
		}
		fmt.Fprintf(g.out, "%-15s %-15s %-15s ", host, client, count)
		if g.has("verbose") {
			fmt.Fprint(g.out, assignment)
		}
	}
	row("GROUP", "CONSUMER-ID", "GROUP-INSTANCE-ID", "HOST", "CLIENT-ID", "#PARTITIONS", "ASSIGNMENT")
	for _, m := range d.Members {
		instance := ""
		if m.InstanceID != nil {
			instance = *m.InstanceID
		}
		count, text := 0, []string{}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				count += len(t.Partitions)
				text = append(text, fmt.Sprintf("%s(%s)", t.Topic, join(t.Partitions)))
			}
		}
		assignment := "-"
		if len(text) > 0 {
			assignment = strings.Join(text, ", ")
		}
		row(d.Group, m.MemberID, instance, m.ClientHost, m.ClientID, strconv.Itoa(count), assignment)
	}
	fmt.Fprintln(g.out)
}

func (g *groupsCall) describeOffsets(d kadm.DescribedGroup) error {
	commits, err := g.cluster.FetchOffsets(g.ctx, d.Group)
	if err != nil {
		return err
	}
	owner := map[ident.TopicPartition]*kadm.DescribedGroupMember{}
	wanted := map[ident.TopicPartition]bool{}
	commits.Each(func(o kadm.OffsetResponse) {
		wanted[ident.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = true
	})
	for i := range d.Members {
		if a, ok := d.Members[i].Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				for _, n := range t.Partitions {
					owner[ident.TopicPartition{Topic: t.Topic, Partition: n}] = &d.Members[i]
					wanted[ident.TopicPartition{Topic: t.Topic, Partition: n}] = true
				}
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	ends, err := g.offsets(wanted, -1)
	if err != nil {
		return err
	}
	group, topic, consumer, host := max(15, len(d.Group)), 15, 15, 15
	for p := range wanted {
		topic = max(topic, len(p.Topic))
		if m := owner[p]; m != nil {
			consumer, host = max(consumer, len(m.MemberID)), max(host, len(m.ClientHost))
		}
	}
	row := func(cells ...string) {
		fmt.Fprintf(g.out, "\n%-*s %-*s %-10s %-15s %-15s %-15s %-*s %-*s %s", group, cells[0], topic, cells[1], cells[2], cells[3], cells[4], cells[5], consumer, cells[6], host, cells[7], cells[8])
	}
	row("GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID")
	for _, p := range sorted(wanted) {
		current, end, lag, id, at, client := "-", "-", "-", "-", "-", "-"
		if e, ok := ends[p]; ok {
			end = strconv.FormatInt(e, 10)
		}
		if o, ok := commits.Lookup(p.Topic, p.Partition); ok && o.Err == nil && o.At >= 0 {
			current = strconv.FormatInt(o.At, 10)
			if e, ok := ends[p]; ok {
				lag = strconv.FormatInt(e-o.At, 10)
			}
		}
		if m := owner[p]; m != nil {
			id, at, client = m.MemberID, m.ClientHost, m.ClientID
		}
		row(d.Group, p.Topic, strconv.Itoa(int(p.Partition)), current, end, lag, id, at, client)
	}
	fmt.Fprintln(g.out)
	return nil
}

func (g *groupsCall) delete() error {
	names, err := g.names()
	if err != nil {
		return err
	}
	deleted, err := g.cluster.DeleteGroups(g.ctx, names...)
	if err != nil {
		return err
	}
	var good, bad []string
	for _, name := range names {
		if r := deleted[name]; r.Err != nil {
			bad = append(bad, fmt.Sprintf("* Group '%s' could not be deleted due to: %s", name, javaError(r.Err)))
		} else {
			good = append(good, "'"+name+"'")
		}
	}
	if bad == nil {
		fmt.Fprintf(g.out, "Deletion of requested consumer groups (%s) was successful.\n", strings.Join(good, ", "))
		return nil
	}
	fmt.Fprintf(g.out, "\nError: Deletion of some consumer groups failed:\n%s\n", strings.Join(bad, "\n"))
	if good != nil {
		fmt.Fprintf(g.out, "\nThese consumer groups were deleted successfully: %s\n", strings.Join(good, ", "))
	}
	return nil
}

func (g *groupsCall) deleteOffsets() error {
	group := g.get("group", "")
	wanted, err := g.partitions(group)
	if err != nil {
		return err
	}
	set := kadm.TopicsSet{}
	for p := range wanted {
		set.Add(p.Topic, p.Partition)
	}
	resp, err := g.cluster.DeleteOffsets(g.ctx, group, set)
	if err != nil {
		return err
	}
	failed := false
	for p := range wanted {
		failed = failed || resp[p.Topic][p.Partition] != nil
	}
	if failed {
		fmt.Fprintf(g.out, "\nEncountered some partition level error, see the follow-up details:\n")
	} else {
		fmt.Fprintf(g.out, "Request succeeded for deleting offsets from group %s.\n", group)
	}
	fmt.Fprintf(g.out, "\n%-30s %-15s %-15s\n", "TOPIC", "PARTITION", "STATUS")
	for _, p := range sorted(wanted) {
		status := "Successful"
		if err := resp[p.Topic][p.Partition]; err != nil {
			status = "Error: " + message(err, "")
		}
		fmt.Fprintf(g.out, "%-30s %-15d %-15s\n", p.Topic, p.Partition, status)
	}
	return nil
}

var groupsScript = script{
	about:   "list groups of all types",
	options: slices.Concat(connection, flags("list", "consumer", "share", "streams"), valued("group-type", "protocol")),
	run:     listGroups,
}

func listGroups(c *call) error {
	if _, err := c.one("list"); err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	var list []kmsg.ListGroupsResponseGroup
	for _, shard := range cl.RequestSharded(c.ctx, kmsg.NewPtrListGroupsRequest()) { // every coordinator has some
		if shard.Err != nil {
			return shard.Err
		}
		resp := shard.Resp.(*kmsg.ListGroupsResponse)
		if err := answer(resp.ErrorCode, nil); err != nil {
			return err
		}
		list = append(list, resp.Groups...)
	}
	slices.SortFunc(list, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	wide := 15
	for _, e := range list {
		wide = max(wide, len(e.Group))
	}
	fmt.Fprintf(c.out, "%-*s %-15s %s\n", wide, "GROUP", "TYPE", "PROTOCOL")
	for _, e := range list {
		kind := e.GroupType
		if kind != "" {
			kind = strings.ToUpper(kind[:1]) + kind[1:]
		}
		if (!c.has("group-type") || strings.EqualFold(kind, c.get("group-type", ""))) && (!c.has("protocol") || e.ProtocolType == c.get("protocol", "")) &&
			(!c.has("consumer") || e.ProtocolType == "consumer") && (!c.has("share") || kind == "Share") && (!c.has("streams") || kind == "Streams") {
			fmt.Fprintf(c.out, "%-*s %-15s %s\n", wide, e.Group, kind, e.ProtocolType)
		}
	}
	return nil
}
