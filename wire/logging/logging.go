// Package logging is a node's log in parts, each with a level that changes while the node runs. The parts go by the names of Kafka's
// own loggers, so that who has set those before sets them here.
package logging

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Part is one of the parts of a log, by the word that its lines have as component.
type Part string

// Parts.
const (
	Node        Part = "node"
	Wire        Part = "wire"
	Requests    Part = "requests" // at debug a line for each request
	Storage     Part = "storage"
	Replication Part = "replication"
	StateChange Part = "state-change" // at info a line for each change of a partition's leader or ISR on this broker
	Groups      Part = "groups"
	Authorizer  Part = "authorizer" // a line for each denial
	Controller  Part = "controller"
	Quorum      Part = "quorum"
)

// kafkaNames are the loggers of Apache Kafka that say most of what a part says.
var kafkaNames = []struct {
	part Part
	name string
}{
	{Node, "kafka.server.BrokerServer"},
	{Wire, "kafka.network.SocketServer"},
	{Requests, "kafka.request.logger"},
	{Storage, "kafka.log.LogManager"},
	{Replication, "kafka.server.ReplicaManager"},
	{StateChange, "state.change.logger"},
	{Groups, "org.apache.kafka.coordinator.group.GroupCoordinatorService"},
	{Authorizer, "kafka.authorizer.logger"},
	{Controller, "org.apache.kafka.controller.QuorumController"},
	{Quorum, "org.apache.kafka.raft.KafkaRaftClient"},
}

// root is the logger whose level parts have that have none of their own.
const root = "root"

// levels are Kafka's names.
var levels = map[string]zerolog.Level{
	"TRACE": zerolog.TraceLevel, "DEBUG": zerolog.DebugLevel, "INFO": zerolog.InfoLevel, "WARN": zerolog.WarnLevel, "ERROR": zerolog.ErrorLevel, "FATAL": zerolog.FatalLevel,
}

func levelName(l zerolog.Level) string {
	for name, level := range levels {
		if level == l {
			return name
		}
	}
	return strings.ToUpper(l.String())
}

// unset is the level of a part that has none of its own.
const unset = int32(-128)

// threshold is a part's level. It is a zerolog.Sampler, which is asked before a line is begun: what is not wanted costs nothing.
type threshold struct {
	own  atomic.Int32
	root *atomic.Int32
}

func (t *threshold) level() zerolog.Level {
	if own := t.own.Load(); own != unset {
		return zerolog.Level(own)
	}
	return zerolog.Level(t.root.Load())
}

// Sample implements zerolog.Sampler.
func (t *threshold) Sample(l zerolog.Level) bool { return l >= t.level() }

// Log is a node's log. Its methods may be called from any goroutine.
type Log struct {
	base  zerolog.Logger
	to    map[Part]io.Writer
	root  atomic.Int32
	parts map[Part]*threshold
}

// New makes a log of base, whose level is root's. Parts that to names are written there in base's place.
//
// A partition's changes of state are many on a large broker: unless they go to a place of their own, they are not told before
// their level is set.
func New(base zerolog.Logger, to map[Part]io.Writer) *Log {
	l := &Log{base: base, to: to, parts: map[Part]*threshold{}}
	l.root.Store(int32(base.GetLevel()))
	for _, k := range kafkaNames {
		t := &threshold{root: &l.root}
		t.own.Store(unset)
		l.parts[k.part] = t
	}
	if to[StateChange] == nil {
		l.parts[StateChange].own.Store(int32(zerolog.WarnLevel))
	}
	return l
}

// OfNode is a log like l, with levels of its own, whose lines tell the node: for several nodes in a process.
func (l *Log) OfNode(id int) *Log { return New(l.base.With().Int("node", id).Logger(), l.to) }

// For is the logger of a part.
func (l *Log) For(p Part) zerolog.Logger {
	out := l.base
	if w := l.to[p]; w != nil {
		out = out.Output(w)
	}
	if out.GetLevel() == zerolog.Disabled {
		return out
	}
	return out.With().Str("component", string(p)).Logger().Level(zerolog.TraceLevel).Sample(l.parts[p])
}

// Level is a logger's name and level, in Kafka's words.
type Level struct{ Name, Level string }

// Levels are those of all loggers, root's last.
func (l *Log) Levels() (out []Level) {
	for _, k := range kafkaNames {
		out = append(out, Level{k.name, levelName(l.parts[k.part].level())})
	}
	return append(out, Level{root, levelName(zerolog.Level(l.root.Load()))})
}

// Set sets a logger's level, or for nil gives it root's again. The name is Kafka's, or the part's word. Its errors are those of
// Kafka's ConfigAdminManager.
func (l *Log) Set(name string, level *string) error {
	if err := l.Check(name, level); err != nil {
		return err
	}
	if name == root {
		l.root.Store(int32(levels[strings.ToUpper(*level)]))
		return nil
	}
	own := unset
	if level != nil {
		own = int32(levels[strings.ToUpper(*level)])
	}
	l.find(name).own.Store(own)
	return nil
}

// Check says what Set would refuse.
func (l *Log) Check(name string, level *string) error {
	if name != root && l.find(name) == nil {
		return fmt.Errorf("Logger %s does not exist!: %w", name, kerr.InvalidConfig)
	}
	if level == nil {
		if name == root {
			return fmt.Errorf("Removing the log level of the root logger is not allowed: %w", kerr.InvalidRequest)
		}
		return nil
	}
	if _, ok := levels[strings.ToUpper(*level)]; !ok {
		return fmt.Errorf("Cannot set the log level of %s to %s as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN: %w", name, *level, kerr.InvalidConfig)
	}
	return nil
}

func (l *Log) find(name string) *threshold {
	for _, k := range kafkaNames {
		if k.name == name || string(k.part) == name {
			return l.parts[k.part]
		}
	}
	return nil
}
