package telemetry

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
)

// Client is who pushes metrics.
type Client struct {
	InstanceID                    [16]byte
	ClientID                      string
	SoftwareName, SoftwareVersion string
	SourceAddress, SourcePort     string
}

// IDText is the client's instance id in Kafka's text form.
func (c *Client) IDText() string { return base64.RawURLEncoding.EncodeToString(c.InstanceID[:]) }

// selectors are what subscriptions may match clients by (ClientMetricsConfigs of Kafka).
var selectors = map[string]func(*Client) string{
	configs.ClientInstanceID:      (*Client).IDText,
	configs.ClientID:              func(c *Client) string { return c.ClientID },
	configs.ClientSoftwareName:    func(c *Client) string { return c.SoftwareName },
	configs.ClientSoftwareVersion: func(c *Client) string { return c.SoftwareVersion },
	configs.ClientSourceAddress:   func(c *Client) string { return c.SourceAddress },
	configs.ClientSourcePort:      func(c *Client) string { return c.SourcePort },
}

// rule is one subscription of the cluster.
type rule struct {
	metrics  []string
	interval time.Duration
	match    map[string]*regexp.Regexp // by selector; a client has to match all
}

// subscriptions are the cluster's, of the metadata's client-metrics resources.
func subscriptions(img *image.Image) (out []rule) {
	for _, name := range img.ConfigResources(image.ClientMetricsResource) {
		layers, own := configs.Layers{}, img.Config(image.ClientMetricsResource, name)
		value := func(key string) string {
			if v := layers.ResourceValue(own, configs.ClientMetricsSource, configs.ClientMetrics[key])[0].Value; v != nil {
				return *v
			}
			return ""
		}
		ms, _ := strconv.ParseInt(value("interval.ms"), 10, 64) // it was checked when it was set
		match, err := configs.ParseMatch(value("match"))
		if err != nil {
			continue
		}
		out = append(out, rule{configs.SplitList(value("metrics")), configs.Millis(ms), match})
	}
	return out
}

// Subscription is what one client is asked for.
type Subscription struct {
	ID       int32
	Interval time.Duration
	Metrics  []string // beginnings of names; one that is empty asks for all, none at all for nothing
}

// defaultInterval is how often clients ask that nothing is wanted of.
const defaultInterval = 5 * time.Minute

// subscriptionFor puts together what all rules that match a client ask for: all their metrics, as often as the most impatient wants.
func subscriptionFor(c Client, rules []rule) Subscription {
	s := Subscription{Interval: defaultInterval}
	first := true
	for _, r := range rules {
		if !r.matches(&c) {
			continue
		}
		if first || r.interval < s.Interval {
			s.Interval, first = r.interval, false
		}
		s.Metrics = append(s.Metrics, r.metrics...)
	}
	slices.Sort(s.Metrics)
	s.Metrics = slices.Compact(s.Metrics)
	if slices.Contains(s.Metrics, "*") {
		s.Metrics = []string{""}
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, _ = sum.Write([]byte(strings.Join(s.Metrics, ",")))
	_ = binary.Write(sum, binary.BigEndian, s.Interval.Milliseconds())
	_, _ = sum.Write(c.InstanceID[:])
	s.ID = int32(sum.Sum32())
	return s
}

func (r *rule) matches(c *Client) bool {
	for selector, pattern := range r.match {
		if !pattern.MatchString(selectors[selector](c)) {
			return false
		}
	}
	return true
}

// reserved says that an id means something else than a client: Kafka's Uuid.RESERVED.
func reserved(id [16]byte) bool {
	return [8]byte(id[:8]) == [8]byte{} && binary.BigEndian.Uint64(id[8:]) < 100
}
