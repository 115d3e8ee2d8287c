package scripts

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/config"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire/ident"
)

var reassignScript = script{
	about: "move partitions to other brokers and log directories: --generate a plan, --execute one, --verify it, --cancel it, --list what moves",
	options: slices.Concat(connection, zooKeeper, flags("generate", "execute", "verify", "cancel", "list", "additional", "preserve-throttles", "disable-rack-aware", "disallow-replication-factor-change"),
		valued("reassignment-json-file", "topics-to-move-json-file", "broker-list", "throttle", "replica-alter-log-dirs-throttle", "timeout", "bootstrap-controller")),
	run: reassign,
}

// reassigning is one run of kafka-reassign-partitions.
type reassigning struct {
	*call
	client *kgo.Client
	admin  *kadm.Client
	plan   []plannedPartition
}

// plannedPartition is a partition of a plan, as it is in the file and as it is printed.
type plannedPartition struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Replicas  []int32  `json:"replicas"`
	LogDirs   []string `json:"log_dirs"`
}

func (p *plannedPartition) name() ident.TopicPartition {
	return ident.TopicPartition{Topic: p.Topic, Partition: p.Partition}
}

// anyDir leaves it to a broker in which log directory a replica is.
const anyDir = "any"

func reassign(c *call) error {
	action, err := c.one("generate", "execute", "verify", "cancel", "list")
	if err != nil {
		return err
	}
	run, needs := (*reassigning).list, ""
	switch action {
	case "generate":
		run, needs = (*reassigning).generate, "topics-to-move-json-file"
	case "execute":
		run, needs = (*reassigning).execute, "reassignment-json-file"
	case "verify":
		run, needs = (*reassigning).verify, "reassignment-json-file"
	case "cancel":
		run, needs = (*reassigning).cancel, "reassignment-json-file"
	}
	if needs != "" && !c.has(needs) {
		return fmt.Errorf("Missing required argument \"[%s]\"", needs)
	}
	r := &reassigning{call: c}
	if needs == "reassignment-json-file" {
		if r.plan, err = readPlan(c.get(needs, "")); err != nil {
			return err
		}
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	r.client, r.admin = cl, kadm.NewClient(cl)
	return run(r)
}

// ongoing are all partitions that are being moved.
func (r *reassigning) ongoing() (map[ident.TopicPartition]kmsg.ListPartitionReassignmentsResponseTopicPartition, error) {
	req := kmsg.NewPtrListPartitionReassignmentsRequest()
	req.TimeoutMillis = int32(patience.Milliseconds())
	resp, err := req.RequestWith(r.ctx, r.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	all := map[ident.TopicPartition]kmsg.ListPartitionReassignmentsResponseTopicPartition{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			all[ident.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = p
		}
	}
	return all, nil
}

func readPlan(file string) ([]plannedPartition, error) {
	data, err := config.ReadText(file)
	if err != nil {
		return nil, err
	}
	var plan struct{ Partitions []plannedPartition }
	if err := json.Unmarshal(data, &plan); err != nil {
		return nil, fmt.Errorf("%s is no JSON of a reassignment: %w", file, err)
	}
	if len(plan.Partitions) == 0 {
		return nil, errors.New("Partition reassignment list cannot be empty")
	}
	seen := map[ident.TopicPartition]bool{}
	for i := range plan.Partitions {
		p := &plan.Partitions[i]
		switch {
		case len(p.Replicas) == 0:
			return nil, errors.New("Partition replica list cannot be empty")
		case seen[p.name()]:
			return nil, fmt.Errorf("Partition reassignment contains duplicate topic partitions: %v", p.name())
		case len(p.LogDirs) > 0 && len(p.LogDirs) != len(p.Replicas):
			return nil, fmt.Errorf("Size of replicas list %d is different from size of log dirs list %d for partition %v", len(p.Replicas), len(p.LogDirs), p.name())
		}
		for j, id := range p.Replicas {
			if slices.Contains(p.Replicas[:j], id) {
				return nil, fmt.Errorf("Partition replica lists may not contain duplicate entries: %v contains multiple entries for %d", p.name(), id)
			}
		}
		seen[p.name()] = true
	}
	slices.SortFunc(plan.Partitions, func(a, b plannedPartition) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition - b.Partition)
	})
	return plan.Partitions, nil
}

