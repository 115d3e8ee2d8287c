// Package configs is the table of Kafka's settings: types, defaults, allowed values, and how a topic's
// value is found among topic, broker and defaults. It is pure data.
package configs

import (
	_ "embed"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed broker.txt
var brokerTable string

//go:embed topic.txt
var topicTable string

//go:embed group.txt
var groupTable string

// Type is a setting's type, numbered as in DescribeConfigs.
type Type int8

// Types of settings.
const (
	Boolean Type = 1 + iota
	String
	Int
	Short
	Long
	Double
	List
	Class
	Password
)

var typeNames = map[string]Type{
	"boolean": Boolean, "string": String, "int": Int, "short": Short, "long": Long, "double": Double,
	"list": List, "class": Class, "password": Password, "type": String,
}

// Mode says when a broker setting may change.
type Mode int8

// Modes of broker settings.
const (
	ReadOnly Mode = iota
	PerBroker
	ClusterWide
)

// Definition is one setting.
type Definition struct {
	Name     string
	Type     Type
	Default  *string // nil is null
	Mode     Mode
	Synonyms []string // of a topic setting: the broker keys it falls back to, first to last
	Internal bool     // Kafka describes it only where it is set

	allowed  []string // of strings and of list elements; nil allows all
	minimum  float64
	maximum  float64
	orValue  *float64 // a number allowed outside minimum and maximum
	bounded  bool
	nonEmpty bool
	distinct bool // a list whose elements are not empty, and count once each
}

// Broker, Topic and Group are the settings of brokers, topics and groups, by name.
var (
	Broker = parseTable(brokerTable)
	Topic  = topicDefinitions()
	Group  = groupDefinitions()
)

// synonyms maps topic settings to broker settings, first to last.
var synonyms = map[string][]string{
	"cleanup.policy":                  {"log.cleanup.policy"},
	"compression.gzip.level":          {"compression.gzip.level"},
	"compression.lz4.level":           {"compression.lz4.level"},
	"compression.type":                {"compression.type"},
	"compression.zstd.level":          {"compression.zstd.level"},
	"delete.retention.ms":             {"log.cleaner.delete.retention.ms"},
	"file.delete.delay.ms":            {"log.segment.delete.delay.ms"},
	"flush.messages":                  {"log.flush.interval.messages"},
	"flush.ms":                        {"log.flush.interval.ms", "log.flush.scheduler.interval.ms"},
	"index.interval.bytes":            {"log.index.interval.bytes"},
	"local.retention.bytes":           {"log.local.retention.bytes"},
	"local.retention.ms":              {"log.local.retention.ms"},
	"max.compaction.lag.ms":           {"log.cleaner.max.compaction.lag.ms"},
	"max.decompressed.message.bytes":  {"max.decompressed.message.bytes"},
	"max.message.bytes":               {"message.max.bytes"},
	"message.timestamp.after.max.ms":  {"log.message.timestamp.after.max.ms"},
	"message.timestamp.before.max.ms": {"log.message.timestamp.before.max.ms"},
	"message.timestamp.type":          {"log.message.timestamp.type"},
	"min.cleanable.dirty.ratio":       {"log.cleaner.min.cleanable.ratio"},
	"min.compaction.lag.ms":           {"log.cleaner.min.compaction.lag.ms"},
	"min.insync.replicas":             {"min.insync.replicas"},
	"preallocate":                     {"log.preallocate"},
	"remote.copy.lag.bytes":           {"log.remote.copy.lag.bytes"},
	"remote.copy.lag.ms":              {"log.remote.copy.lag.ms"},
	"retention.bytes":                 {"log.retention.bytes"},
	"retention.ms":                    {"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
	"segment.bytes":                   {"log.segment.bytes"},
	"segment.index.bytes":             {"log.index.size.max.bytes"},
	"segment.jitter.ms":               {"log.roll.jitter.ms", "log.roll.jitter.hours"},
	"segment.ms":                      {"log.roll.ms", "log.roll.hours"},
	"unclean.leader.election.enable":  {"unclean.leader.election.enable"},
}

func topicDefinitions() map[string]*Definition {
	defs := parseTable(topicTable)
	for name, s := range synonyms {
		defs[name].Synonyms = s
	}
	return defs
}

// groupDefinitions are those of groups: most fall back to the broker's of the same name with group. before it.
func groupDefinitions() map[string]*Definition {
	defs := parseTable(groupTable)
	for name, d := range defs {
		if Broker["group."+name] != nil {
			d.Synonyms = []string{"group." + name}
		}
	}
	assignor := defs["streams.assignor.name"]
	assignor.Synonyms = []string{"group.streams.assignors"}
	assignor.Default = Broker["group.streams.assignors"].Default
	return defs
}

// parseTable reads a table that is part of the program: a fault in it is a fault of the program.
func parseTable(table string) map[string]*Definition {
	defs := map[string]*Definition{}
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, " | ")
		for len(f) < 6 {
			f = append(f, "")
		}
		d := &Definition{Name: f[0], Type: typeNames[f[1]]}
		if d.Type == 0 {
			panic("configs: bad line: " + line)
		}
		if def := strings.TrimSpace(f[2]); def != "null" && def != "" { // nothing is no default
			def = strings.Trim(def, `"`)
			d.Default = &def
		}
		switch strings.TrimSpace(strings.TrimSuffix(f[5], "|")) {
		case "cluster-wide":
			d.Mode = ClusterWide
		case "per-broker":
			d.Mode = PerBroker
		}
		d.parseAllowed(strings.TrimSpace(f[3]))
		d.Internal = f[4] == "internal"
		d.distinct = d.Type == List && d.allowed != nil
		defs[d.Name] = d
	}
	return defs
}

