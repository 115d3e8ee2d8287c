package main

import "kraft/e2e/harness"

// benchmarks are all there are, in the order of the report.
var benchmarks = []benchmark{
	{name: "start", run: benchStart, figures: []figure{
		{name: "to first Metadata", unit: "ms", wanted: 0.05},
		{name: "to first acknowledged produce", unit: "ms", wanted: 0.05},
		{name: "resident memory idle", unit: "MB", wanted: 0.1},
		{name: "clean stop", unit: "ms", wanted: 0.3},
	}},
	{name: "produce-acks-1", run: benchProduce(1), figures: throughput(2.5, 0.3)},
	{name: "produce-acks-all", run: benchProduce(-1), figures: throughput(2.5, 0.3)},
	{name: "fetch-1-reader", run: benchFetch(1), figures: throughput(1, 1)},
	{name: "fetch-4-readers", run: benchFetch(4), figures: throughput(1, 1)},
	{name: "latency", run: benchLatency, figures: []figure{
		{name: "end to end p50", unit: "ms", wanted: 0.8},
		{name: "end to end p99", unit: "ms", wanted: 0.5},
		{name: "broker CPU a record", unit: "ms", wanted: 0.2},
	}},
	{name: "connections", run: benchConnections, figures: []figure{
		{name: "resident memory in all", unit: "MB", wanted: 0.5},
		{name: "memory a connection", unit: "KB"},
		{name: "answer to another, median", unit: "ms", wanted: 1},
	}},
	{name: "group", run: benchGroup, figures: []figure{
		{name: "first group of a new broker", unit: "ms"},
		{name: "a new group later", unit: "ms"},
	}},
	{name: "compact", run: benchCompact, figures: []figure{{name: "log compacted", unit: "MB/s", wanted: 1.5, more: true}},
		settings: map[string]string{"log.cleaner.backoff.ms": "200"}},
	{name: "cluster-failover", cluster: benchFailover, figures: []figure{
		{name: "longest gap, a leader killed", unit: "ms", wanted: 1},
		{name: "longest gap, the controller killed", unit: "ms", wanted: 1},
		{name: "metadata again after the controller's end", unit: "ms", wanted: 1},
		{name: "longest gap, a broker stopped", unit: "ms", wanted: 0.3},
		{name: "stop of a broker", unit: "ms", wanted: 0.3},
	}},
	{name: "cluster-silence", cluster: benchSilence, figures: []figure{
		{name: "longest gap, a leader silent", unit: "ms", wanted: 1},
		{name: "longest gap, the controller silent", unit: "ms", wanted: 1},
	}},
	{name: "cluster-disk-hangs", cluster: benchDisk((*harness.Disk).Freeze), disks: true, figures: []figure{{name: "longest gap", unit: "ms", wanted: 1}}},
	{name: "cluster-disk-fails", cluster: benchDisk((*harness.Disk).ShutDown), disks: true, figures: []figure{{name: "longest gap", unit: "ms", wanted: 1}}},
	{name: "cluster-disk-full", cluster: benchDisk((*harness.Disk).Fill), disks: true, figures: []figure{{name: "longest gap", unit: "ms", wanted: 1}}},
	{name: "cluster-produce", cluster: benchClusterProduce, figures: throughput(3, 0.25)},
	{name: "cluster-latency", cluster: benchClusterLatency, figures: []figure{
		{name: "acknowledgement p50", unit: "ms"},
		{name: "acknowledgement p99", unit: "ms", wanted: 0.3},
	}},
	{name: "cluster-partitions", cluster: benchClusterPartitions, figures: []figure{
		{name: "3,000 partitions created", unit: "s", wanted: 0.5},
		{name: "each written once", unit: "s", wanted: 0.5},
		{name: "memory a partition", unit: "KB", wanted: 0.3},
		{name: "all led again after a kill", unit: "s", wanted: 1},
	}},
	{name: "transactions-1", cluster: benchTransactions(1), figures: transactionFigures},
	{name: "transactions-10", cluster: benchTransactions(10), figures: transactionFigures},
	{name: "transactions-100", cluster: benchTransactions(100), figures: transactionFigures},
	{name: "transactions-failover", cluster: benchTransactionFailover, figures: []figure{{name: "longest gap, the coordinator killed", unit: "ms", wanted: 1}}},
	{name: "read-committed", cluster: benchReadCommitted, figures: []figure{
		{name: "read_committed", unit: "MB/s", wanted: 1, more: true},
		{name: "of the plain rate", unit: "x"},
	}},
	{name: "perf-1-partition", run: benchPerf(1), figures: perfTools},
	{name: "perf-6-partitions", run: benchPerf(6), figures: perfTools},
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
