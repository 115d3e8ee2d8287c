package telemetry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

// What one client and all may have: what is above is dropped, and counted.
const (
	maxSeriesOfClient = 2000
	maxSeries         = 200_000
	maxLabels         = 32
	maxLabelBytes     = 256
)

// Series is one number that a client has told.
type Series struct {
	Name    string // as Prometheus has names
	Labels  []Label
	Value   float64
	Counter bool // it only grows, while the client lives
}

// Label is a name and a value, both as Prometheus has them.
type Label struct{ Name, Value string }

// payload is what a client has pushed.
type payload struct{ *metrics.MetricsData }

func decode(b []byte) (payload, error) {
	p := payload{new(metrics.MetricsData)}
	if err := proto.Unmarshal(b, p.MetricsData); err != nil {
		return p, fmt.Errorf("not OTLP metrics: %w", err)
	}
	return p, nil
}

// marked adds who pushed it to each resource, and encodes it.
func (p payload) marked(c Client) []byte {
	for _, r := range p.ResourceMetrics {
		if r.Resource == nil {
			r.Resource = new(resource.Resource)
		}
		for _, l := range c.Labels() {
			r.Resource.Attributes = append(r.Resource.Attributes, &common.KeyValue{Key: l.Name, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: l.Value}}})
		}
	}
	b, err := proto.Marshal(p)
	if err != nil {
		return nil // it was decoded a moment ago
	}
	return b
}

// Labels are those by which a client's series are told apart from others'.
func (c *Client) Labels() []Label {
	return []Label{
		{"client_instance_id", c.IDText()}, {"client_id", clean(c.ClientID)}, {"client_software_name", c.SoftwareName},
		{"client_software_version", c.SoftwareVersion}, {"client_source_address", c.SourceAddress},
	}
}

// series are gauges and sums, by name and labels; dropped counts data points of other kinds, and those beyond the limits.
func (p payload) series() (out map[string]Series, dropped int) {
	out = map[string]Series{}
	for _, r := range p.ResourceMetrics {
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				points, counter := pointsOf(m)
				if points == nil {
					dropped++
				}
				for _, point := range points {
					s := Series{Name: metricName(m.Name, counter), Value: number(point), Counter: counter, Labels: labelsOf(r.GetResource().GetAttributes(), point.Attributes)}
					key := s.key()
					if _, again := out[key]; !again && len(out) >= maxSeriesOfClient {
						dropped++
						continue
					}
					out[key] = s
				}
			}
		}
	}
	return out, dropped
}

func pointsOf(m *metrics.Metric) (points []*metrics.NumberDataPoint, counter bool) {
	switch d := m.Data.(type) {
	case *metrics.Metric_Gauge:
		return d.Gauge.DataPoints, false
	case *metrics.Metric_Sum:
		cumulative := d.Sum.AggregationTemporality == metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
		return d.Sum.DataPoints, d.Sum.IsMonotonic && cumulative
	}
	return nil, false
}

func number(p *metrics.NumberDataPoint) float64 {
	if v, ok := p.Value.(*metrics.NumberDataPoint_AsInt); ok {
		return float64(v.AsInt)
	}
	return p.GetAsDouble()
}

func (s *Series) key() string {
	var b strings.Builder
	b.WriteString(s.Name)
	for _, l := range s.Labels {
		b.WriteByte(0)
		b.WriteString(l.Name)
		b.WriteByte(0)
		b.WriteString(l.Value)
	}
	return b.String()
}

// labelsOf are a resource's and a point's attributes, the point's first; the client's own labels are not theirs to set.
func labelsOf(lists ...[]*common.KeyValue) []Label {
	own := map[string]bool{}
	for _, l := range new(Client).Labels() {
		own[l.Name] = true
	}
	found := map[string]string{}
	for _, list := range lists {
		for _, kv := range list {
			if name := promName(kv.GetKey()); !own[name] && (len(found) < maxLabels || found[name] != "") {
				found[name] = clean(text(kv.GetValue()))
			}
		}
	}
	var out []Label
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, Label{name, found[name]})
	}
	return out
}

func text(v *common.AnyValue) string {
	switch k := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return k.StringValue
	case *common.AnyValue_IntValue:
		return strconv.FormatInt(k.IntValue, 10)
	case *common.AnyValue_DoubleValue:
		return strconv.FormatFloat(k.DoubleValue, 'g', -1, 64)
	case *common.AnyValue_BoolValue:
		return strconv.FormatBool(k.BoolValue)
	}
	return ""
}

func clean(s string) string {
	if len(s) > maxLabelBytes {
		s = s[:maxLabelBytes]
	}
	return strings.ToValidUTF8(s, "?")
}

func metricName(name string, counter bool) string {
	name = promName(name)
	if counter && !strings.HasSuffix(name, "_total") {
		name += "_total"
	}
	return name
}

// promName puts underscores for what Prometheus's names may not have: what is no letter, digit or underscore, and a digit at first.
func promName(name string) string {
	out := []byte(name)
	if len(out) > maxLabelBytes {
		out = out[:maxLabelBytes]
	}
	for i, b := range out {
		if b != '_' && (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (i == 0 || b < '0' || b > '9') {
			out[i] = '_'
		}
	}
	if len(out) == 0 || strings.HasPrefix(string(out), "__") { // those are Prometheus's own
		return "x" + string(out)
	}
	return string(out)
}
