package command

import (
	"strings"
	"testing"
)

func TestExplainConfig(t *testing.T) {
	for key, want := range map[string]string{
		"retention.ms":                "or log.retention.hours, or \"604800000\"",
		"compression.gzip.level":      "from 1 to 9, or -1",
		"node.id":                     "at the next start",
		"num.io.threads":              "no effect  kraft has no pools of threads",
		"zookeeper.connect":           "at which the metadata quorum listens",
		"zookeeper.set.acl":           "no effect  there is no ZooKeeper",
		"consumer.session.timeout.ms": "a setting of groups",
		"interval.ms":                 "from 100 to 3600000",
	} {
		var b strings.Builder
		if !explainConfig(&b, key) || !strings.Contains(b.String(), want) {
			t.Errorf("%s: %q is not in\n%s", key, want, b.String())
		}
	}
	var b strings.Builder
	if explainConfig(&b, "no.such.key") || b.Len() > 0 {
		t.Errorf("a key that there is not is explained: %s", b.String())
	}
}