// parseAllowed reads "[1,...]", "[1,...,9] or -1", "[a, b]" and "non-empty string".
func (d *Definition) parseAllowed(s string) {
	if strings.HasPrefix(s, "non-empty") {
		d.nonEmpty = true
		return
	}
	s = strings.TrimPrefix(s, "(case insensitive) ")
	open, end := strings.Index(s, "["), strings.Index(s, "]")
	if open != 0 || end < 0 || strings.Contains(s, "[partitionId]") || strings.Contains(s, "by_duration") {
		return
	}
	body := s[1:end]
	if !strings.Contains(body, "...") {
		for _, v := range strings.Split(body, ",") {
			d.allowed = append(d.allowed, strings.TrimSpace(v))
		}
		return
	}
	d.bounded, d.minimum, d.maximum = true, -1<<63, 1<<63
	parts := strings.Split(body, ",")
	d.minimum, _ = strconv.ParseFloat(parts[0], 64)
	if last := parts[len(parts)-1]; last != "..." {
		d.maximum, _ = strconv.ParseFloat(last, 64)
	}
	if _, or, ok := strings.Cut(s, "] or "); ok {
		v, _ := strconv.ParseFloat(or, 64)
		d.orValue = &v
	}
}

// Takes says what values a setting may have.
func (d *Definition) Takes() string {
	text := map[Type]string{Boolean: "true or false", String: "text", Int: "a whole number", Short: "a whole number", Long: "a whole number", Double: "a number", List: "a list with commas", Class: "a Java class", Password: "a password"}[d.Type]
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch {
	case d.allowed != nil && d.Type == List:
		text += ", of " + strings.Join(d.allowed, ", ")
	case d.allowed != nil:
		text = "one of " + strings.Join(d.allowed, ", ")
	case d.bounded && d.maximum < 1<<63:
		text += " from " + number(d.minimum) + " to " + number(d.maximum)
	case d.bounded:
		text += " from " + number(d.minimum) + " on"
	}
	if d.orValue != nil {
		text += ", or " + number(*d.orValue)
	}
	return text
}

