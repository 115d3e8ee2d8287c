package metrics

import (
	"fmt"
	"runtime"
	"strconv"

	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/defect"
	"kraft/wire/quota"
)

// own are kraft's own families, kraft_*.
func (v *view) own(o out) {
	o.gauge("kraft_build_info", "The version, as labels.", 1, "version", v.Version, "go", runtime.Version())
	o.gauge("kraft_start_time_seconds", "When the node started, in seconds since 1970.", float64(v.Started.UnixMilli())/1000)
	v.requests(func(name string, s *wire.RequestStats) {
		o.native("kraft_request_seconds", "From the arrival of a request to the end of its answer.", &s.Total, "request", name)
		for p, phase := range wire.Phases {
			o.counter("kraft_request_phase_seconds_total", "Where that time went: handled, waited (for records, replicas, members), queued (behind earlier answers), sent.",
				float64(s.InPhase[p].Load())/1e9, "request", name, "phase", phase)
		}
		o.counter("kraft_request_bytes_total", "Bytes of requests.", float64(s.Received.Load()), "request", name)
		o.counter("kraft_response_bytes_total", "Bytes of answers.", float64(s.Sent.Load()), "request", name)
	})
	for listener, n := range v.connections {
		o.gauge("kraft_connections", "Open connections.", float64(n), "listener", listener)
	}
	o.counter("kraft_connections_accepted_total", "Connections accepted.", float64(v.accepted))
	if v.Authorizer != nil {
		for denied, n := range v.Authorizer.Counts() {
			o.counter("kraft_authorization_denied_total", "Requests refused by the access control lists, or that would be (authorizer.mode=audit).", float64(n),
				"operation", acl.OperationName(denied.Operation), "resource", acl.Noun(denied.Resource))
		}
		o.gauge("kraft_acls", "Rules of the access control lists.", float64(v.Meta.Image().ACLs().Len()))
	}
	for listener, at := range v.Certificates() {
		o.gauge("kraft_certificate_expiry_timestamp_seconds", "When the listener's certificate expires, in seconds since 1970.", float64(at.Unix()), "listener", listener)
	}
	for k, t := range v.Quotas.Throttled() {
		o.counter("kraft_throttled_total", "Requests whose clients were throttled.", float64(t.Times), "quota", quota.Keys[k])
		o.counter("kraft_throttle_seconds_total", "For how long clients were throttled.", t.Time.Seconds(), "quota", quota.Keys[k])
	}
	o.counter("kraft_connections_parked_total", "Connections that were not served because their address opened too many in a second (connection_creation_rate).", float64(v.parked))
	v.ownTopics(o)
	v.ownGroups(o)
	v.ownClients(o)
	o.gauge("kraft_partitions", "Replicas on this broker.", float64(v.count.replicas))
	o.gauge("kraft_partitions_led", "Partitions that this broker leads.", float64(v.count.led))
	o.gauge("kraft_partitions_under_replicated", "Of those, partitions that lack a replica in their ISR.", float64(v.count.underReplicated))
	o.gauge("kraft_partitions_under_min_isr", "Of those, partitions whose ISR is smaller than min.insync.replicas.", float64(v.count.underMin))
	o.gauge("kraft_partitions_at_min_isr", "Of those, partitions whose ISR is as small as min.insync.replicas allows.", float64(v.count.atMin))
	o.gauge("kraft_replicas_offline", "Replicas on this broker whose log cannot be used.", float64(v.count.offline))
	o.counter("kraft_isr_shrinks_total", "ISRs that have become smaller under this leader.", float64(v.replication.ISRShrinks))
	o.counter("kraft_isr_expands_total", "ISRs that have become larger under this leader.", float64(v.replication.ISRExpands))
	for part, n := range defect.Counts() {
		o.counter("kraft_defects_total", "Mistakes in kraft that ended what they happened in, not the process: the log says which.", float64(n), "part", part)
	}
	for _, d := range v.dirs {
		o.flag("kraft_log_dir_online", "The log directory works.", d.Err == nil, "dir", d.Path)
		if d.Err == nil {
			o.gauge("kraft_log_dir_size_bytes", "Size of the log directory's file system.", float64(d.Total), "dir", d.Path)
			o.gauge("kraft_log_dir_free_bytes", "Room in it.", float64(d.Usable), "dir", d.Path)
		}
	}
	o.flag("kraft_controller_active", "This node is the active controller.", v.leads)
	o.gauge("kraft_quorum_term", "Term of the metadata quorum.", float64(v.quorum.Term))
	o.gauge("kraft_quorum_committed_index", "Newest metadata entry that is committed.", float64(v.quorum.Commit))
	o.gauge("kraft_quorum_applied_index", "Newest metadata entry that this node goes by.", float64(v.quorum.Applied))
	o.gauge("kraft_cluster_brokers", "Registered brokers.", float64(v.cluster.brokers))
	o.gauge("kraft_cluster_brokers_fenced", "Of those, brokers that are not there.", float64(v.cluster.fenced))
	o.gauge("kraft_cluster_topics", "Topics of the cluster.", float64(v.cluster.topics))
	o.gauge("kraft_cluster_partitions", "Partitions of the cluster.", float64(v.cluster.partitions))
	o.gauge("kraft_cluster_partitions_offline", "Of those, partitions without a leader.", float64(v.cluster.offline))
	o.gauge("kraft_cluster_partitions_not_preferred", "Of those, partitions that another than their first replica leads.", float64(v.cluster.notPreferred))
	o.counter("kraft_cluster_unclean_elections_total", "Unclean elections that this node has seen.", float64(v.unclean))
}

