package metrics

import (
	"fmt"
	"runtime"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/replication"
	"kraft/wire"
)

// jmx are Kafka's well-known metrics as Strimzi's configuration of the JMX exporter names them: dashboards draw them. What there is
// none of in kraft (the JVM's) is left out. Sizes and the like are by topic, not by partition: dashboards sum them.
func (v *view) jmx(o out) {
	const server = "kafka_server_"
	v.topicMeters(func(name string, n int64, labels ...string) {
		o.counter(server+"brokertopicmetrics_"+name+"_total", meterHelp, float64(n), labels...)
	})
	v.kafkaGauges(o)
	v.requests(func(name string, s *wire.RequestStats) {
		name = kafkaName(name)
		counts, total := s.Total.Buckets()
		o.counter("kafka_network_requestmetrics_requests_total", "Requests.", float64(total), "request", name)
		o.counter(totalTimeMs+"_count", "Requests.", float64(total), "request", name)
		totalTimes(o, "From a request's arrival to the end of its answer, in milliseconds: upper bounds, since the start.", name, counts, total)
		o.counter("kafka_network_requestmetrics_requestbytes_total", "Bytes of requests.", float64(s.Received.Load()), "request", name)
	})
	o.counter("kafka_controller_controllerstats_uncleanleaderelections_total", "Unclean elections.", float64(v.unclean))
	o.counter(server+"replicamanager_isrshrinks_total", "ISRs that have become smaller.", float64(v.replication.ISRShrinks))
	o.counter(server+"replicamanager_isrexpands_total", "ISRs that have become larger.", float64(v.replication.ISRExpands))
}

// confluent are the same as Confluent's configuration of the JMX exporter names them.
func (v *view) confluent(o out) {
	const server = "kafka_server_"
	v.topicMeters(func(name string, n int64, labels ...string) {
		o.counter(server+"brokertopicmetrics_"+name+"persec", meterHelp, float64(n), labels...)
	})
	v.kafkaGauges(o)
	v.requests(func(name string, s *wire.RequestStats) {
		name = kafkaName(name)
		counts, total := s.Total.Buckets()
		o.counter("kafka_network_requestmetrics_requestspersec", "Requests.", float64(total), "request", name)
		totalTimes(o, "Milliseconds: upper bounds, since the start.", name, counts, total)
	})
	o.counter("kafka_controller_controllerstats_uncleanleaderelectionspersec", "Unclean elections.", float64(v.unclean))
	o.counter(server+"replicamanager_isrshrinkspersec", "ISRs that have become smaller.", float64(v.replication.ISRShrinks))
	o.counter(server+"replicamanager_isrexpandspersec", "ISRs that have become larger.", float64(v.replication.ISRExpands))
	o.gauge("kafka_coordinator_group_groupmetadatamanager_numgroups", "Groups that this broker coordinates.", float64(len(v.groups)))
}

const totalTimeMs = "kafka_network_requestmetrics_totaltimems"

// totalTimes tells the quantiles of a kind of request's times, of which there are none before the first.
func totalTimes(o out, help, request string, counts map[int]int64, total uint64) {
	if total == 0 {
		return
	}
	for i, q := range wire.Quantiles(counts, total, quantiles...) {
		o.gauge(totalTimeMs, help, q*1000, "request", request, "quantile", strconv.FormatFloat(quantiles[i], 'g', -1, 64))
	}
}

// kafkaName is how Kafka's metrics name a kind of request.
func kafkaName(request string) string {
	if request == wire.APIName(int16(kmsg.Fetch)) {
		return "FetchConsumer"
	}
	return request
}

const meterHelp = "Kafka's BrokerTopicMetrics: with a topic, and of all."

var quantiles = []float64{0.5, 0.75, 0.95, 0.98, 0.99, 0.999}

