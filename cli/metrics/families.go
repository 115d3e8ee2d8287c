package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kraft/wire"
)

// out takes metrics on their way to a scrape. Labels are given as name, value, name, value.
type out struct{ ch chan<- prometheus.Metric }

func (o out) counter(name, help string, v float64, labels ...string) {
	o.constant(prometheus.CounterValue, name, help, v, labels)
}

func (o out) gauge(name, help string, v float64, labels ...string) {
	o.constant(prometheus.GaugeValue, name, help, v, labels)
}

func (o out) flag(name, help string, v bool, labels ...string) {
	n := 0.0
	if v {
		n = 1
	}
	o.gauge(name, help, n, labels...)
}

func (o out) constant(kind prometheus.ValueType, name, help string, v float64, labels []string) {
	names, values := split(labels)
	o.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

// native is a native histogram of durations in seconds.
func (o out) native(name, help string, h *wire.Histogram, labels ...string) {
	names, values := split(labels)
	counts, total := h.Buckets()
	m, err := prometheus.NewConstNativeHistogram(prometheus.NewDesc(name, help, names, nil), total, h.Sum().Seconds(), counts, nil, 0, wire.HistogramSchema, prometheus.DefNativeHistogramZeroThreshold, time.Time{}, values...)
	if err != nil {
		m = prometheus.NewInvalidMetric(prometheus.NewDesc(name, help, names, nil), err)
	}
	o.ch <- m
}

func split(labels []string) (names, values []string) {
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	return names, values
}

// dialect makes a collector whose families need not be known before.
type dialect func(out)

// Describe implements prometheus.Collector: the families are as many as there are topics and requests.
func (d dialect) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (d dialect) Collect(ch chan<- prometheus.Metric) { d(out{ch}) }