// generate proposes where the partitions of topics could be on a list of brokers.
func (r *reassigning) generate() error {
	data, err := config.ReadText(r.get("topics-to-move-json-file", ""))
	if err != nil {
		return err
	}
	var file struct{ Topics []struct{ Topic string } }
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("%s is no JSON of topics: %w", r.get("topics-to-move-json-file", ""), err)
	}
	var ids []int32
	for _, text := range strings.Split(r.get("broker-list", ""), ",") {
		id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
		if err != nil {
			return fmt.Errorf("--broker-list is the ids of brokers with commas, %q is none", text)
		}
		ids = append(ids, int32(id))
	}
	meta, err := r.admin.Metadata(r.ctx)
	if err != nil {
		return err
	}
	var current, proposed []plannedPartition
	for _, t := range file.Topics {
		detail, ok := meta.Topics[t.Topic]
		if !ok {
			return fmt.Errorf("Topics %s do not exist", t.Topic)
		}
		partitions := detail.Partitions.Sorted()
		for _, p := range partitions {
			current = append(current, plannedPartition{Topic: t.Topic, Partition: p.Partition, Replicas: p.Replicas})
		}
		placed, err := propose(meta.Brokers, ids, t.Topic, partitions, !r.has("disable-rack-aware"))
		if err != nil {
			return err
		}
		proposed = append(proposed, placed...)
	}
	if err := r.locate(current); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "Current partition replica assignment\n%s\n\nProposed partition reassignment configuration\n%s\n", planJSON(current), planJSON(proposed))
	return nil
}

// propose places a topic as if it were created on these brokers alone.
func propose(known kadm.BrokerDetails, ids []int32, topic string, partitions []kadm.PartitionDetail, racks bool) (out []plannedPartition, err error) {
	m := image.Empty()
	for _, b := range known {
		if !slices.Contains(ids, b.NodeID) {
			continue
		}
		node := &image.Broker{ID: b.NodeID}
		if racks {
			node.Rack = b.Rack
		}
		m.Apply(image.Register(node))
	}
	factor := len(partitions[0].Replicas)
	if have := len(m.ActiveBrokers()); have < factor {
		return nil, fmt.Errorf("The target replication factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.", factor, have)
	}
	_, t, err := controller.CreateTopic(m, controller.NewTopic{Name: "t", Partitions: int32(len(partitions)), Factor: int16(factor)}, controller.Defaults{}, controller.NewID(), rand.Uint64())
	if err != nil {
		return nil, err
	}
	for n, p := range t.Partitions {
		out = append(out, plannedPartition{Topic: topic, Partition: partitions[n].Partition, Replicas: p.Replicas, LogDirs: slices.Repeat([]string{anyDir}, len(p.Replicas))})
	}
	return out, nil
}

// locate fills in the log directories that replicas are in.
func (r *reassigning) locate(list []plannedPartition) error {
	all, err := r.admin.DescribeAllLogDirs(r.ctx, nil)
	if err != nil {
		return err
	}
	for i := range list {
		p := &list[i]
		p.LogDirs = nil
		for _, id := range p.Replicas {
			dir := anyDir
			if at, ok := all[id].LookupPartition(p.Topic, p.Partition); ok {
				dir = at.Dir
			}
			p.LogDirs = append(p.LogDirs, dir)
		}
	}
	return nil
}

func planJSON(list []plannedPartition) string {
	data, err := json.Marshal(struct {
		Version    int                `json:"version"`
		Partitions []plannedPartition `json:"partitions"`
	}{1, list})
	if err != nil { // of numbers and strings
		panic(err)
	}
	return string(data)
}

func (r *reassigning) list() error {
	all, err := r.ongoing()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(r.out, "No partition reassignments found.")
		return nil
	}
	fmt.Fprintln(r.out, "Current partition reassignments:")
	for _, name := range sorted(all) {
		m := all[name]
		line := fmt.Sprintf("%v: replicas: %s.", name, join(m.Replicas))
		if len(m.AddingReplicas) > 0 {
			line += fmt.Sprintf(" adding: %s.", join(m.AddingReplicas))
		}
		if len(m.RemovingReplicas) > 0 {
			line += fmt.Sprintf(" removing: %s.", join(m.RemovingReplicas))
		}
		fmt.Fprintln(r.out, line)
	}
	return nil
}

