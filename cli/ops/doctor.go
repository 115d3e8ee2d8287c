package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/configs"
	"kraft/wire"
)

// Finding is the result of one check.
type Finding struct {
	Grade string `json:"grade"` // Fine, Warning or Failure
	What  string `json:"what"`
	Says  string `json:"says"`
}

// Grades of a Finding.
const (
	Fine    = "ok"
	Warning = "warning"
	Failure = "FAILED"
)

// Examine connects as a client does, and goes where it is sent, unless another address of the same cluster was examined before.
func Examine(ctx context.Context, given string, login []kgo.Opt, examined map[string]bool) []Finding {
	if !strings.Contains(given, ":") {
		given += ":9092"
	}
	if says := reach(ctx, given); says != "" {
		return []Finding{{Failure, given, says}}
	}
	out := []Finding{{Fine, given, "somebody listens"}}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(given), kgo.ClientID("kraft-doctor"), kgo.DisableClientMetrics(), kgo.RetryTimeout(5 * time.Second), kgo.RequestRetries(1)}, login...)...)
	if err != nil {
		return append(out, Finding{Failure, given, err.Error()})
	}
	defer client.Close()
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(asking, client.SeedBrokers()[0])
	if errors.Is(err, context.DeadlineExceeded) {
		return append(out, Finding{Failure, given, "accepts connections but sends no response: the broker is still loading its logs, its process or machine is frozen, or it is not a Kafka broker"})
	}
	if err != nil {
		return append(out, Finding{Failure, given, "does not speak Kafka's protocol, or not in plain text: " + err.Error()})
	}
	cluster := ""
	if meta.ClusterID != nil {
		cluster = *meta.ClusterID
	}
	out = append(out, Finding{Fine, given, fmt.Sprintf("cluster %s with %s", cluster, Counted(len(meta.Brokers), "broker"))})
	if meta.ControllerID < 0 {
		out = append(out, Finding{Failure, given, ErrNoController.Error()})
	}
	if examined[cluster] {
		return out
	}
	examined[cluster] = true
	all := true
	for _, b := range meta.Brokers {
		f := follow(ctx, given, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), b.NodeID, cluster, login)
		all = all && f.Grade != Failure
		out = append(out, f)
	}
	if !all {
		return out // the rest would only say the same
	}
	admin := kadm.NewClient(client)
	return slices.Concat(out, notRunning(ctx, client), replicas(ctx, admin), disks(ctx, admin), controllerClock(asking, client))
}

// follow goes to the address that clients are told of a broker.
func follow(ctx context.Context, given, told string, id int32, cluster string, login []kgo.Opt) Finding {
	what := fmt.Sprintf("broker %d at %s", id, told)
	if says := reach(ctx, told); says != "" {
		host, _, _ := net.SplitHostPort(told)
		hint := "start that broker; or, if it runs, set its advertised.listeners to an address that this machine can reach"
		if configs.IsLoopback(host) {
			hint = host + " means each client's own machine: " + hint
		}
		return Finding{Failure, what, fmt.Sprintf("clients of %s are sent there, and %s; %s", given, says, hint)}
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(told), kgo.ClientID("kraft-doctor"), kgo.DisableClientMetrics(), kgo.RequestRetries(1)}, login...)...)
	if err != nil {
		return Finding{Failure, what, err.Error()}
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client.SeedBrokers()[0])
	switch {
	case err != nil:
		return Finding{Failure, what, "does not answer: " + err.Error()}
	case meta.ClusterID == nil || *meta.ClusterID != cluster:
		return Finding{Failure, what, "another cluster answers at this address: two brokers advertise the same address, or a port is mapped to the wrong machine"}
	}
	return Finding{Fine, what, "answers"}
}

// reach says why an address cannot be connected to, "" if it can.
func reach(ctx context.Context, address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "is not of the form host:port"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	var dns *net.DNSError
	switch {
	case err == nil:
		_ = conn.Close()
		return ""
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s is not known here", host)
	case wire.IsRefused(err):
		return "nobody listens there"
	case errors.Is(err, context.DeadlineExceeded):
		return "nothing answers there: a firewall, or another network"
	}
	return err.Error()
}