// topicMeters tells Kafka's meters of topics, and of all of them.
func (v *view) topicMeters(tell func(name string, n int64, labels ...string)) {
	each := func(s *replication.TopicStats, labels ...string) {
		tell("messagesin", s.MessagesIn.Load(), labels...)
		tell("bytesin", s.BytesIn.Load(), labels...)
		tell("bytesout", s.BytesOut.Load(), labels...)
		tell("totalproducerequests", s.Produces.Load(), labels...)
		tell("totalfetchrequests", s.Fetches.Load(), labels...)
		tell("failedproducerequests", s.FailedProduces.Load(), labels...)
		tell("failedfetchrequests", s.FailedFetches.Load(), labels...)
	}
	each(v.replication.All)
	tell("replicationbytesin", v.replication.All.ReplicationBytesIn.Load())
	tell("replicationbytesout", v.replication.All.ReplicationBytesOut.Load())
	for topic, s := range v.replication.Topics {
		each(s, "topic", topic)
	}
}

// kafkaGauges are those that both configurations name alike.
func (v *view) kafkaGauges(o out) {
	gauge := func(name, help string, n int) { o.gauge(name, help, float64(n)) }
	const manager, controller = "kafka_server_replicamanager_", "kafka_controller_kafkacontroller_"
	gauge(manager+"partitioncount", "Replicas on this broker.", v.count.replicas)
	gauge(manager+"leadercount", "Partitions that this broker leads.", v.count.led)
	gauge(manager+"underreplicatedpartitions", "Partitions that this broker leads and that lack a replica in their ISR.", v.count.underReplicated)
	gauge(manager+"underminisrpartitioncount", "Partitions that this broker leads with an ISR smaller than min.insync.replicas.", v.count.underMin)
	gauge(manager+"atminisrpartitioncount", "Partitions that this broker leads with an ISR of min.insync.replicas.", v.count.atMin)
	gauge(manager+"offlinereplicacount", "Replicas on this broker whose log cannot be used.", v.count.offline)
	o.flag(controller+"activecontrollercount", "1 on the active controller.", v.leads)
	if v.leads { // as in Kafka, the controller tells of the cluster
		gauge(controller+"globaltopiccount", "Topics.", v.cluster.topics)
		gauge(controller+"globalpartitioncount", "Partitions.", v.cluster.partitions)
		gauge(controller+"offlinepartitionscount", "Partitions without a leader.", v.cluster.offline)
		gauge(controller+"preferredreplicaimbalancecount", "Partitions that another than their first replica leads.", v.cluster.notPreferred)
		gauge(controller+"activebrokercount", "Brokers that are there.", v.cluster.brokers-v.cluster.fenced)
		gauge(controller+"fencedbrokercount", "Brokers that are not.", v.cluster.fenced)
	}
	if v.Replication != nil {
		gauge("kafka_server_kafkaserver_brokerstate", "1: not registered yet, 2: fenced, 3: running, 6: in controlled shutdown.", brokerState(v.Meta.Image(), v.Meta.NodeID()))
	}
	for listener, n := range v.connections {
		o.gauge("kafka_server_socket_server_metrics_connection_count", "Open connections.", float64(n), "listener", listener, "networkProcessor", "0")
	}
	o.gauge("kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent", "Share of this machine's processors that no request has been handled on, since the scrape before.", v.idle)
	for topic, n := range v.sizes {
		o.gauge("kafka_log_log_size", "Bytes of a topic's logs on this broker.", float64(n), "topic", topic)
	}
	for topic, n := range v.replicas {
		o.gauge("kafka_cluster_partition_replicascount", "Replicas of the partitions of a topic that this broker leads.", float64(n), "topic", topic)
	}
	const raft = "kafka_server_raftmetrics_"
	o.gauge(raft+"current_leader", "The quorum's leader, -1 for none.", float64(v.leader))
	o.gauge(raft+"current_epoch", "Term of the quorum.", float64(v.quorum.Term))
	o.gauge(raft+"high_watermark", "Newest metadata entry that is committed.", float64(v.quorum.Commit))
	state := "follower"
	if v.leads {
		state = "leader"
	}
	o.gauge(raft+"current_state", "This node's part in the quorum, as a label.", 1, "state", state)
	if read, written, ok := diskBytes(); ok {
		o.counter("kafka_server_kafkaserver_linux_disk_read_bytes", "Bytes that this process has had read from disks.", read)
		o.counter("kafka_server_kafkaserver_linux_disk_write_bytes", "Bytes that this process has had written to disks.", written)
	}
}

