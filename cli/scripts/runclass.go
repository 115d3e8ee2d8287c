package scripts

import (
	"slices"
	"strings"
)

// classes are the Java classes that people give kafka-run-class.sh, without their packages, and the scripts that do the same.
var classes = map[string]string{
	"GetOffsetShell":                        "kafka-get-offsets",
	"DumpLogSegments":                       "kafka-dump-log",
	"ConsoleProducer":                       "kafka-console-producer",
	"ConsoleConsumer":                       "kafka-console-consumer",
	"ConsumerOffsetChecker":                 "kafka-consumer-groups",
	"TopicCommand":                          "kafka-topics",
	"ConfigCommand":                         "kafka-configs",
	"AclCommand":                            "kafka-acls",
	"ConsumerGroupCommand":                  "kafka-consumer-groups",
	"ReassignPartitionsCommand":             "kafka-reassign-partitions",
	"PreferredReplicaLeaderElectionCommand": "kafka-preferred-replica-election",
	"LeaderElectionCommand":                 "kafka-leader-election",
	"DeleteRecordsCommand":                  "kafka-delete-records",
	"LogDirsCommand":                        "kafka-log-dirs",
	"BrokerApiVersionsCommand":              "kafka-broker-api-versions",
	"FeatureCommand":                        "kafka-features",
	"MetadataQuorumCommand":                 "kafka-metadata-quorum",
	"ClusterTool":                           "kafka-cluster",
	"StorageTool":                           "kafka-storage",
	"ProducerPerformance":                   "kafka-producer-perf-test",
	"ConsumerPerformance":                   "kafka-consumer-perf-test",
	"Kafka":                                 "kafka-server-start",
	"QuorumPeerMain":                        "zookeeper-server-start",
	"ZooKeeperMain":                         "zkCli",
	"ZooKeeperMainWithTlsSupportForKafka":   "zookeeper-shell",
}

// ClassScript finds the script for the class that kafka-run-class.sh [-daemon] [-name NAME] [-loggc] CLASS [ARGUMENT ...] names, and the
// script's arguments. If there is no such script, ok is false and class is the class that was named.
func ClassScript(args []string) (name string, rest []string, class string, ok bool) {
	daemon := false
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		daemon = daemon || args[0] == "-daemon"
		if args[0] == "-name" && len(args) > 1 {
			args = args[1:]
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return "", nil, "", false
	}
	class, rest = args[0], args[1:]
	base := class[strings.LastIndexByte(class, '.')+1:]
	if name, ok = classes[base]; !ok {
		return "", nil, class, false
	}
	if base == "ConsumerOffsetChecker" && len(rest) > 0 {
		// kafka-consumer-groups has no --broker-info, and Kafka 0.8 had --zkconnect.
		rest = append([]string{"--describe"}, slices.DeleteFunc(slices.Clone(rest), func(a string) bool { return a == "--broker-info" })...)
		if i := slices.Index(rest, "--zkconnect"); i >= 0 {
			rest[i] = "--zookeeper"
		}
	}
	if daemon && strings.HasSuffix(name, "-server-start") {
		rest = append([]string{"-daemon"}, rest...)
	}
	return name, rest, class, true
}