// execute begins a plan.
func (r *reassigning) execute() error {
	meta, err := r.admin.Metadata(r.ctx)
	if err != nil {
		return err
	}
	for _, p := range r.plan {
		for _, id := range p.Replicas {
			if !slices.Contains(meta.Brokers.NodeIDs(), id) {
				return fmt.Errorf("Error: Unknown broker id %d", id)
			}
		}
	}
	ongoing, err := r.ongoing()
	if err != nil {
		return err
	}
	if len(ongoing) > 0 && !r.has("additional") {
		return errors.New("Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a new partition assignment in addition to the existing one. The --additional flag can also be used to change the throttle by resubmitting the current reassignment.")
	}
	var current []plannedPartition
	for _, p := range r.plan {
		d, ok := meta.Topics[p.Topic].Partitions[p.Partition]
		if !ok {
			return fmt.Errorf("Error: Partition %v does not exist", p.name())
		}
		current = append(current, plannedPartition{Topic: p.Topic, Partition: p.Partition, Replicas: d.Replicas})
	}
	if err := r.locate(current); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "Current partition replica assignment\n\n%s\n\nSave this to use as the --reassignment-json-file option during rollback\n", planJSON(current))
	if err := r.throttle(current); err != nil {
		return err
	}
	if err := r.begin(); err != nil {
		return err
	}
	return r.moveDirs()
}

// begin asks for the new replicas.
func (r *reassigning) begin() error {
	req, names := kadm.AlterPartitionAssignmentsReq{}, []string{}
	for _, p := range r.plan {
		req.Assign(p.Topic, p.Partition, p.Replicas)
		names = append(names, p.name().String())
	}
	ctx := r.ctx
	if r.has("disallow-replication-factor-change") {
		ctx = kadm.ForbidAlterRf(ctx)
	}
	results, err := r.admin.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return err
	}
	var failed []string
	for _, p := range r.plan {
		if a := results[p.Topic][p.Partition]; a.Err != nil {
			failed = append(failed, fmt.Sprintf("%v: %s", p.name(), message(a.Err, a.ErrMessage)))
		}
	}
	if failed != nil {
		return errors.New("Error reassigning partition(s):\n" + strings.Join(failed, "\n"))
	}
	fmt.Fprintf(r.out, "Successfully started partition reassignment%s for %s\n", plural(names), strings.Join(names, ","))
	return nil
}

func plural[T any](list []T) string {
	if len(list) == 1 {
		return ""
	}
	return "s"
}

// replicaMove is a replica that is to be in a log directory.
type replicaMove struct {
	ident.TopicPartition
	broker int32
	dir    string
}

func (m replicaMove) String() string { return fmt.Sprintf("%v-%d", m.TopicPartition, m.broker) }

// dirMoves are the replicas of the plan whose directories are given.
func (r *reassigning) dirMoves() (out []replicaMove) {
	for _, p := range r.plan {
		for i, dir := range p.LogDirs {
			if dir != anyDir {
				out = append(out, replicaMove{p.name(), p.Replicas[i], dir})
			}
		}
	}
	return out
}

// moveDirs asks for the log directories. A broker that has no replica yet notes where it is to be made.
func (r *reassigning) moveDirs() error {
	moves := r.dirMoves()
	if len(moves) == 0 {
		return nil
	}
	byBroker := map[int32]kadm.AlterReplicaLogDirsReq{}
	var names []string
	for _, m := range moves {
		if byBroker[m.broker] == nil {
			byBroker[m.broker] = kadm.AlterReplicaLogDirsReq{}
		}
		set := kadm.TopicsSet{}
		set.Add(m.Topic, m.Partition)
		req := byBroker[m.broker]
		req.Add(m.dir, set)
		names = append(names, m.String())
	}
	for broker, req := range byBroker {
		results, err := r.admin.AlterBrokerReplicaLogDirs(r.ctx, broker, req)
		if err != nil {
			return err
		}
		for _, a := range results.Sorted() {
			if a.Err != nil {
				return fmt.Errorf("Failed to move %s-%d on broker %d to %s: %s", a.Topic, a.Partition, broker, a.Dir, javaError(a.Err))
			}
		}
	}
	fmt.Fprintf(r.out, "Successfully started log directory move%s for: %s\n", plural(names), strings.Join(names, ","))
	return nil
}