// Broker states that this broker has, numbered as Kafka's BrokerState. Kafka's RECOVERY is what a broker is in until it is unfenced for the
// first time; here it is fenced whenever it does not serve.
const (
	brokerStarting = 1
	brokerRecovery = 2
	brokerRunning  = 3
	brokerLeaving  = 6 // PENDING_CONTROLLED_SHUTDOWN
)

// brokerState is the state of a broker by the metadata that its node has.
func brokerState(img *image.Image, node int32) int {
	switch b, ok := img.Broker(node); {
	case !ok:
		return brokerStarting
	case b.InControlledShutdown:
		return brokerLeaving
	case b.Fenced:
		return brokerRecovery
	}
	return brokerRunning
}

// exporter are kafka_exporter's. Each broker tells of what it leads and coordinates; together they tell of the cluster.
func (v *view) exporter(o out) {
	o.gauge("kafka_brokers", "Brokers that are there.", float64(v.cluster.brokers-v.cluster.fenced))
	for topic, n := range v.topicPartitions {
		o.gauge("kafka_topic_partitions", "Partitions of the topic.", float64(n), "topic", topic)
	}
	for _, p := range v.replication.Partitions {
		if !p.Leads {
			continue
		}
		labels := []string{"topic", p.Topic, "partition", strconv.Itoa(int(p.Partition))}
		o.gauge("kafka_topic_partition_current_offset", "The high watermark.", float64(p.High), labels...)
		o.gauge("kafka_topic_partition_oldest_offset", "The log start offset.", float64(p.Start), labels...)
		o.gauge("kafka_topic_partition_in_sync_replica", "Replicas in the ISR.", float64(p.InSync), labels...)
		o.gauge("kafka_topic_partition_replicas", "Replicas.", float64(p.Replicas), labels...)
		o.gauge("kafka_topic_partition_leader", "The leader's id.", float64(v.Meta.NodeID()), labels...)
		o.flag("kafka_topic_partition_under_replicated_partition", "A replica is not in the ISR.", p.InSync < p.Replicas, labels...)
		o.flag("kafka_topic_partition_leader_is_preferred", "The first replica leads.", v.preferred(p.Topic, p.Partition), labels...)
	}
	for _, g := range v.groups {
		o.gauge("kafka_consumergroup_members", "Members of the group.", float64(g.Members), "consumergroup", g.Group)
		for tp, offset := range g.Offsets {
			labels := []string{"consumergroup", g.Group, "topic", tp.Topic, "partition", fmt.Sprint(tp.Partition)}
			o.gauge("kafka_consumergroup_current_offset", "The committed offset.", float64(offset), labels...)
			if l, ok := g.lags[tp]; ok {
				o.gauge("kafka_consumergroup_lag", "Records that the group has yet to read.", float64(l.records), labels...)
			}
		}
		for topic, l := range g.topics() {
			o.gauge("kafka_consumergroup_current_offset_sum", "The committed offsets of a topic together.", float64(l.offsets), "consumergroup", g.Group, "topic", topic)
			o.gauge("kafka_consumergroup_lag_sum", "Records of a topic that the group has yet to read.", float64(l.records), "consumergroup", g.Group, "topic", topic)
		}
	}
}

func processors() float64 { return float64(runtime.GOMAXPROCS(0)) }
