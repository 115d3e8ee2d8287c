package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Rules about several settings, or about a setting and the value that it had. Each value by itself has passed Check.

// TopicTogether are the settings that CheckTopic looks at.
var TopicTogether = []string{"min.compaction.lag.ms", "max.compaction.lag.ms", "remote.storage.enable"}

// CheckTopic says what is wrong with settings of a topic together (Kafka's LogConfig.validate). inForce is the value in force of any topic
// setting.
func CheckTopic(inForce func(name string) string) error {
	if least, most := number(inForce("min.compaction.lag.ms")), number(inForce("max.compaction.lag.ms")); least > most {
		return fmt.Errorf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", least, most)
	}
	if inForce("remote.storage.enable") == "true" {
		return fmt.Errorf("Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	return nil
}

// threadPools are settings that Kafka does not more than double or halve at a time (DynamicThreadPool).
var threadPools = []string{
	"background.threads", "log.cleaner.threads", "num.io.threads", "num.network.threads", "num.recovery.threads.per.data.dir", "num.replica.fetchers",
	"remote.log.manager.copier.thread.pool.size", "remote.log.manager.expiration.thread.pool.size", "remote.log.manager.follower.thread.pool.size", "remote.log.reader.threads",
}

// CheckBroker says what is wrong with a change of brokers' settings (Kafka's DynamicBrokerConfig and KafkaConfig): changed has the new
// values, nil for those that are taken away, and now is the value in force of any setting before, "" for none.
func CheckBroker(changed map[string]*string, now func(name string) string) error {
	next := func(name string) string {
		if v := changed[name]; v != nil {
			return Broker[name].Normal(*v)
		}
		return now(name) // what is taken away leaves what was right before
	}
	touches := func(names ...string) bool { // what was wrong before keeps no other change from being made
		return slices.ContainsFunc(names, func(n string) bool { _, ok := changed[n]; return ok })
	}
	if v := changed["authorizer.mode"]; v != nil && strings.TrimSpace(*v) == "audit" { // whoever may alter settings may not do everything
		return fmt.Errorf("authorizer.mode can be set to audit in a node's server.properties only; enforce ends it while the node runs.")
	}
	for _, name := range threadPools {
		if !touches(name) {
			continue
		}
		failed := "Dynamic thread count update validation failed for " + name + "=" + next(name) + ", "
		switch before, after := number(now(name)), number(next(name)); {
		case after == before:
		case after < 1:
			return fmt.Errorf("%svalue should be at least 1", failed)
		case after < before/2:
			return fmt.Errorf("%svalue should be at least half the current value %d", failed, before)
		case after > before*2:
			return fmt.Errorf("%svalue should not be greater than double the current value %d", failed, before)
		}
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		name := "group." + kind + ".assignment.interval.ms"
		if !touches(name) {
			continue
		}
		value := number(next(name))
		if least, most := number(next("group."+kind+".min.assignment.interval.ms")), number(next("group."+kind+".max.assignment.interval.ms")); value < least || value > most {
			return fmt.Errorf("%s must be between group.%s.min.assignment.interval.ms (%d) and group.%s.max.assignment.interval.ms (%d)", name, kind, least, kind, most)
		}
	}
	if threads := max(1, number(next("log.cleaner.threads"))); touches("log.cleaner.threads", "log.cleaner.dedupe.buffer.size") && number(next("log.cleaner.dedupe.buffer.size"))/threads <= 1<<20 {
		return fmt.Errorf("log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.")
	}
	if v := changed["log.cleanup.policy"]; v != nil && doubled(*v) {
		return fmt.Errorf("Configuration 'log.cleanup.policy' values must not be duplicated.")
	}
	if !touches("log.roll.ms", "log.roll.jitter.ms", "log.retention.ms", "log.local.retention.ms", "log.remote.copy.lag.ms", "log.retention.bytes", "log.local.retention.bytes") {
		return nil
	}
	return checkTimes(next)
}

// checkTimes is the part of CheckBroker that is about how long records stay, and when segments end.
func checkTimes(next func(name string) string) error {
	for name, least := range map[string]int64{"log.roll.ms": 1, "log.roll.jitter.ms": 0} {
		if v := next(name); v != "" && number(v) < least {
			return fmt.Errorf("%s must be greater than or equal to %d", name, least)
		}
	}
	retention := int64(-1)
	for _, unit := range append([]string{"log.retention.ms"}, coarser["log.retention.ms"]...) {
		if v := next(unit); v != "" {
			retention = max(-1, number(*scaled(Value{unit, &v, DefaultSource}).Value))
			break
		}
	}
	if retention == 0 {
		return fmt.Errorf("log.retention.ms must be unlimited (-1) or, equal or greater than 1")
	}
	local := number(next("log.local.retention.ms"))
	if retention != -1 && (local == -1 || local > retention) {
		return fmt.Errorf("log.local.retention.ms must not be -1, nor more than log.retention.ms (%d)", retention)
	}
	if local == -2 {
		local = retention
	}
	if lag := number(next("log.remote.copy.lag.ms")); local != -1 && lag > local {
		return fmt.Errorf("log.remote.copy.lag.ms (%d) must not be more than local retention (%d)", lag, local)
	}
	bytes := max(-1, number(next("log.retention.bytes")))
	if here := number(next("log.local.retention.bytes")); bytes != -1 && (here == -1 || here > bytes) {
		return fmt.Errorf("log.local.retention.bytes must not be -1, nor more than log.retention.bytes (%d)", bytes)
	}
	return nil
}

var isoDuration = regexp.MustCompile(`(?i)^P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d*)?S)?)?$`)

// CheckGroup says what is wrong with a value of a group's setting by what the broker's settings allow (Kafka's GroupConfig.validate).
func CheckGroup(name, value string, inForce func(brokerSetting string) string) error {
	d := Group[name]
	value = d.Normal(value)
	kind, rest, _ := strings.Cut(name, ".")
	if d.Type == Int {
		rest = strings.TrimPrefix(rest, "num.")
		n := number(value)
		if least := "group." + kind + ".min." + rest; Broker[least] != nil && n < number(inForce(least)) {
			return fmt.Errorf("%s must be greater than or equal to %s", name, least)
		}
		if most := "group." + kind + ".max." + rest; Broker[most] != nil && n > number(inForce(most)) {
			return fmt.Errorf("%s must be less than or equal to %s", name, most)
		}
	}
	switch name {
	case "share.auto.offset.reset":
		span, timed := strings.CutPrefix(value, "by_duration:")
		if value != "latest" && value != "earliest" && !(timed && len(span) > 1 && isoDuration.MatchString(span)) {
			return fmt.Errorf("Invalid value %s for configuration %s: it must be latest, earliest, or by_duration: with a duration such as PT1H", value, name)
		}
	case "streams.assignor.name":
		if all := SplitList(inForce("group.streams.assignors")); !slices.Contains(all, value) {
			return fmt.Errorf("Invalid value %s for configuration %s: it must be one of %s", value, name, strings.Join(all, ", "))
		}
	case "streams.rack.aware.assignment.tags":
		if doubled(value) {
			return fmt.Errorf("Configuration '%s' values must not be empty or duplicated.", name)
		}
	}
	return nil
}

// doubled reports whether a list has an element twice, or an empty one beside others.
func doubled(list string) bool {
	seen := map[string]bool{}
	elements := strings.Split(list, ",")
	return slices.ContainsFunc(elements, func(v string) bool {
		v = strings.TrimSpace(v)
		again := seen[v] || v == "" && len(elements) > 1
		seen[v] = true
		return again
	})
}

// number is the value of a number that Check has taken, 0 of "".
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}
