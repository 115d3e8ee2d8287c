package main

// benchmarks are all there are, in the order of the report.
var benchmarks = []benchmark{
	{"start", benchStart, []figure{
		{name: "to first Metadata", unit: "ms", wanted: 0.05},
		{name: "to first acknowledged produce", unit: "ms", wanted: 0.05},
		{name: "resident memory idle", unit: "MB", wanted: 0.1},
		{name: "clean stop", unit: "ms", wanted: 0.3},
	}},
	{"produce-acks-1", benchProduce(1), throughput(2.5, 0.3)},
	{"produce-acks-all", benchProduce(-1), throughput(2.5, 0.3)},
	{"fetch-1-reader", benchFetch(1), throughput(1, 1)},
	{"fetch-4-readers", benchFetch(4), throughput(1, 1)},
	{"latency", benchLatency, []figure{
		{name: "end to end p50", unit: "ms", wanted: 0.8},
		{name: "end to end p99", unit: "ms", wanted: 0.5},
		{name: "broker CPU a record", unit: "ms", wanted: 0.2},
	}},
	{"connections", benchConnections, []figure{
		{name: "resident memory in all", unit: "MB", wanted: 0.5},
		{name: "memory a connection", unit: "KB"},
		{name: "answer to another, median", unit: "ms", wanted: 1},
	}},
	{"group", benchGroup, []figure{
		{name: "first group of a new broker", unit: "ms"},
		{name: "a new group later", unit: "ms"},
	}},
	{"perf-1-partition", benchPerf(1), perfTools},
	{"perf-6-partitions", benchPerf(6), perfTools},
}

func throughput(rate, cpu float64) []figure {
	return []figure{
		{name: "throughput", unit: "MB/s", wanted: rate, more: true},
		{name: "broker CPU", unit: "s per GB", wanted: cpu},
	}
}

var perfTools = []figure{
	{name: "producer-perf-test", unit: "records/s", wanted: 1.3, more: true},
	{name: "consumer-perf-test", unit: "records/s", wanted: 1.1, more: true},
}
