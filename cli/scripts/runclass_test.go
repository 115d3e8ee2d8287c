package scripts

import (
	"slices"
	"strings"
	"testing"
)

// TestClassScript: what people type behind kafka-run-class.sh is done by a script, with the arguments that it knows.
func TestClassScript(t *testing.T) {
	for args, want := range map[string]string{
		"kafka.tools.GetOffsetShell --broker-list a:1 --topic t":                    "kafka-get-offsets --broker-list a:1 --topic t",
		"-daemon -name zookeeper org.apache.zookeeper.server.quorum.QuorumPeerMain": "zookeeper-server-start -daemon",
		"-loggc kafka.Kafka config":                                                 "kafka-server-start config",
		"kafka.tools.ConsumerOffsetChecker --group g --broker-info --topic t":       "kafka-consumer-groups --describe --group g --topic t",
		"kafka.tools.ConsumerOffsetChecker":                                         "kafka-consumer-groups",
		"kafka.tools.ConsumerOffsetChecker --zkconnect a:1 --group g":               "kafka-consumer-groups --describe --zookeeper a:1 --group g",
		"org.apache.kafka.tools.AclCommand --list":                                  "kafka-acls --list",
		"kafka.tools.Unknown --list":                                                "",
		"":                                                                          "",
	} {
		name, rest, class, ok := ClassScript(strings.Fields(args))
		if got := strings.Join(append([]string{name}, rest...), " "); ok && got != want || ok != (want != "") || !ok && args != "" && class != strings.Fields(args)[0] {
			t.Errorf("%q: %q %v, wanted %q", args, got, ok, want)
		}
		if ok && !slices.Contains(append(Names(), "zookeeper-server-start", "kafka-server-start"), name) {
			t.Errorf("%q: there is no %s", args, name)
		}
	}
}