// notRunning tells of the brokers that do not serve as they should.
func notRunning(ctx context.Context, client *kgo.Client) (out []Finding) {
	says := map[string]string{
		Starting: "is loading its logs, which takes long after a crash, and does not serve clients yet",
		DiskFull: "has a full disk: it rejects producers, and other brokers lead its partitions",
		Fenced:   "is fenced: one of its disks does not answer, or it is stopping",
		Down:     "does not run, or the controller does not reach it",
	}
	cluster, states, err := BrokerStates(ctx, client)
	if err != nil {
		return []Finding{{Failure, "brokers", err.Error()}}
	}
	for _, b := range cluster.Brokers {
		if s, amiss := says[states[b.NodeID]]; amiss {
			out = append(out, Finding{Warning, fmt.Sprintf("broker %d at %s", b.NodeID, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))), s})
		}
	}
	return out
}

// replicas looks for partitions that are not as safe as they should be.
func replicas(ctx context.Context, admin *kadm.Client) []Finding {
	meta, err := admin.Metadata(ctx)
	if err != nil {
		return []Finding{{Failure, "partitions", err.Error()}}
	}
	total, leaderless, lacking := 0, []string{}, []string{}
	meta.Topics.EachPartition(func(p kadm.PartitionDetail) {
		total++
		name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
		if p.Leader < 0 {
			leaderless = append(leaderless, name)
		} else if len(p.ISR) < len(p.Replicas) {
			lacking = append(lacking, name)
		}
	})
	slices.Sort(leaderless)
	slices.Sort(lacking)
	var out []Finding
	if len(leaderless) > 0 {
		out = append(out, Finding{Failure, "partitions", "without a leader: " + some(leaderless)})
	}
	if len(lacking) > 0 {
		out = append(out, Finding{Warning, "partitions", "with replicas that are behind or down: " + some(lacking)})
	}
	if few := fewReplicas(ctx, admin, meta); few != "" {
		out = append(out, Finding{Warning, "partitions", few})
	}
	if out == nil {
		out = append(out, Finding{Fine, "partitions", fmt.Sprintf("all %d have their leader and all replicas", total)})
	}
	return out
}

// fewReplicas says which topic was created while too few brokers were registered, "" for none.
func fewReplicas(ctx context.Context, admin *kadm.Client, meta kadm.Metadata) string {
	t, ok := meta.Topics[offsetsTopic]
	if !ok {
		return ""
	}
	brokers := brokersOf(meta)
	factors, err := WantedFactors(ctx, admin, brokers)
	has, wanted := t.Partitions.NumReplicas(), min(factors[offsetsTopic], len(brokers))
	if err != nil || has >= wanted {
		return ""
	}
	return fmt.Sprintf("%s has %d replicas of each partition, and %s is %d: kraft cluster rebalance adds replicas", offsetsTopic, has, offsetsFactor, factors[offsetsTopic])
}

// some names the first few of a list.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// lowDisk is the share of a disk below which it counts as nearly full.
const lowDisk = 0.1

// disks looks for log directories that have failed, or have little room.
func disks(ctx context.Context, admin *kadm.Client) (out []Finding) {
	brokers, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return []Finding{{Failure, "disks", err.Error()}}
	}
	for id, dirs := range brokers {
		for _, d := range dirs {
			what := fmt.Sprintf("broker %d, %s", id, d.Dir)
			switch {
			case d.Err != nil:
				out = append(out, Finding{Failure, what, d.Err.Error()})
			case d.TotalBytes > 0 && float64(d.UsableBytes) < lowDisk*float64(d.TotalBytes):
				out = append(out, Finding{Warning, what, fmt.Sprintf("%d of %d MB are free", d.UsableBytes>>20, d.TotalBytes>>20)})
			}
		}
	}
	if out == nil {
		out = append(out, Finding{Fine, "disks", "all log directories work and have room"})
	}
	return out
}