// verify tells how far a plan is, and takes the throttles away when it is done.
func (r *reassigning) verify() error {
	ongoing, err := r.ongoing()
	if err != nil {
		return err
	}
	meta, err := r.admin.Metadata(r.ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(r.out, "Status of partition reassignment:")
	for _, p := range r.plan {
		replicas := meta.Topics[p.Topic].Partitions[p.Partition].Replicas
		switch _, busy := ongoing[p.name()]; {
		case busy:
			fmt.Fprintf(r.out, "Reassignment of partition %v is still in progress.\n", p.name())
		case slices.Equal(replicas, p.Replicas):
			fmt.Fprintf(r.out, "Reassignment of partition %v is completed.\n", p.name())
		default:
			fmt.Fprintf(r.out, "There is no active reassignment of partition %v, but replica set is %s rather than %s.\n", p.name(), join(replicas), join(p.Replicas))
		}
	}
	movesGoOn, err := r.verifyDirs()
	if err != nil {
		return err
	}
	fmt.Fprintln(r.out)
	if len(ongoing) > 0 || movesGoOn || r.has("preserve-throttles") {
		return nil
	}
	return r.clearThrottles(meta)
}

// where is the directory that the replica is in, and that which it moves to: "" for none.
func (m replicaMove) where(all kadm.DescribedAllLogDirs) (at, future string) {
	all[m.broker].EachPartition(func(p kadm.DescribedLogDirPartition) {
		switch {
		case p.Topic != m.Topic || p.Partition != m.Partition:
		case p.IsFuture:
			future = p.Dir
		default:
			at = p.Dir
		}
	})
	return at, future
}

func (r *reassigning) verifyDirs() (goOn bool, err error) {
	moves := r.dirMoves()
	if len(moves) == 0 {
		return false, nil
	}
	all, err := r.admin.DescribeAllLogDirs(r.ctx, nil)
	if err != nil {
		return false, err
	}
	for _, m := range moves {
		at, future := m.where(all)
		switch {
		case at == m.dir && future == "":
			fmt.Fprintf(r.out, "Reassignment of replica %v completed successfully.\n", m)
		case future == m.dir:
			goOn = true
			fmt.Fprintf(r.out, "Reassignment of replica %v is still in progress.\n", m)
		case future != "":
			goOn = true
			fmt.Fprintf(r.out, "Partition %v on broker %d is being moved to log dir %s instead of %s.\n", m.TopicPartition, m.broker, future, m.dir)
		case at == "":
			fmt.Fprintf(r.out, "Partition %v is not found in any live log dir on broker %d. There is likely an offline log directory on the broker.\n", m.TopicPartition, m.broker)
		default:
			fmt.Fprintf(r.out, "Partition %v on broker %d is not being moved from log dir %s to %s.\n", m.TopicPartition, m.broker, at, m.dir)
		}
	}
	return goOn, nil
}

// cancel takes a plan back as far as it is not done.
func (r *reassigning) cancel() error {
	ongoing, err := r.ongoing()
	if err != nil {
		return err
	}
	req, names := kadm.AlterPartitionAssignmentsReq{}, []string{}
	for _, p := range r.plan {
		if _, busy := ongoing[p.name()]; busy {
			req.CancelAssign(p.Topic, p.Partition)
			names = append(names, p.name().String())
		}
	}
	if len(names) == 0 {
		fmt.Fprintln(r.out, "None of the specified partition reassignments are active.")
	} else {
		results, err := r.admin.AlterPartitionAssignments(r.ctx, req)
		if err == nil {
			err = results.Error()
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(r.out, "Successfully cancelled partition reassignment%s for: %s\n", plural(names), strings.Join(names, ","))
	}
	if err := r.cancelDirs(); err != nil {
		return err
	}
	if r.has("preserve-throttles") {
		return nil
	}
	meta, err := r.admin.Metadata(r.ctx)
	if err != nil {
		return err
	}
	return r.clearThrottles(meta)
}

// cancelDirs moves replicas that are on their way to the plan's directories back to where they are.
func (r *reassigning) cancelDirs() error {
	all, err := r.admin.DescribeAllLogDirs(r.ctx, nil)
	if err != nil {
		return err
	}
	var names []string
	for _, m := range r.dirMoves() {
		at, future := m.where(all)
		if future == "" || at == "" {
			continue
		}
		set, req := kadm.TopicsSet{}, kadm.AlterReplicaLogDirsReq{}
		set.Add(m.Topic, m.Partition)
		req.Add(at, set)
		if _, err := r.admin.AlterBrokerReplicaLogDirs(r.ctx, m.broker, req); err != nil {
			return err
		}
		names = append(names, m.String())
	}
	if names == nil {
		fmt.Fprint(r.out, "None of the specified partition moves are active.") // Kafka's prints no end of the line, either
		return nil
	}
	fmt.Fprintf(r.out, "Successfully cancelled log directory move%s for: %s\n", plural(names), strings.Join(names, ","))
	return nil
}
