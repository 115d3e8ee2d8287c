// Package config finds a node's settings: server.properties, --override and flags, by Kafka's names,
// checked against Kafka's own table. It reads files and touches nothing else.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/magiconair/properties"

	"kraft/raftmeta/authorizer"
	"kraft/raftmeta/configs"
)

// Config is everything that a node needs to know before it starts. It is immutable once built.
type Config struct {
	Settings
	NodeID    int32
	ClusterID string // "" takes the directory's, or makes one up
	LogDirs   []string
	// MetadataDir holds the quorum's file: metadata.log.dir, or the first log directory.
	MetadataDir string
	Listeners   []Listener       // for clients and brokers; none for a node that is a controller only
	Controller  *Listener        // for members of the quorum; nil for a node that is alone
	Voters      map[int32]string // of the quorum, host:port of their controller listeners; none for one that joins, or is alone
	Join        []string         // members to ask
	// ZooKeeper are the addresses of zookeeper.connect where those name the quorum: its voters listen there, and this node may be one of
	// them if it Votes. Controller, Voters and Join are empty then.
	ZooKeeper   []string
	Votes       bool               // process.roles has controller, or is not given
	IsBroker    bool               // process.roles
	Authorizer  *authorizer.Config // nil: everybody may do everything
	InterBroker string             // inter.broker.listener.name, or the first of Listeners
	Brokers     Peer               // how it connects to other brokers
	Members     Peer               // how it connects to members of the quorum
	Rack        *string
	Admin       string // admin.listener, host:port for metrics and health; "" for none
	// Static are all settings given, by Kafka's names, for DescribeConfigs and for whoever reads settings.
	Static map[string]string
	// Version is the program's, for metrics.
	Version string
	// AcceptLost lets the node start although a log directory that it had is gone with its data.
	AcceptLost bool
	// AcceptOlder has the other members of the quorum take this node with a disk that is older than the one it had.
	AcceptOlder bool
	used        map[string]bool // settings of single listeners that have an effect
	// Notes are sentences for the log at start: keys unknown or without effect here.
	Notes []string
}

// ReadFile reads a Kafka server.properties: ISO-8859-1, no ${} expansion, as java.util.Properties does.
func ReadFile(path string) (map[string]string, error) {
	data, err := ReadText(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	l := &properties.Loader{Encoding: properties.ISO_8859_1, DisableExpansion: true}
	p, err := l.LoadBytes(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration %s: %w", path, err)
	}
	values := map[string]string{}
	for k, v := range p.Map() {
		values[k] = strings.TrimRight(v, " \t")
	}
	return values, nil
}

// ReadText reads a file that somebody wrote in an editor, without the byte order mark that some editors put before UTF-8: it would be a
// part of the first word. UTF-16, which is what PowerShell's > writes, is an error.
func ReadText(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, fmt.Errorf("%s is in UTF-16: save it as UTF-8", path)
	}
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}

// ParseOverride reads one KEY=VALUE of --override.
func ParseOverride(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if key = strings.TrimSpace(key); !ok || key == "" {
		return "", "", fmt.Errorf("--override takes KEY=VALUE, got %q", s)
	}
	return key, strings.TrimSpace(value), nil
}