// SplitList splits Kafka's comma-separated lists; an empty value has no elements.
func SplitList(s string) []string {
	var out []string
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// Source tells where a value comes from, numbered as in DescribeConfigs.
type Source int8

// Sources of values.
const (
	TopicSource          Source = 1
	DynamicBrokerSource  Source = 2
	DynamicDefaultSource Source = 3
	StaticSource         Source = 4
	DefaultSource        Source = 5
	ClientMetricsSource  Source = 7
	GroupSource          Source = 8
)

// Value is a value with its name and source.
type Value struct {
	Name   string
	Value  *string // nil is null
	Source Source
}

// Layers are the places where a value may be set, all read-only.
type Layers struct {
	Topic          map[string]string // of the topic
	Broker         map[string]string // dynamic, of this broker
	ClusterDefault map[string]string // dynamic, of all brokers
	Static         map[string]string // server.properties and flags
}

// TopicValue finds a topic setting: it returns the value in force first, then what it hides.
func (l Layers) TopicValue(d *Definition) []Value { return l.ResourceValue(l.Topic, TopicSource, d) }

// ResourceValue finds a setting of a resource that has values of its own, likewise.
func (l Layers) ResourceValue(own map[string]string, source Source, d *Definition) []Value {
	var out []Value
	if v, ok := own[d.Name]; ok {
		v = d.Normal(v)
		out = append(out, Value{d.Name, &v, source})
	}
	for _, s := range d.Synonyms {
		if b := Broker[s]; b != nil {
			for _, v := range l.set(s) {
				out = append(out, scaled(v))
			}
		}
	}
	if len(d.Synonyms) > 0 {
		return append(out, Value{d.Synonyms[0], d.Default, DefaultSource})
	}
	return append(out, Value{d.Name, d.Default, DefaultSource})
}

// coarser are broker settings that say the same in larger units, first to last: they count where the finer are not set.
var coarser = map[string][]string{
	"log.roll.ms": {"log.roll.hours"}, "log.roll.jitter.ms": {"log.roll.jitter.hours"}, "log.flush.interval.ms": {"log.flush.scheduler.interval.ms"},
	"log.retention.ms": {"log.retention.minutes", "log.retention.hours"}, "log.retention.minutes": {"log.retention.hours"},
}

// BrokerValue finds a broker setting, likewise.
func (l Layers) BrokerValue(d *Definition) []Value {
	return append(l.set(d.Name), Value{d.Name, d.Default, DefaultSource})
}

// Synonyms lists where a broker setting, or a coarser one, has a value, as DescribeConfigs tells them: nothing unless the setting
// itself has one.
func (l Layers) Synonyms(name string) []Value {
	names := append([]string{name}, coarser[name]...)
	var out []Value
	for _, source := range []Source{DynamicBrokerSource, DynamicDefaultSource, StaticSource} {
		for _, n := range names {
			for _, v := range l.set(n) {
				if v.Source == source {
					out = append(out, v)
				}
			}
		}
	}
	for _, n := range names {
		if d := Broker[n]; d != nil && d.Default != nil {
			out = append(out, Value{n, d.Default, DefaultSource})
		}
	}
	if i := slices.IndexFunc(out, func(v Value) bool { return v.Name == name }); i >= 0 {
		return out[i:]
	}
	return nil
}

// ResourceSynonyms is Synonyms for the setting of a resource that has values of its own.
func (l Layers) ResourceSynonyms(own map[string]string, source Source, d *Definition) (out []Value) {
	if v, ok := own[d.Name]; ok {
		v = d.Normal(v)
		out = append(out, Value{d.Name, &v, source})
	}
	switch {
	case len(d.Synonyms) > 0:
		out = append(out, l.Synonyms(d.Synonyms[0])...)
	case source == GroupSource:
		out = append(out, Value{d.Name, d.Default, DefaultSource})
	}
	return out
}

func (l Layers) set(name string) []Value {
	var out []Value
	for _, layer := range []struct {
		values map[string]string
		source Source
	}{{l.Broker, DynamicBrokerSource}, {l.ClusterDefault, DynamicDefaultSource}, {l.Static, StaticSource}} {
		if v, ok := layer.values[name]; ok {
			if d := Broker[name]; d != nil {
				v = d.Normal(v)
			}
			out = append(out, Value{name, &v, layer.source})
		}
	}
	return out
}

// scaled brings hours and minutes to milliseconds, as the topic settings have them.
func scaled(v Value) Value {
	unit := int64(1)
	switch {
	case strings.HasSuffix(v.Name, ".hours"):
		unit = 3600_000
	case strings.HasSuffix(v.Name, ".minutes"):
		unit = 60_000
	default:
		return v
	}
	n, err := strconv.ParseInt(*v.Value, 10, 64)
	if err != nil {
		return v
	}
	if n >= 0 {
		n *= unit
	}
	text := strconv.FormatInt(n, 10)
	return Value{v.Name, &text, v.Source}
}

// Effective is the value of a topic setting in force; null is "". A name that does not exist panics.
func (l Layers) Effective(name string) string { return text(l.TopicValue(known(Topic, name))[0]) }

// EffectiveBroker is the value of a broker setting in force; null is "". A name that does not exist panics.
func (l Layers) EffectiveBroker(name string) string {
	return text(l.BrokerValue(known(Broker, name))[0])
}

// known finds a definition that has to exist.
func known(definitions map[string]*Definition, name string) *Definition {
	d := definitions[name]
	if d == nil {
		panic("configs: there is no setting " + name)
	}
	return d
}

func text(v Value) string {
	if v.Value == nil {
		return ""
	}
	return *v.Value
}

// Millis is a duration of so many milliseconds; of more than a time.Duration can say it is the longest.
func Millis(ms int64) time.Duration {
	const limit = math.MaxInt64 / int64(time.Millisecond)
	switch {
	case ms > limit:
		return math.MaxInt64
	case ms < -limit:
		return math.MinInt64
	}
	return time.Duration(ms) * time.Millisecond
}
