package telemetry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"kraft/raftmeta/configs"
	"kraft/wire/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustMatch(t *testing.T, s string) rule {
	t.Helper()
	match, err := configs.ParseMatch(s)
	if err != nil {
		t.Fatal(err)
	}
	return rule{match: match}
}

func TestSubscriptions(t *testing.T) {
	c := Client{InstanceID: [16]byte{1}, ClientID: "app-7", SoftwareName: "apache-kafka-java", SoftwareVersion: "4.4.0", SourceAddress: "10.0.0.9", SourcePort: "4711"}
	for match, want := range map[string]bool{
		"": true, "client_id=app-.*": true, "client_id=app": false, "client_id=app-.*,client_software_name=librdkafka": false,
		"client_source_address=10\\.0\\..*,client_source_port=47..": true, "client_software_version=4.*": true, "client_instance_id=" + c.IDText(): true,
	} {
		if r := mustMatch(t, match); r.matches(&c) != want {
			t.Errorf("%s: not %v", match, want)
		}
	}
	slow := rule{metrics: []string{"a.", "b."}, interval: time.Minute}
	quick := rule{metrics: []string{"b.", "c."}, interval: time.Second}
	other := mustMatch(t, "client_id=x")
	other.metrics, other.interval = []string{"*"}, time.Millisecond
	s := subscriptionFor(c, []rule{slow, quick, other})
	if s.Interval != time.Second || !slices.Equal(s.Metrics, []string{"a.", "b.", "c."}) {
		t.Errorf("asked for %+v", s)
	}
	if all := subscriptionFor(c, []rule{slow, {metrics: []string{"*"}, interval: time.Hour}}); !slices.Equal(all.Metrics, []string{""}) || all.ID == s.ID {
		t.Errorf("all of them: %+v", all)
	}
	if none := subscriptionFor(c, nil); none.Metrics != nil || none.Interval != defaultInterval {
		t.Errorf("nothing: %+v", none)
	}
}

// TestAdmission: who may ask and push when, as Kafka's ClientMetricsManager has it.
func TestAdmission(t *testing.T) {
	m := NewManager(Config{MaxBytes: 100, Log: zerolog.Nop()})
	c := Client{InstanceID: [16]byte{1, 2}}
	s := Subscription{ID: 7, Interval: 10 * time.Second}
	begin := time.Now()
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	get := func(now float64, s Subscription, want error) {
		t.Helper()
		if err := m.admitGet(c, s, at(now)); !errors.Is(err, want) {
			t.Errorf("get at %v s: %v, want %v", now, err, want)
		}
	}
	push := func(now float64, want error, change func(*kmsg.PushTelemetryRequest)) {
		t.Helper()
		req := kmsg.NewPtrPushTelemetryRequest()
		req.ClientInstanceID, req.SubscriptionID = c.InstanceID, 7
		if change != nil {
			change(req)
		}
		if err := m.admitPush(c, s, req, at(now)); !errors.Is(err, want) {
			t.Errorf("push at %v s: %v, want %v", now, err, want)
		}
	}
	get(0, s, nil)
	get(5, s, kerr.ThrottlingQuotaExceeded)
	push(6, nil, nil) // clients wait for a while only before the first
	push(7, kerr.ThrottlingQuotaExceeded, nil)
	push(16, kerr.UnknownSubscriptionID, func(r *kmsg.PushTelemetryRequest) { r.SubscriptionID = 8 })
	get(16, s, nil) // it has a reason to ask
	push(16.5, nil, nil)
	get(17, Subscription{ID: 9, Interval: time.Second}, nil) // there is something else to be told
	s = Subscription{ID: 7, Interval: time.Second}
	push(18, kerr.UnsupportedCompressionType, func(r *kmsg.PushTelemetryRequest) { r.CompressionType = 9 })
	push(20, kerr.TelemetryTooLarge, func(r *kmsg.PushTelemetryRequest) { r.Metrics = make([]byte, 101) })
	push(21, nil, nil)
	push(21.1, nil, func(r *kmsg.PushTelemetryRequest) { r.Terminating = true }) // the last comes early
	push(30, kerr.InvalidRequest, nil)
	c.InstanceID = [16]byte{15: 1}
	push(30, kerr.InvalidRequest, nil)
}

