package configs

import "testing"

func TestChecks(t *testing.T) {
	for _, tc := range []struct {
		table map[string]*Definition
		key   string
		value string
		ok    bool
	}{
		{Topic, "retention.ms", "-1", true}, {Topic, "retention.ms", "-2", false}, {Topic, "retention.ms", "soon", false},
		{Topic, "cleanup.policy", "compact,delete", true}, {Topic, "cleanup.policy", "", true}, {Topic, "cleanup.policy", "shred", false},
		{Topic, "compression.type", "zstd", true}, {Topic, "compression.type", "rar", false},
		{Topic, "compression.gzip.level", "-1", true}, {Topic, "compression.gzip.level", "0", false}, {Topic, "compression.gzip.level", "9", true},
		{Topic, "segment.bytes", "1048576", true}, {Topic, "segment.bytes", "9999999999", false},
		{Topic, "preallocate", "TRUE", true}, {Topic, "preallocate", "yes", false},
		{Topic, "min.cleanable.dirty.ratio", "0.5", true}, {Topic, "min.cleanable.dirty.ratio", "1.5", false},
		{Broker, "offsets.topic.num.partitions", "0", false}, {Broker, "node.id", "0", true}, {Broker, "node.id", "-1", false},
	} {
		if err := tc.table[tc.key].Check(tc.value); (err == nil) != tc.ok {
			t.Errorf("%s=%s: %v", tc.key, tc.value, err)
		}
	}
}

// TestLayers: a topic's own value hides the broker's, that of the broker the cluster's, those in
// milliseconds those in minutes and hours.
func TestLayers(t *testing.T) {
	l := Layers{Static: map[string]string{"log.retention.hours": "2"}}
	step := func(want string, sources ...Source) {
		t.Helper()
		values := l.TopicValue(Topic["retention.ms"])
		if *values[0].Value != want || len(values) != len(sources) {
			t.Fatalf("%d values, the first %s; want %s of %d", len(values), *values[0].Value, want, len(sources))
		}
		for i, s := range sources {
			if values[i].Source != s {
				t.Errorf("value %d comes from %d, want %d", i, values[i].Source, s)
			}
		}
	}
	step("7200000", StaticSource, DefaultSource)
	l.Static["log.retention.minutes"] = "3"
	step("180000", StaticSource, StaticSource, DefaultSource)
	l.ClusterDefault = map[string]string{"log.retention.ms": "4"}
	step("4", DynamicDefaultSource, StaticSource, StaticSource, DefaultSource)
	l.Broker = map[string]string{"log.retention.ms": "5"}
	l.Topic = map[string]string{"retention.ms": "6"}
	step("6", TopicSource, DynamicBrokerSource, DynamicDefaultSource, StaticSource, StaticSource, DefaultSource)
}

// TestEveryTopicSettingHasABrokerDefault: synonyms name settings that exist, with the same default where
// units are the same.
func TestEveryTopicSettingHasABrokerDefault(t *testing.T) {
	for name, d := range Topic {
		for _, s := range d.Synonyms {
			if Broker[s] == nil {
				t.Errorf("%s falls back to %s, which does not exist", name, s)
			}
		}
	}
}

// TestNormal: values that Check takes are described as Kafka describes them.
func TestNormal(t *testing.T) {
	for _, tc := range []struct{ key, value, want string }{
		{"preallocate", " TRUE", "true"}, {"preallocate", "False", "false"},
		{"flush.ms", " 1 ", "1"}, {"flush.ms", "+1", "1"},
		{"compression.type", " gzip", "gzip"},
		{"cleanup.policy", "compact, compact", "compact"}, {"cleanup.policy", "", ""},
		{"min.cleanable.dirty.ratio", "0", "0.0"}, {"min.cleanable.dirty.ratio", ".5", "0.5"}, {"min.cleanable.dirty.ratio", "0.50d", "0.5"},
		{"min.cleanable.dirty.ratio", "1e-300", "1.0E-300"}, {"min.cleanable.dirty.ratio", "0.001", "0.001"}, {"min.cleanable.dirty.ratio", "0.00012", "1.2E-4"},
	} {
		d := Topic[tc.key]
		if err := d.Check(tc.value); err != nil {
			t.Errorf("%s=%q: %v", tc.key, tc.value, err)
		}
		if got := d.Normal(tc.value); got != tc.want {
			t.Errorf("%s=%q is described as %q, want %q", tc.key, tc.value, got, tc.want)
		}
		l := Layers{Topic: map[string]string{tc.key: tc.value}}
		if got := l.Effective(tc.key); got != tc.want {
			t.Errorf("%s=%q is %q in force, want %q", tc.key, tc.value, got, tc.want)
		}
	}
	for _, bad := range []string{"0x1p-2", "inf", "nan", "1_0", "d", ""} {
		if err := Topic["min.cleanable.dirty.ratio"].Check(bad); err == nil {
			t.Errorf("%q counts as a number", bad)
		}
	}
	for value, ok := range map[string]bool{"*": true, "": true, "0:1": true, "0:1, 1:2": true, "foo": false, "0:1,*": false, "0": false, "0:-1": false} {
		if err := Topic["leader.replication.throttled.replicas"].Check(value); (err == nil) != ok {
			t.Errorf("throttled replicas %q: %v", value, err)
		}
	}
}
