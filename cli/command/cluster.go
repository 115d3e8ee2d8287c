package command

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/schollz/progressbar/v3"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
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
				Name: "rebalance", Usage: "move partitions until all brokers hold and lead the same number", UsageText: "kraft cluster rebalance [--dry-run]",
				Description:  "Adds replicas to __consumer_offsets if it has fewer than offsets.topic.replication.factor.\nMoves as few replicas as possible, keeps replicas in different racks, and waits until all have moved. Clients read\nand write the partitions meanwhile. After Ctrl-C, the brokers finish the moves that have begun.",
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

func describeCluster(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.DescribeCluster(c.Context, admin)
		return show(c, (*clusterDescription)(out), err)
	})
}

type clusterDescription ops.ClusterDescription

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
		brokers, parts, err := ops.Assignment(c.Context, admin)
		if err != nil {
			return err
		}
		factors, err := ops.WantedFactors(c.Context, admin, brokers)
		if err != nil {
			return err
		}
		return carryOut(c, admin, plan.Rebalance(brokers, parts, factors), "partitions are spread evenly already")
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
		brokers, parts, err := ops.Assignment(c.Context, admin)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(brokers, func(b plan.Broker) bool { return b.ID == int32(id) }) && !slices.ContainsFunc(parts, func(p plan.Partition) bool { return slices.Contains(p.Replicas, int32(id)) }) {
			return ops.NoBroker(c.Context, admin, int32(id))
		}
		moves, left := plan.Drain(brokers, parts, int32(id))
		if len(left) > 0 {
			return fmt.Errorf("cannot drain: on all other brokers are replicas of %s already, %s-%d first: add a broker, or lower the replication factor", counted(len(left), "partition"), left[0].Topic, left[0].Number)
		}
		return carryOut(c, admin, moves, fmt.Sprintf("broker %d holds nothing", id))
	})
}

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
func carryOut(c *cli.Context, admin *kadm.Client, moves []plan.Move, nothing string) error {
	if len(moves) == 0 && !c.Bool("json") {
		fmt.Fprintln(c.App.Writer, nothing)
		return nil
	}
	if c.Bool("dry-run") {
		return tell(c, plannedMoves(moves))
	}
	rate := c.Int64("throttle")
	if c.IsSet("throttle") && rate <= 0 {
		return badUse("--throttle must be a number of bytes per second above 0")
	}
	bar := progressbar.NewOptions(len(moves), progressbar.OptionSetWriter(c.App.ErrWriter), progressbar.OptionSetDescription("moving partitions"),
		progressbar.OptionSetVisibility(isTerminal(c.App.ErrWriter)), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	if err := ops.Move(c.Context, admin, moves, rate, func(done int) { _ = bar.Set(done) }); err != nil {
		return err
	}
	_ = bar.Finish()
	fmt.Fprintf(c.App.Writer, "moved %s\n", counted(len(moves), "partition"))
	return nil
}
