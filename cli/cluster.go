package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/plan"
)

func clusterCommand() *cli.Command {
	return &cli.Command{
		Name:  "cluster",
		Usage: "describe a cluster, spread partitions evenly over its brokers, start and stop it on a list of hosts",
		Subcommands: []*cli.Command{
			startCommand(), stopCommand(),
			{
				Name: "describe", Usage: "show brokers with what they hold and lead", UsageText: "kraft cluster describe",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()}, Action: describeCluster,
			},
			{
				Name: "rebalance", Usage: "move partitions until all brokers hold and lead as many", UsageText: "kraft cluster rebalance [--dry-run]",
				Description:  "Moves as few replicas as it takes, keeps replicas in different racks, and waits until all have moved. Partitions\nare read and written meanwhile; ended by Ctrl-C, what was begun goes on.",
				OnUsageError: usageError, Flags: moveFlags(), Action: rebalance,
			},
		},
	}
}

func moveFlags() []cli.Flag {
	return []cli.Flag{
		bootstrapFlag(),
		&cli.BoolFlag{Name: "dry-run", Usage: "show what would move, and move nothing"},
		&cli.BoolFlag{Name: "json", Usage: "print what --dry-run shows as JSON, for programs"},
		&cli.Int64Flag{Name: "throttle", Usage: "move no more than so many `BYTES` a second off or onto a broker"},
	}
}

// assignment reads where all partitions are.
func assignment(c *cli.Context, admin *kadm.Client) (brokers []plan.Broker, parts []plan.Partition, err error) {
	meta, err := admin.Metadata(c.Context)
	if err != nil {
		return nil, nil, err
	}
	for _, b := range meta.Brokers {
		p := plan.Broker{ID: b.NodeID}
		if b.Rack != nil {
			p.Rack = *b.Rack
		}
		brokers = append(brokers, p)
	}
	for _, t := range meta.Topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			parts = append(parts, plan.Partition{Topic: t.Topic, Number: p.Partition, Replicas: p.Replicas})
		}
	}
	return brokers, parts, nil
}

func describeCluster(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		meta, err := admin.Metadata(c.Context)
		if err != nil {
			return err
		}
		partitions, held, leaders := spread(meta.Topics)
		out := &clusterDescription{Cluster: meta.Cluster, Controller: meta.Controller, Partitions: partitions, Brokers: []brokerSummary{}}
		for _, b := range meta.Brokers {
			out.Brokers = append(out.Brokers, brokerSummary{b.NodeID, fmt.Sprintf("%s:%d", b.Host, b.Port), b.Rack, held[b.NodeID], leaders[b.NodeID]})
		}
		return tell(c, out)
	})
}

// spread counts partitions, and by broker the replicas that it holds and the partitions that it leads.
func spread(topics kadm.TopicDetails) (partitions int, held, leads map[int32]int) {
	held, leads = map[int32]int{}, map[int32]int{}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		partitions++
		leads[p.Leader]++
		for _, r := range p.Replicas {
			held[r]++
		}
	})
	return partitions, held, leads
}

// clusterDescription is what cluster describe tells.
type clusterDescription struct {
	Cluster    string          `json:"cluster"`
	Controller int32           `json:"controller"`
	Partitions int             `json:"partitions"`
	Brokers    []brokerSummary `json:"brokers"`
}

type brokerSummary struct {
	Broker   int32   `json:"broker"`
	Address  string  `json:"address"`
	Rack     *string `json:"rack"`
	Replicas int     `json:"replicas"`
	Leads    int     `json:"leads"`
}

func (d *clusterDescription) text(w io.Writer) error {
	fmt.Fprintf(w, "cluster %s  controller %d  brokers %d  partitions %d\n", d.Cluster, d.Controller, len(d.Brokers), d.Partitions)
	rows := [][]any{{"BROKER", "ADDRESS", "RACK", "REPLICAS", "LEADS"}}
	for _, b := range d.Brokers {
		rack := "-"
		if b.Rack != nil {
			rack = orDash(*b.Rack)
		}
		rows = append(rows, []any{b.Broker, b.Address, rack, b.Replicas, b.Leads})
	}
	return table(w, rows)
}

func rebalance(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		brokers, parts, err := assignment(c, admin)
		if err != nil {
			return err
		}
		return carryOut(c, admin, plan.Rebalance(brokers, parts), "partitions are spread evenly already")
	})
}

func drain(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft broker drain takes one broker's id: kraft broker drain 3")
	}
	id, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil {
		return badUse("%q is no broker id", args[0])
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		brokers, parts, err := assignment(c, admin)
		if err != nil {
			return err
		}
		moves, left := plan.Drain(brokers, parts, int32(id))
		if len(left) > 0 {
			return fmt.Errorf("%d partitions, %s-%d first, need as many brokers as there are: add one, or lower their replication factor", len(left), left[0].Topic, left[0].Number)
		}
		return carryOut(c, admin, moves, fmt.Sprintf("broker %d holds nothing", id))
	})
}

// movesAtOnce bounds the partitions that are reassigned at a time.
const movesAtOnce = 100

// plannedMoves are a plan to show.
type plannedMoves []plan.Move

