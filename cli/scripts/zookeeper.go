package scripts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/config"
	"kraft/raftmeta/quorum"
)

// zooKeeper is the option of scripts that once asked ZooKeeper. Members of the metadata quorum listen at the addresses of zookeeper.connect,
// and know the brokers.
var zooKeeper = []option{{name: "zookeeper"}}

// findBrokers gives a script --bootstrap-server in place of --zookeeper.
func (c *call) findBrokers(script string) error {
	if c.has("bootstrap-server") {
		return errors.New("Only one of --bootstrap-server or --zookeeper must be specified")
	}
	addresses, err := config.ParseZooKeeper(c.get("zookeeper", ""))
	if err != nil {
		return fmt.Errorf("--zookeeper: %w", err)
	}
	var failed error
	for _, address := range addresses {
		brokers, err := brokersAt(c.ctx, address)
		if err == nil && len(brokers) > 0 {
			fmt.Fprintf(c.errOut, "%s: the metadata quorum at %s knows the brokers: --bootstrap-server %s does the same\n", script, address, strings.Join(brokers, ","))
			c.values["bootstrap-server"] = []string{strings.Join(brokers, ",")}
			return nil
		}
		if err == nil {
			err = fmt.Errorf("the quorum at %s knows no broker that runs", address)
		}
		failed = errors.Join(failed, err)
	}
	return fmt.Errorf("--zookeeper %s: %w", strings.Join(addresses, ","), failed)
}

// quorumPatience is how long a member of the quorum may take to answer.
const quorumPatience = 5 * time.Second

// brokersAt asks the node at an address, which may be a quorum's listener, for the brokers that run.
func brokersAt(ctx context.Context, address string) (out []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, quorumPatience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DisableClientMetrics(), kgo.RequestRetries(0))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	answer, err := cl.SeedBrokers()[0].Request(ctx, kmsg.NewPtrDescribeClusterRequest())
	if err != nil {
		dial := func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
		if quorum.IsZooKeeper(ctx, dial, address) {
			err = fmt.Errorf("a ZooKeeper listens at %s: give --bootstrap-server HOST:PORT of a broker in place of --zookeeper", address)
		}
		return nil, err
	}
	for _, b := range answer.(*kmsg.DescribeClusterResponse).Brokers {
		out = append(out, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
	}
	return out, nil
}