func attribute(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

// pushed is a gauge, a sum from the beginning, and a histogram.
func pushed() *metrics.MetricsData {
	point := func(v float64, attributes ...*common.KeyValue) []*metrics.NumberDataPoint {
		return []*metrics.NumberDataPoint{{Value: &metrics.NumberDataPoint_AsDouble{AsDouble: v}, Attributes: attributes}}
	}
	return &metrics.MetricsData{ResourceMetrics: []*metrics.ResourceMetrics{{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{attribute("client_rack", "r\xff1"), attribute("client_id", "somebody else")}},
		ScopeMetrics: []*metrics.ScopeMetrics{{Metrics: []*metrics.Metric{
			{Name: "org.apache.kafka.producer.latency.avg", Data: &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: point(1.5, attribute("node.id", "3"))}}},
			{Name: "org.apache.kafka.producer.sent", Data: &metrics.Metric_Sum{Sum: &metrics.Sum{DataPoints: point(42), IsMonotonic: true, AggregationTemporality: metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE}}},
			{Name: "h", Data: &metrics.Metric_Histogram{Histogram: &metrics.Histogram{}}},
		}}},
	}}}
}

func TestSeries(t *testing.T) {
	series, dropped := payload{pushed()}.series()
	var got []string
	for _, s := range series {
		got = append(got, fmt.Sprintf("%s%v %v %v", s.Name, s.Labels, s.Value, s.Counter))
	}
	slices.Sort(got)
	want := []string{
		"org_apache_kafka_producer_latency_avg[{client_rack r?1} {node_id 3}] 1.5 false",
		"org_apache_kafka_producer_sent_total[{client_rack r?1}] 42 true",
	}
	if !slices.Equal(got, want) || dropped != 1 {
		t.Errorf("%q, %d dropped", got, dropped)
	}
	many := pushed()
	list := &many.ResourceMetrics[0].ScopeMetrics[0].Metrics
	for n := range maxSeriesOfClient + 5 {
		*list = append(*list, &metrics.Metric{Name: fmt.Sprint("m", n), Data: (*list)[0].Data})
	}
	if series, dropped := (payload{many}).series(); len(series) != maxSeriesOfClient || dropped != 8 {
		t.Errorf("%d series, %d dropped", len(series), dropped)
	}
	for name, want := range map[string]string{"a.b-c": "a_b_c", "9x": "_x", "": "x", "__name__": "x__name__", "é": "x__"} {
		if got := promName(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

// TestTake: what is pushed in any compression is kept and passed on with the client's name; what is broken or too large is not.
func TestTake(t *testing.T) {
	got := make(chan *metrics.MetricsData, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var d metrics.MetricsData
		if err := proto.Unmarshal(b, &d); err != nil {
			t.Error(err)
		}
		got <- &d
	}))
	defer receiver.Close()
	m := NewManager(Config{MaxBytes: 1 << 12, Forward: receiver.URL, Log: zerolog.Nop()})
	defer m.Close()
	c := Client{InstanceID: [16]byte{9}, ClientID: "app"}
	m.instances[c.InstanceID] = &instance{client: c, heard: time.Now()}
	data := pushed()
	data.ResourceMetrics[0].Resource.Attributes = nil
	plain, err := proto.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	for codec := record.None; codec <= record.Zstd; codec++ {
		packed, err := record.Compress(nil, codec, -1, plain)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.take(c, codec, packed); err != nil {
			t.Errorf("%v: %v", codec, err)
		}
		d := <-got
		if a := d.ResourceMetrics[0].Resource.Attributes; len(a) != len(c.Labels()) || a[1].Value.GetStringValue() != "app" {
			t.Errorf("%v: passed on with %v", codec, a)
		}
	}
	told := 0
	m.Each(func(_ Client, s map[string]Series) { told += len(s) })
	if told != 2 || m.series != 2 {
		t.Errorf("%d series, counted %d", told, m.series)
	}
	bomb, err := record.Compress(nil, record.Gzip, -1, make([]byte, 1<<16))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.take(c, record.Gzip, bomb); !errors.Is(err, kerr.TelemetryTooLarge) {
		t.Errorf("a bomb: %v", err)
	}
	for _, codec := range []record.Codec{record.None, record.Gzip} {
		if err := m.take(c, codec, []byte("no metrics")); !errors.Is(err, kerr.InvalidRecord) {
			t.Errorf("%v: %v", codec, err)
		}
	}
}

// TestForgetting: silent and ended clients go, and the one silent for longest makes room.
func TestForgetting(t *testing.T) {
	m := NewManager(Config{Log: zerolog.Nop()})
	now := time.Now()
	s := Subscription{Interval: time.Minute}
	for n := range maxInstances + 1 {
		m.instance(Client{InstanceID: [16]byte{1, byte(n), byte(n >> 8)}}, s, now.Add(time.Duration(n)))
	}
	if _, there := m.instances[[16]byte{1}]; there || len(m.instances) != maxInstances {
		t.Errorf("%d are known, the first among them: %v", len(m.instances), there)
	}
	m.sweep(now.Add(3 * time.Minute))
	if len(m.instances) != maxInstances {
		t.Errorf("%d are left too early", len(m.instances))
	}
	m.sweep(now.Add(3*time.Minute + time.Second))
	if len(m.instances) != 0 {
		t.Errorf("%d are left", len(m.instances))
	}
}
