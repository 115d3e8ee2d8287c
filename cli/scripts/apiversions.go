package scripts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
)

var apiVersionsScript = script{
	about:   "show which versions of which requests brokers know",
	options: connection,
	run:     apiVersions,
}

func apiVersions(c *call) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return apiVersionsOf(c, cl)
}

// apiVersionsOf asks every broker, and prints what both sides know.
func apiVersionsOf(c *call, cl *kgo.Client) error {
	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(c.ctx, cl)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(cluster.ErrorCode); err != nil {
		return err
	}
	slices.SortFunc(cluster.Brokers, func(a, b kmsg.DescribeClusterResponseBroker) int { return int(a.NodeID - b.NodeID) })
	for _, b := range cluster.Brokers {
		lines, err := knownVersions(c, cl, b.NodeID)
		if err != nil {
			return err
		}
		rack := "null"
		if b.Rack != nil {
			rack = *b.Rack
		}
		fmt.Fprintf(c.out, "%s:%d (id: %d rack: %s isFenced: %t) -> (\n\t%s\n)\n", b.Host, b.Port, b.NodeID, rack, b.IsFenced, strings.Join(lines, ",\n\t"))
	}
	return nil
}

// knownVersions are the lines of one broker: requests between brokers are left out.
func knownVersions(c *call, cl *kgo.Client, broker int32) ([]string, error) {
	versions, err := kadm.NewClient(cl).ApiVersions(c.ctx)
	if err != nil {
		return nil, err
	}
	known := versions[broker]
	if known.Err != nil {
		return nil, known.Err
	}
	var lines []string
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil || betweenBrokers[key] {
			continue
		}
		name := wire.APIName(key)
		low, _ := known.KeyMinVersion(key)
		high, ok := known.KeyMaxVersion(key)
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s(%d): UNSUPPORTED", name, key))
		case low == high:
			lines = append(lines, fmt.Sprintf("%s(%d): %d [usable: %d]", name, key, low, min(high, req.MaxVersion())))
		default:
			lines = append(lines, fmt.Sprintf("%s(%d): %d to %d [usable: %d]", name, key, low, high, min(high, req.MaxVersion())))
		}
	}
	return lines, nil
}

// betweenBrokers are the requests that clients do not send.
var betweenBrokers = map[int16]bool{4: true, 5: true, 6: true, 7: true, 52: true, 53: true, 54: true, 56: true, 58: true, 59: true, 62: true, 63: true, 67: true, 70: true, 73: true, 82: true}
