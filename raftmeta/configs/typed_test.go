package configs

import (
	"math"
	"reflect"
	"testing"
	"time"
)

func TestReadBroker(t *testing.T) {
	type settings struct {
		Partitions int32         `kafka:"num.partitions"`
		Delete     bool          `kafka:"delete.topic.enable"`
		Policy     []string      `kafka:"log.cleanup.policy"`
		Ratio      float64       `kafka:"log.cleaner.min.cleanable.ratio"`
		Idle       time.Duration `kafka:"connections.max.idle.ms"`
		Retention  time.Duration `kafka:"offsets.retention.minutes"`
		Check      time.Duration `kafka:"leader.imbalance.check.interval.seconds"`
		Selector   string        `kafka:"replica.selector.class"` // null by default
		Other      int           // of something else
	}
	defaults := settings{1, true, []string{"delete"}, 0.5, 10 * time.Minute, 7 * 24 * time.Hour, 5 * time.Minute, "", 0}
	for name, tc := range map[string]struct {
		layers Layers
		want   settings
	}{
		"defaults": {Layers{}, defaults},
		"from a file, with spaces and capitals": {Layers{Static: map[string]string{"num.partitions": " 3 ", "delete.topic.enable": "FALSE", "log.cleanup.policy": "compact, delete",
			"log.cleaner.min.cleanable.ratio": "1e-1", "connections.max.idle.ms": "1500", "replica.selector.class": "x"}},
			settings{3, false, []string{"compact", "delete"}, 0.1, 1500 * time.Millisecond, defaults.Retention, defaults.Check, "x", 0}},
		"the nearest counts": {Layers{Static: map[string]string{"num.partitions": "3"}, ClusterDefault: map[string]string{"num.partitions": "4"}, Broker: map[string]string{"num.partitions": "5"}},
			settings{5, true, defaults.Policy, 0.5, defaults.Idle, defaults.Retention, defaults.Check, "", 0}},
		"more than a duration can say": {Layers{Static: map[string]string{"connections.max.idle.ms": "9223372036854775807", "offsets.retention.minutes": "2147483647"}},
			settings{1, true, defaults.Policy, 0.5, math.MaxInt64, math.MaxInt64, defaults.Check, "", 0}},
	} {
		var got settings
		tc.layers.ReadBroker(&got)
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, not %+v", name, got, tc.want)
		}
	}
}

// TestMistakesPanic: a name or a type that is wrong ends the program at once, and not where a request comes.
func TestMistakesPanic(t *testing.T) {
	for name, read := range map[string]func(){
		"a name that does not exist": func() {
			Layers{}.ReadBroker(&struct {
				X int `kafka:"num.partition"`
			}{})
		},
		"a topic's name": func() {
			Layers{}.ReadBroker(&struct {
				X int `kafka:"retention.ms"`
			}{})
		},
		"a type that settings do not have": func() {
			Layers{}.ReadBroker(&struct {
				X uint `kafka:"num.partitions"`
			}{})
		},
		"a duration without unit": func() {
			Layers{}.ReadBroker(&struct {
				X time.Duration `kafka:"num.partitions"`
			}{})
		},
		"a key": func() { TopicKey("retention") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			read()
		}()
	}
}
