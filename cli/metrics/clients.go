package metrics

import (
	"maps"

	"kraft/raftmeta/telemetry"
)

// ownClients tells of pushing clients, not what they push.
func (v *view) ownClients(o out) {
	if v.Telemetry == nil {
		return
	}
	c, clients := v.Telemetry.Counts()
	o.gauge("kraft_client_metrics_clients", "Clients that push metrics to this broker.", float64(clients))
	o.counter("kraft_client_metrics_pushes_total", "Pushes of clients that were taken.", float64(c.Pushed))
	o.counter("kraft_client_metrics_refused_total", "Requests of clients about their metrics that were refused.", float64(c.Refused))
	o.counter("kraft_client_metrics_dropped_total", "Data points that could not be kept: of kinds that are none of gauges and sums, or beyond the limits.", float64(c.Dropped))
	o.counter("kraft_client_metrics_forward_failures_total", "Pushes that telemetry.otlp.endpoint did not get.", float64(c.ForwardFailed))
}

// clients are the metrics that clients have pushed, with who pushed them. They are told apart from the broker's own, whose names and
// kinds are not theirs to choose.
func (v *view) clients(o out) {
	if v.Telemetry == nil {
		return
	}
	kinds := map[string]bool{} // a family is of one kind, that of the first client's
	v.Telemetry.Each(func(c telemetry.Client, series map[string]telemetry.Series) {
		var who []string
		for _, l := range c.Labels() {
			who = append(who, l.Name, l.Value)
		}
		for s := range maps.Values(series) {
			if counter, known := kinds[s.Name]; known && counter != s.Counter {
				continue
			}
			kinds[s.Name] = s.Counter
			labels := who[:len(who):len(who)]
			for _, l := range s.Labels {
				labels = append(labels, l.Name, l.Value)
			}
			tell := o.gauge
			if s.Counter {
				tell = o.counter
			}
			tell(s.Name, "Pushed by clients.", s.Value, labels...)
		}
	})
}