func (l plannedMoves) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "REPLICAS", "BECOME"}}
	for _, m := range l {
		rows = append(rows, []any{m.Topic, m.Number, ids(m.Before), ids(m.Replicas)})
	}
	return table(w, rows)
}

// MarshalJSON implements json.Marshaler.
func (l plannedMoves) MarshalJSON() ([]byte, error) {
	type move struct {
		Topic     string  `json:"topic"`
		Partition int32   `json:"partition"`
		Before    []int32 `json:"before"`
		Replicas  []int32 `json:"replicas"`
	}
	out := []move{}
	for _, m := range l {
		out = append(out, move{m.Topic, m.Number, m.Before, m.Replicas})
	}
	return json.Marshal(out)
}

// carryOut shows a plan, or runs it and waits until it is done.
func carryOut(c *cli.Context, admin *kadm.Client, moves []plan.Move, nothing string) (err error) {
	if len(moves) == 0 && !c.Bool("json") {
		fmt.Fprintln(c.App.Writer, nothing)
		return nil
	}
	if c.Bool("dry-run") {
		return tell(c, plannedMoves(moves))
	}
	if rate := c.Int64("throttle"); c.IsSet("throttle") {
		if rate <= 0 {
			return badUse("--throttle is a number of bytes a second")
		}
		topics := topicsOf(moves)
		if err := throttle(c.Context, admin, topics, rate); err != nil {
			return err
		}
		defer func() {
			if err != nil && c.Context.Err() != nil { // without its throttle what is still moved would race on
				err = fmt.Errorf("%w, at %d bytes a second: kraft partition status shows it; when nothing moves any more, kraft partition unthrottle takes the throttle away", err, rate)
				return
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), 10*time.Second)
			defer cancel()
			if e := throttle(ctx, admin, topics, 0); e != nil && err == nil {
				err = fmt.Errorf("the throttle could not be taken away: %w", e)
			}
		}()
	}
	bar := progressbar.NewOptions(len(moves), progressbar.OptionSetWriter(c.App.ErrWriter), progressbar.OptionSetDescription("moving partitions"),
		progressbar.OptionSetVisibility(isTerminal(c.App.ErrWriter)), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	for done := 0; done < len(moves); {
		batch := moves[done:min(len(moves), done+movesAtOnce)]
		if err := reassign(c, admin, batch, func(n int) { _ = bar.Set(done + n) }); err != nil {
			return err
		}
		done += len(batch)
	}
	_ = bar.Finish()
	fmt.Fprintf(c.App.Writer, "moved %d partitions\n", len(moves))
	return nil
}

// topicsOf names the topics that moves are of.
func topicsOf(moves []plan.Move) (topics []string) {
	for _, m := range moves {
		if n := len(topics); n == 0 || topics[n-1] != m.Topic { // moves are sorted
			topics = append(topics, m.Topic)
		}
	}
	return topics
}

// throttle sets or, for a rate of 0, takes away what slows moves down: the rate on all brokers, and which topics'
// replicas it is for.
func throttle(ctx context.Context, admin *kadm.Client, topics []string, rate int64) error {
	change := func(name, value string) kadm.AlterConfig {
		if rate == 0 {
			return kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name}
		}
		return kadm.AlterConfig{Name: name, Value: &value}
	}
	both := func(suffix, value string) []kadm.AlterConfig {
		return []kadm.AlterConfig{change("leader.replication.throttled."+suffix, value), change("follower.replication.throttled."+suffix, value)}
	}
	resp, err := admin.AlterTopicConfigs(ctx, both("replicas", "*"), topics...)
	if err != nil {
		return err
	}
	more, err := admin.AlterBrokerConfigs(ctx, both("rate", strconv.FormatInt(rate, 10)))
	if err != nil {
		return err
	}
	for _, r := range append(resp, more...) {
		if r.Err != nil {
			return fmt.Errorf("throttle %s: %w", r.Name, explain(r.Err, r.ErrMessage))
		}
	}
	return nil
}

// reassign begins moves, waits until they are done, and lets the preferred replicas lead.
func reassign(c *cli.Context, admin *kadm.Client, moves []plan.Move, progress func(done int)) error {
	req := kadm.AlterPartitionAssignmentsReq{}
	set := kadm.TopicsSet{}
	for _, m := range moves {
		req.Assign(m.Topic, m.Number, m.Replicas)
		set.Add(m.Topic, m.Number)
	}
	resp, err := admin.AlterPartitionAssignments(c.Context, req)
	if err != nil {
		return err
	}
	for _, r := range resp.Sorted() {
		if r.Err != nil {
			return fmt.Errorf("move %s-%d: %w", r.Topic, r.Partition, explain(r.Err, r.ErrMessage))
		}
	}
	for {
		left, err := admin.ListPartitionReassignments(c.Context, set)
		if err != nil {
			return err
		}
		n := 0
		left.Each(func(kadm.ListPartitionReassignmentsResponse) { n++ })
		progress(len(moves) - n)
		if n == 0 {
			break
		}
		select {
		case <-c.Context.Done():
			return fmt.Errorf("%d partitions are still being moved, which goes on", n)
		case <-time.After(200 * time.Millisecond):
		}
	}
	_, err = admin.ElectLeaders(c.Context, kadm.ElectPreferredReplica, set) // one whose first replica cannot lead stays as it is
	return err
}
