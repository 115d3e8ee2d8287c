package settings

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/raftmeta/configs"
)

// TestBrokerSettings: each setting of brokers that may change at run time has each value set for all brokers and for one, and taken away
// again; each of the others has one. What is said and described is the same on both servers, but for what testdata/brokers.txt lists, and
// both can be written to and read from meanwhile.
func TestBrokerSettings(t *testing.T) {
	outcomes := map[string]map[string]string{}
	for _, s := range both(t) {
		outcomes[s.name] = map[string]string{}
		topic := s.newName()
		s.create(t, map[string]map[string]string{topic: nil})
		tried := 0
		for _, name := range slices.Sorted(maps.Keys(configs.Broker)) {
			if slices.Contains(unsafe, name) || configs.Broker[name].Type == configs.Password || strings.HasPrefix(name, "sasl.") || strings.HasPrefix(name, "ssl.") {
				continue
			}
			vs := values(configs.Broker[name])
			if configs.Broker[name].Mode == configs.ReadOnly {
				vs = vs[:1]
			}
			for _, v := range sample(vs) {
				for _, broker := range []string{"", "1"} {
					trial := fmt.Sprintf("broker %q: %s=%q", broker, name, v)
					outcomes[s.name][trial] = s.setAndUnset(t, kmsg.ConfigResourceTypeBroker, broker, name, v)
					tried++
				}
			}
			if got := s.put(t, topic); got != everyCodec {
				t.Errorf("%s: after %s: put: %s", s.name, name, got)
				topic = s.newName()
				s.create(t, map[string]map[string]string{topic: nil})
			}
		}
		t.Logf("%s: %d trials", s.name, tried)
	}
	harness.Compare(t, "testdata/brokers.txt", outcomes, all())
}

// setAndUnset says what becomes of one value.
func (s *server) setAndUnset(t *testing.T, kind kmsg.ConfigResourceType, resource, name, value string) string {
	t.Helper()
	describe := func() string { return s.describe(t, kind, map[string][]string{resource: {name}})[resource][name] }
	before := describe()
	outcome := "set: " + s.alter(t, kind, resource, map[string]*string{name: &value})
	if outcome != "set: ok" {
		return outcome
	}
	// Kafka describes what was a moment ago; the source may be the new one and the value still the old one.
	valueOf := func(described string) string { v, _, _ := strings.Cut(described, " from "); return v }
	now := describe()
	for begun := time.Now(); s.name == "kafka" && valueOf(now) == valueOf(before); time.Sleep(time.Millisecond) {
		patience := shownWithin
		if now != before && valueOf(now) != strconv.Quote(strings.TrimSpace(value)) { // the source alone is new
			patience *= 10
		}
		if time.Since(begun) > patience {
			break
		}
		now = describe()
	}
	unset := s.alter(t, kind, resource, map[string]*string{name: nil})
	outcome += ", described: " + now + ", unset: " + unset
	if unset != "ok" { // threads are not more than doubled at a time
		two := "2"
		s.alter(t, kind, resource, map[string]*string{name: &two})
		s.alter(t, kind, resource, map[string]*string{name: nil})
	}
	for begun := time.Now(); describe() != before && time.Since(begun) < shownWithin; time.Sleep(time.Millisecond) {
	}
	return outcome
}

// shownWithin is how long Kafka may describe what was before a change.
const shownWithin = 300 * time.Millisecond

// unsafe are settings with which a broker may have no listener, or refuse this test's connections.
var unsafe = []string{"listeners", "listener.security.protocol.map", "max.connections", "max.connections.per.ip", "max.connections.per.ip.overrides", "max.connection.creation.rate", "principal.builder.class", "metric.reporters", "config.providers"}

// TestGroupSettings is TestBrokerSettings for groups and subscriptions to clients' metrics.
func TestGroupSettings(t *testing.T) {
	const clientMetrics, group = kmsg.ConfigResourceType(16), kmsg.ConfigResourceType(32)
	outcomes := map[string]map[string]string{}
	for _, s := range both(t) {
		outcomes[s.name] = map[string]string{}
		for kind, table := range map[kmsg.ConfigResourceType]map[string]*configs.Definition{group: configs.Group, clientMetrics: configs.ClientMetrics} {
			for name, d := range table {
				for _, v := range values(d) {
					outcomes[s.name][fmt.Sprintf("%s=%q", name, v)] = s.setAndUnset(t, kind, "g", name, v)
				}
			}
		}
	}
	harness.Compare(t, "testdata/groups.txt", outcomes, true)
}

// TestQuotas has each quota of each entity set to numbers of all kinds.
func TestQuotas(t *testing.T) {
	outcomes := map[string]map[string]string{}
	for _, s := range both(t) {
		outcomes[s.name] = map[string]string{}
		for _, key := range []string{"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate", "connection_creation_rate", "foo", ""} {
			for _, value := range []float64{0, 1, -1, 0.5, 100, 1e300, 1 << 31, 1 << 63} {
				for _, entity := range []string{"user=u", "user=", "client-id=c", "user=u,client-id=c", "ip=127.0.0.1", "ip=", "ip=foo", "user=u,ip=127.0.0.1", "user=u,user=u", "foo=u", ""} {
					outcomes[s.name][fmt.Sprintf("%s: %s=%v", entity, key, value)] = s.quota(t, entity, key, value)
				}
			}
		}
	}
	harness.Compare(t, "testdata/quotas.txt", outcomes, true)
}

// quota sets a quota, says what is told of it then, and takes it away.
func (s *server) quota(t *testing.T, entity, key string, value float64) string {
	t.Helper()
	alter := func(remove bool) string {
		req := kmsg.NewPtrAlterClientQuotasRequest()
		e := kmsg.NewAlterClientQuotasRequestEntry()
		for _, part := range configs.SplitList(entity) {
			kind, name, _ := strings.Cut(part, "=")
			c := kmsg.NewAlterClientQuotasRequestEntryEntity()
			c.Type = kind
			if name != "" {
				c.Name = &name
			}
			e.Entity = append(e.Entity, c)
		}
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		op.Key, op.Value, op.Remove = key, value, remove
		e.Ops = append(e.Ops, op)
		req.Entries = append(req.Entries, e)
		return codeName(s.ask(t, req).(*kmsg.AlterClientQuotasResponse).Entries[0].ErrorCode)
	}
	out := "set: " + alter(false)
	if out != "set: ok" {
		return out
	}
	described := func() (text string) {
		for _, e := range s.ask(t, kmsg.NewPtrDescribeClientQuotasRequest()).(*kmsg.DescribeClientQuotasResponse).Entries {
			for _, v := range e.Values {
				text += fmt.Sprintf(", described: %s=%v", v.Key, v.Value)
			}
		}
		return text
	}
	now := described()
	for begun := time.Now(); now == "" && time.Since(begun) < shownWithin; time.Sleep(time.Millisecond) {
		now = described()
	}
	out += now + ", unset: " + alter(true)
	for begun := time.Now(); described() != "" && time.Since(begun) < shownWithin; time.Sleep(time.Millisecond) {
	}
	return out
}
