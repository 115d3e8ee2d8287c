// Package scripts is Apache Kafka's command-line tools under their own names: options and output are theirs.
package scripts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/cli/config"
	"kraft/cli/credentials"
	"kraft/cli/ops"
)

// script is one tool.
type script struct {
	about   string
	options []option
	run     func(*call) error
}

// all scripts, by the names of Kafka's without .sh.
var all = map[string]script{
	"kafka-topics":           topicsScript,
	"kafka-get-offsets":      getOffsetsScript,
	"kafka-delete-records":   deleteRecordsScript,
	"kafka-console-producer": consoleProducerScript,
	"kafka-console-consumer": consoleConsumerScript,
	"kafka-cluster":          clusterScript,
	"kafka-consumer-groups":  consumerGroupsScript,
	"kafka-groups":           groupsScript,
	"kafka-configs":          configsScript,
	"kafka-acls":             aclsScript,
	"kafka-log-dirs":         logDirsScript,
	"kafka-leader-election":  leaderElectionScript,

	"kafka-preferred-replica-election": preferredElectionScript,

	"kafka-storage":  storageScript,
	"kafka-dump-log": dumpLogScript,
	"kafka-features": featuresScript,
	"cub":            cubScript,

	"kafka-broker-api-versions": apiVersionsScript,
	"kafka-reassign-partitions": reassignScript,
	"kafka-metadata-quorum":     metadataQuorumScript,
	"kafka-transactions":        transactionsScript,
	"kafka-delegation-tokens":   delegationTokensScript,
	"kafka-producer-perf-test":  producerPerfScript,
	"kafka-consumer-perf-test":  consumerPerfScript,
}

// call is one run of a script.
type call struct {
	*options
	ctx     context.Context
	args    []string // as they were given
	in      io.Reader
	out     io.Writer
	errOut  io.Writer
	version string
}

// Names are those of all scripts, in order.
func Names() []string { return slices.Sorted(maps.Keys(all)) }

// Find is the name of the script that a program's path or a word stands for, "" if there is none.
func Find(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".sh")
	if _, ok := all[name]; ok {
		return name
	}
	return ""
}

// Streams are where a script reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// statusError ends a script with a status and has been told already.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// Run runs a script, and returns its exit status.
func Run(ctx context.Context, name string, args []string, s Streams, version string) int {
	sc := all[name]
	known := append(slices.Clone(sc.options), option{name: "help", flag: true}, option{name: "version", flag: true})
	o, err := parse(known, args)
	switch {
	case err != nil:
		fmt.Fprintf(s.Err, "%v (see %s --help)\n", err, name)
		return 1
	case o.has("help") || len(args) == 0:
		help(s.Err, name, sc)
		return map[bool]int{true: 0, false: 1}[o.has("help")]
	case o.has("version"):
		fmt.Fprintln(s.Out, version)
		return 0
	}
	c := &call{options: o, ctx: ctx, args: args, in: s.In, out: s.Out, errOut: s.Err, version: version}
	if o.has("zookeeper") {
		err = c.findBrokers(name)
	}
	if err == nil {
		err = sc.run(c)
	}
	var status statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintln(s.Err, ops.Plain(err))
	return 1
}

// connection are the options that all scripts have; oldConnection are those of scripts that were there before --bootstrap-server.
var (
	connection    = []option{{name: "bootstrap-server"}, {name: "command-config"}}
	oldConnection = []option{{name: "bootstrap-server", aliases: []string{"broker-list"}}, {name: "command-config", aliases: []string{"producer.config", "consumer.config"}}}
)

// patience is how long a request may take.
const patience = 30 * time.Second

// client connects to --bootstrap-server.
func (c *call) client(more ...kgo.Opt) (*kgo.Client, error) {
	if !c.has("bootstrap-server") {
		return nil, errors.New("Missing required argument \"[bootstrap-server]\"")
	}
	login, err := c.login()
	if err != nil {
		return nil, err
	}
	more = append(login, more...)
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(c.get("bootstrap-server", ""), ",")...), kgo.DisableClientMetrics(), kgo.RetryTimeout(patience), kgo.MetadataMinAge(10 * time.Millisecond)}, more...)...)
}

// givenProperties are those of --command-property, KEY=VALUE; behind the perf tools' there may be several.
func (c *call) givenProperties() []string { return slices.Concat(c.all("command-property"), c.rest) }

// clientSettings are those of --command-config, and above it of --command-property.
func (c *call) clientSettings() (map[string]string, error) {
	settings := map[string]string{}
	if file := c.get("command-config", ""); file != "" {
		var err error
		if settings, err = config.ReadFile(file); err != nil {
			return nil, err
		}
	}
	for _, text := range c.givenProperties() {
		if key, value, ok := strings.Cut(text, "="); ok {
			settings[key] = value
		}
	}
	return settings, nil
}

// login is what the client's settings say of how to connect.
func (c *call) login() ([]kgo.Opt, error) {
	settings, err := c.clientSettings()
	if err != nil {
		return nil, err
	}
	return credentials.Options(settings)
}

// admin runs f with an admin client.
func (c *call) admin(f func(*kadm.Client) error) error {
	return c.adminWith(func(_ *kgo.Client, admin *kadm.Client) error { return f(admin) })
}

// adminWith runs f with a client, and an admin client that uses it.
func (c *call) adminWith(f func(*kgo.Client, *kadm.Client) error) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return f(cl, kadm.NewClient(cl))
}

// message is what Kafka's tools print of an error: the server's own words, else the error's.
func message(err error, words string) string {
	if words != "" {
		return words
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Description
	}
	return err.Error()
}

// Link makes links to a program in a directory, one for each name, with .sh behind it.
func Link(program, dir string, names []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		link := filepath.Join(dir, name+".sh")
		if target, err := os.Readlink(link); err == nil && target == program {
			continue
		}
		if err := os.Symlink(program, link); err != nil {
			return err
		}
	}
	return nil
}