// New checks values, given by Kafka's names, and builds a node's configuration from them.
func New(values map[string]string) (*Config, error) {
	c := &Config{Static: values, ClusterID: values["cluster.id"]}
	c.modernize()
	values = c.Static
	if err := c.checkValues(); err != nil {
		return nil, err
	}
	if err := c.identify(); err != nil {
		return nil, err
	}
	c.LogDirs = directories(values)
	if values["log.dirs"] == "" && values["log.dir"] == "" {
		c.Notes = append(c.Notes, fmt.Sprintf("log.dirs is not set: the data is in %s, which many systems empty at boot: set log.dirs", strings.Join(c.LogDirs, ", ")))
	}
	for i, d := range c.LogDirs {
		if slices.Contains(c.LogDirs[:i], d) {
			return nil, fmt.Errorf("log.dirs names %s twice", d)
		}
	}
	if c.MetadataDir = values["metadata.log.dir"]; c.MetadataDir == "" {
		c.MetadataDir = c.LogDirs[0]
	}
	if r, ok := values["broker.rack"]; ok && r != "" {
		c.Rack = &r
	}
	listeners, controllers, err := parseListeners(values)
	if err != nil {
		return nil, err
	}
	c.Listeners = listeners
	if c.Admin = values["admin.listener"]; c.Admin != "" {
		if _, port, err := net.SplitHostPort(c.Admin); err != nil || !isPort(port) {
			return nil, fmt.Errorf("admin.listener is host:port, for metrics and health by HTTP, not %s", c.Admin)
		}
	}
	if endpoint := values["telemetry.otlp.endpoint"]; endpoint != "" {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("telemetry.otlp.endpoint must be the URL of an OTLP metrics receiver, like http://collector:4318/v1/metrics, not %s", endpoint)
		}
	}
	configs.Layers{Static: c.Static}.ReadBroker(&c.Settings)
	if err := errors.Join(c.checkPrefixes(slices.Concat(listeners, controllers)), c.checkLimits(listeners), c.readTLS(), c.readLogins(), c.readAuthorizer()); err != nil {
		return nil, err
	}
	if err := c.findQuorum(controllers); err != nil {
		return nil, err
	}
	if err := c.readPeers(); err != nil {
		return nil, err
	}
	c.noteIdle()
	return c, nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (c *Config) identify() error {
	node, hasNode := c.Static["node.id"]
	broker, hasBroker := c.Static["broker.id"]
	key, text := "node.id", "1"
	switch {
	case hasNode && hasBroker && node != broker:
		return fmt.Errorf("node.id=%s and broker.id=%s must be the same", node, broker)
	case hasNode:
		text = node
	case hasBroker:
		key, text = "broker.id", broker
	}
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil || id < 0 {
		return fmt.Errorf("%s=%s: the node id is a number from 0 on, and kraft does not generate ids", key, text)
	}
	c.NodeID = int32(id)
	return nil
}

func directories(values map[string]string) []string {
	list := configs.SplitList(values["log.dirs"])
	if len(list) == 0 {
		list = configs.SplitList(values["log.dir"])
	}
	if len(list) == 0 {
		list = []string{*configs.Broker["log.dir"].Default}
	}
	for i := range list {
		if abs, err := filepath.Abs(list[i]); err == nil {
			list[i] = abs
		}
	}
	return list
}

// Settings are the values of broker settings that are read when a node starts. Those that may change while it runs are raftmeta.Settings.
type Settings struct {
	AllowEveryone       bool          `kafka:"allow.everyone.if.no.acl.found"`
	SnapshotBytes       int64         `kafka:"metadata.log.max.record.bytes.between.snapshots"`
	RetentionInterval   time.Duration `kafka:"log.retention.check.interval.ms"`
	CheckpointInterval  time.Duration `kafka:"replica.high.watermark.checkpoint.interval.ms"`
	RecoveryThreads     int           `kafka:"num.recovery.threads.per.data.dir"`
	ReserveBytes        int64         `kafka:"log.dir.reserve.bytes"`
	DirStall            time.Duration `kafka:"log.dir.stall.ms"`
	FlushPolicy         string        `kafka:"log.flush.policy"`
	QueuedMaxBytes      int64         `kafka:"queued.max.request.bytes"`
	RequestMaxBytes     int           `kafka:"socket.request.max.bytes"`
	MaxIdle             time.Duration `kafka:"connections.max.idle.ms"`
	SlowRequest         time.Duration `kafka:"slow.request.log.ms"`
	ControlledShutdown  bool          `kafka:"controlled.shutdown.enable"`
	MaxToken            int           `kafka:"sasl.server.max.receive.size"`
	FailedLoginDelay    time.Duration `kafka:"connection.failed.authentication.delay.ms"`
	MaxSession          time.Duration `kafka:"connections.max.reauth.ms"`
	TelemetryMaxBytes   int           `kafka:"telemetry.max.bytes"`
	TelemetryForwardURL string        `kafka:"telemetry.otlp.endpoint"`
}
