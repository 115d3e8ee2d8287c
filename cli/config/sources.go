package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"kraft/raftmeta/configs"
)

// Sources are the places where settings come from, by Kafka's names. What stands later in the struct counts for less.
type Sources struct {
	Flags       map[string]string
	Overrides   map[string]string
	Environment map[string]string
	File        map[string]string
	FileName    string
}

// Merge is what is in force.
func (s Sources) Merge() map[string]string {
	values := map[string]string{}
	for _, from := range []map[string]string{s.File, s.Environment, s.Overrides, s.Flags} {
		maps.Copy(values, from)
	}
	return values
}

// notSettings are variables for the scripts and images of Kafka and its distributors, after KAFKA_. For LOG4J_* see LogLevels.
var notSettings = []string{"VERSION", "HEAP_OPTS", "LOG4J_OPTS", "OPTS", "JMX_OPTS", "JMX_PORT", "JMX_HOSTNAME", "JVM_PERFORMANCE_OPTS", "GC_LOG_OPTS", "LOG4J_ROOT_LOGLEVEL",
	"LOG4J_LOGGERS", "TOOLS_LOG4J_LOGLEVEL", "HOME", "DEBUG", "KRAFT_CLUSTER_ID", "ENABLE_KRAFT"}

// Variable is what Apache Kafka's image calls a setting in the environment.
func Variable(setting string) string {
	return "KAFKA_" + strings.ToUpper(strings.NewReplacer("-", "___", "_", "__", ".", "_").Replace(setting))
}

// Environment finds settings among environment variables, as Apache Kafka's image maps them: KAFKA_LOG_DIRS is log.dirs, ___ is a
// dash and __ an underscore. KAFKA_CFG_ (Bitnami's) is the same, CLUSTER_ID and KAFKA_KRAFT_CLUSTER_ID are the cluster's id.
// Variables that are no setting are left alone, with a note where one is probably meant.
func Environment(environ []string) (values map[string]string, notes []string) {
	values = map[string]string{}
	slices.Sort(environ)
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if name == "CLUSTER_ID" || name == "KAFKA_KRAFT_CLUSTER_ID" {
			values["cluster.id"] = value
			continue
		}
		rest, ok := strings.CutPrefix(name, "KAFKA_")
		if !ok || slices.Contains(notSettings, rest) {
			continue
		}
		if isServiceLink(rest, value) {
			continue
		}
		rest = strings.TrimPrefix(rest, "CFG_")
		key := strings.NewReplacer("___", "-", "__", "_", "_", ".").Replace(strings.ToLower(rest))
		switch hint := configs.Nearest(key); {
		case IsSetting(key):
			values[key] = value
		case hint != "":
			notes = append(notes, fmt.Sprintf("environment variable %s names no Kafka setting and has no effect, did you mean %s?", name, Variable(hint)))
		}
	}
	return values, notes
}

// serviceLink are variables that Kubernetes gives each pod for a Service named kafka, after KAFKA_: SERVICE_HOST, SERVICE_PORT_CLIENTS,
// PORT_9092_TCP_ADDR. PORT itself is one, too, where its value is a URL.
var serviceLink = regexp.MustCompile(`^(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$`)

func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || name == "PORT" && strings.Contains(value, "://")
}

// LogLevels are what KAFKA_LOG4J_ROOT_LOGLEVEL and KAFKA_LOG4J_LOGGERS of Kafka's images say, by logger, root for the first.
func LogLevels(environ []string) map[string]string {
	levels := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		switch name {
		case "KAFKA_LOG4J_ROOT_LOGLEVEL":
			levels["root"] = strings.TrimSpace(value)
		case "KAFKA_LOG4J_LOGGERS":
			for _, pair := range configs.SplitList(value) {
				if logger, level, ok := strings.Cut(pair, "="); ok {
					levels[strings.TrimSpace(logger)] = strings.TrimSpace(level)
				}
			}
		}
	}
	return levels
}

// oldAddresses are the keys of Kafka before 0.9 that listeners and advertised.listeners took the place of.
var oldAddresses = []struct{ host, port, now string }{{"host.name", "port", "listeners"}, {"advertised.host.name", "advertised.port", "advertised.listeners"}}

// controlPlane is the listener of its own that controllers and brokers had in the days of ZooKeeper (KIP-291).
const controlPlane = "control.plane.listener.name"

// IsSetting reports whether a key is one of Kafka's broker settings, of today or of old, whether or not it has an effect here.
func IsSetting(key string) bool {
	return configs.Broker[key] != nil || isOld(key) || configs.NoEffect(key) != "" || key == "cluster.id"
}

func isOld(key string) bool {
	if key == controlPlane {
		return true
	}
	for _, old := range oldAddresses {
		if key == old.host || key == old.port {
			return true
		}
	}
	return false
}

// modernize replaces old keys for addresses by those of today, unless they are given as well.
func (c *Config) modernize() {
	c.modernizeControlPlane()
	for _, old := range oldAddresses {
		host, hasHost := c.Static[old.host]
		port, hasPort := c.Static[old.port]
		if !hasHost && !hasPort {
			continue
		}
		c.Static = maps.Clone(c.Static)
		delete(c.Static, old.host)
		delete(c.Static, old.port)
		if c.Static[old.now] != "" {
			c.Notes = append(c.Notes, fmt.Sprintf("%s and %s have no effect: %s is given", old.host, old.port, old.now))
			continue
		}
		if port == "" {
			port = "9092"
		}
		if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
			host = "[" + host + "]"
		}
		c.Static[old.now] = fmt.Sprintf("PLAINTEXT://%s:%s", host, port)
		c.Notes = append(c.Notes, fmt.Sprintf("%s and %s are settings of old Kafka versions: kraft reads them as %s=%s", old.host, old.port, old.now, c.Static[old.now]))
	}
}

func (c *Config) modernizeControlPlane() {
	const now = "controller.listener.names"
	name, ok := c.Static[controlPlane]
	if !ok {
		return
	}
	c.Static = maps.Clone(c.Static)
	delete(c.Static, controlPlane)
	switch {
	case name == "":
	case c.Static[now] != "":
		c.Notes = append(c.Notes, fmt.Sprintf("%s has no effect: %s is given", controlPlane, now))
	default:
		c.Static[now] = name
		c.Notes = append(c.Notes, fmt.Sprintf("%s is old: taken for %s=%s", controlPlane, now, name))
	}
}

// checkValues holds every known key against Kafka's table.
func (c *Config) checkValues() error {
	for _, k := range slices.Sorted(maps.Keys(c.Static)) {
		if d := configs.Broker[k]; d != nil {
			if err := d.Check(c.Static[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// noteIdle notes the keys that have no effect, and why.
func (c *Config) noteIdle() {
	idle := map[string][]string{} // by reason
	for _, k := range slices.Sorted(maps.Keys(c.Static)) {
		why := configs.NoEffect(k)
		switch {
		case c.used[k]:
		case why != "":
			idle[why] = append(idle[why], k)
		case configs.Broker[k] == nil && k != "cluster.id":
			c.Notes = append(c.Notes, k+" is not known and has no effect"+configs.Hint(k))
		}
	}
	for _, why := range slices.Sorted(maps.Keys(idle)) {
		c.Notes = append(c.Notes, fmt.Sprintf("no effect here: %s (%s)", strings.Join(idle[why], ", "), why))
	}
}