func (v *view) ownTopics(o out) {
	for topic, s := range v.replication.Topics {
		count := func(name, help string, n int64) {
			o.counter("kraft_topic_"+name+"_total", help, float64(n), "topic", topic)
		}
		count("messages_in", "Records of producers.", s.MessagesIn.Load())
		count("bytes_in", "Bytes of producers.", s.BytesIn.Load())
		count("bytes_out", "Bytes to consumers.", s.BytesOut.Load())
		count("replication_bytes_in", "Bytes from leaders.", s.ReplicationBytesIn.Load())
		count("replication_bytes_out", "Bytes to followers.", s.ReplicationBytesOut.Load())
		count("produce_requests", "Partitions of Produce requests.", s.Produces.Load())
		count("produce_failures", "Of those, refused.", s.FailedProduces.Load())
		count("fetch_requests", "Partitions of Fetch requests.", s.Fetches.Load())
		count("fetch_failures", "Of those, refused.", s.FailedFetches.Load())
		o.gauge("kraft_topic_log_bytes", "Bytes of the topic's logs on this broker.", float64(v.sizes[topic]), "topic", topic)
	}
	if !v.partitions {
		return
	}
	for _, p := range v.replication.Partitions {
		labels := []string{"topic", p.Topic, "partition", strconv.Itoa(int(p.Partition))}
		o.gauge("kraft_partition_log_start_offset", "The first offset.", float64(p.Start), labels...)
		o.gauge("kraft_partition_high_watermark", "The offset below which all is committed.", float64(p.High), labels...)
		o.gauge("kraft_partition_log_end_offset", "The next offset.", float64(p.End), labels...)
		o.gauge("kraft_partition_log_bytes", "Bytes of the log.", float64(p.Size), labels...)
		o.flag("kraft_partition_led", "This broker leads the partition.", p.Leads, labels...)
	}
}

func (v *view) ownGroups(o out) {
	for _, g := range v.groups {
		o.gauge("kraft_group_members", "Members of the group.", float64(g.Members), "group", g.Group, "state", g.State)
		for topic, l := range g.topics() {
			o.gauge("kraft_group_lag_records", "Records that the group has yet to read.", float64(l.records), "group", g.Group, "topic", topic)
			o.gauge("kraft_group_lag_seconds", "Age of the oldest of them, 0 for none.", l.age(v.now).Seconds(), "group", g.Group, "topic", topic)
		}
		if !v.partitions {
			continue
		}
		for tp, l := range g.lags {
			o.gauge("kraft_group_partition_lag_records", "Records that the group has yet to read.", float64(l.records), "group", g.Group, "topic", tp.Topic, "partition", fmt.Sprint(tp.Partition))
		}
	}
}
