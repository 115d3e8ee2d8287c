package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	_ "net/http/pprof" // served only on --pprof
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/node"
	"kraft/wire/logging"
)

// commonFlags are those of every command that runs a node.
func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "override", Usage: "set one of Kafka's broker settings, `KEY=VALUE`; may be repeated"},
		&cli.StringFlag{Name: "cluster-id", Usage: "refuse to start on data of another cluster than `ID`; a new cluster gets this id"},
		&cli.BoolFlag{Name: "accept-lost-directories", Usage: "start although a log directory of the last start is gone; its partitions begin empty"},
		&cli.BoolFlag{Name: "accept-older-disk", Usage: "rejoin the quorum although the other members have seen newer metadata of this node; entries committed since then may be lost"},
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "`LEVEL` of the log on stderr: debug, info, warn, error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the log: text or json"},
		&cli.StringFlag{Name: "admin", Usage: "serve metrics, health and readiness by HTTP on `ADDRESS`, e.g. localhost:9644"},
		&cli.StringFlag{Name: "pprof", Usage: "serve Go's profiles by HTTP on `ADDRESS`, e.g. localhost:6060"},
	}
}

// backgroundFlags are those of a node that goes on without a terminal.
func backgroundFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "daemon", Usage: "run in the background, and return when it serves clients"},
		&cli.StringFlag{Name: "pid-file", Usage: "keep the process's id in `FILE` while it runs"},
		&cli.StringFlag{Name: "log-file", Usage: "append the log to `FILE`, reopened on SIGHUP; with --daemon it defaults to kafkaServer.out in $LOG_DIR, or in logs if that is not set"},
		&cli.StringFlag{Name: "log-dir", Usage: "also write the log to Kafka's log files in `DIR`: server.log, controller.log, state-change.log and kafka-request.log"},
	}
}

func nodeFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{
		&cli.IntFlag{Name: "node-id", Value: 1, Usage: "run the node with this `ID`, a number from 0 on"},
		&cli.StringFlag{Name: "data", Usage: "`DIR` for the node's data, created if missing"},
		&cli.StringFlag{Name: "peers", Usage: "voters of the metadata quorum, including this node, as `ID@host:port` separated by commas; the same list on every voter"},
		&cli.StringFlag{Name: "join", Usage: "join the cluster of the node whose controller listener is at `host:port`, several with commas"},
		&cli.StringFlag{Name: "listeners", Usage: "where to listen, `NAME://host:port`, several with commas (default: PLAINTEXT://:9092)"},
		&cli.StringFlag{Name: "advertised-listeners", Usage: "addresses that clients connect to, `NAME://host:port`, separated by commas (default: the listeners)"},
	}, commonFlags(), backgroundFlags())
}

func serverCommand() *cli.Command {
	return &cli.Command{
		Name:         "server",
		Usage:        "run a node by a Kafka server.properties",
		UsageText:    "kraft server [--override KEY=VALUE]... [--peers LIST | --join HOST:PORT] FILE",
		OnUsageError: usageError,
		Flags:        nodeFlags(),
		Action: withArguments(func(c *cli.Context, args []string) error {
			if len(args) != 1 {
				return badUse("kraft server takes one file: kraft server config/server.properties")
			}
			values, err := readServerFile(args[0])
			if err != nil {
				return err
			}
			return serveFrom(c, config.Sources{File: values, FileName: args[0]})
		}),
	}
}

// readServerFile reads a server.properties, and refuses a file that can be none.
func readServerFile(path string) (map[string]string, error) {
	values, err := config.ReadFile(path)
	if err != nil {
		return nil, badUseOf(err)
	}
	for key := range values {
		if config.IsSetting(key) {
			return values, nil
		}
	}
	if settings, _ := config.Environment(os.Environ()); len(values) == 0 && len(settings) > 0 { // an image's, whose settings are in the environment
		return values, nil
	}
	return nil, badUse("%s has no setting of a broker in it: kraft server takes a server.properties, with lines like node.id=1 and log.dirs=/var/lib/kraft", path)
}

// runNode is kraft without a command: a node by flags.
func runNode(c *cli.Context) error {
	if c.Args().First() == "help" && c.NArg() == 2 && explainConfig(c.App.Writer, c.Args().Get(1)) {
		return nil
	}
	if c.NArg() > 0 {
		return unknownCommand(c, c.Args().Slice())
	}
	if c.NumFlags() == 0 {
		return cli.ShowAppHelp(c)
	}
	return serveFrom(c, config.Sources{})
}

// nodeValues are the settings that nodeFlags give. id is the node's where --node-id is not given, "" if there is none.
func nodeValues(c *cli.Context, id string) (map[string]string, error) {
	values := map[string]string{}
	if c.IsSet("data") {
		values["log.dirs"] = c.String("data")
	}
	if c.IsSet("node-id") {
		id = strconv.Itoa(c.Int("node-id"))
		values["node.id"], values["broker.id"] = id, id
	}
	for _, key := range []string{"listeners", "advertised-listeners"} {
		if c.IsSet(key) {
			values[strings.ReplaceAll(key, "-", ".")] = c.String(key)
		}
	}
	for _, name := range []string{"data", "peers", "join", "listeners", "advertised-listeners"} {
		if strings.HasPrefix(c.String(name), "-") {
			return nil, badUse("--%s has %q as its value: is a variable empty?", name, c.String(name))
		}
	}
	if c.IsSet("peers") && c.IsSet("join") {
		return nil, badUse("--peers and --join exclude each other: --peers names the first voters of a new cluster, --join adds a node to an existing one")
	}
	if c.IsSet("peers") {
		values["controller.quorum.voters"] = c.String("peers")
		if id == "" {
			return nil, badUse("--peers needs --node-id: which of them is this node?")
		}
		if !slices.ContainsFunc(strings.Split(c.String("peers"), ","), func(p string) bool { return strings.HasPrefix(strings.TrimSpace(p), id+"@") }) {
			return nil, badUse("--peers does not list node %s: add this node to the list, or replace --peers by --join with the address of a voter", id)
		}
	}
	if c.IsSet("join") {
		values["controller.quorum.bootstrap.servers"] = c.String("join")
		if id == "" {
			return nil, badUse("--join needs a --node-id that no other node has")
		}
	}
	return values, nil
}

// serveFrom runs a node by its flags and by settings from other places.
func serveFrom(c *cli.Context, from config.Sources) error {
	values, notes, err := sourcesOf(c, from)
	if err != nil {
		return err
	}
	if values["log.dirs"] == "" && values["log.dir"] == "" && from.File == nil {
		return badUse("give the node a directory for its data: --data DIR, or KAFKA_LOG_DIRS in the environment")
	}
	err = serve(c, values, notes)
	if err != nil && from.File["zookeeper.connect"] != "" { // several such files are often at hand
		err = fmt.Errorf("%s: %w", from.FileName, err)
	}
	return err
}

// serve runs a node until a signal comes or the node fails. Notes are for its log.
func serve(c *cli.Context, values map[string]string, notes []string) error {
	return serveThen(c, values, notes, func([]string) (func(), error) { return func() {}, nil })
}

// serveThen is serve that calls ready with the node's addresses when it serves, and what ready returned when it stops.
func serveThen(c *cli.Context, values map[string]string, notes []string, ready func(addresses []string) (undo func(), err error)) error {
	begun := time.Now()
	conf, err := config.New(values)
	if err != nil {
		return badUseOf(err)
	}
	conf.Notes = append(notes, conf.Notes...)
	conf.Version = Version
	conf.AcceptLost = c.Bool("accept-lost-directories")
	conf.AcceptOlder = c.Bool("accept-older-disk")
	if c.Bool("daemon") && !isDaemon() {
		return startDaemon(c, logPath(c))
	}
	logs, stopLogging, err := startLogging(c)
	if err != nil {
		return err
	}
	defer stopLogging()
	log := logs.For(logging.Node)
	removePID, err := writePID(c.String("pid-file"))
	if err != nil {
		return badUseOf(err)
	}
	defer removePID()
	lines, warnings := conf.Table()
	conf.Notes = append(conf.Notes, warnings...)
	record := newRecord(conf, devBrokers(c), log)
	n, err := node.StartOn(c.Context, node.World{Waiting: notifyWaiting, Holds: record.holds}, conf, logs)
	if err != nil && c.Context.Err() != nil {
		log.Info().Msg("stopped while starting")
		return nil
	}
	if err != nil {
		return err
	}
	record.serves(n)
	announce(c, conf, n, lines, begun)
	undo, err := ready(n.Addresses())
	if err != nil {
		return errors.Join(err, n.Stop())
	}
	defer undo()
	if err := notifyReady(); err != nil {
		log.Warn().Err(err).Msg("cannot report readiness")
	}
	return untilStopped(c, log, n.Failed(), func() error {
		record.stops()
		return n.Stop()
	})
}

// devBrokers is 1 for a kraft dev of one broker, 0 for another node.
func devBrokers(c *cli.Context) int {
	if c.Command.Name == "dev" {
		return 1
	}
	return 0
}

// announce says that a node is ready, where, and with several listeners what clients of each are told.
func announce(c *cli.Context, conf *config.Config, n *node.Node, listeners []string, begun time.Time) {
	at := strings.Join(n.Addresses(), ", ")
	if at == "" {
		at = n.QuorumAddress() + ", a controller only"
	}
	fmt.Fprintf(c.App.Writer, "kraft %s is ready at %s (node %d, cluster %s, data in %s) after %d ms\n",
		Version, at, conf.NodeID, n.ClusterID(), strings.Join(conf.LogDirs, ", "), time.Since(begun).Milliseconds())
	if len(listeners) > 1 {
		fmt.Fprintln(c.App.Writer, strings.Join(listeners, "\n"))
	}
	if c.Command.Name == "server" {
		kafkaLines(c.App.Writer, conf.NodeID)
	}
}

// kafkaLines are what images' tools and scripts that start Apache Kafka wait for in its output: of its KRaft mode, and of ZooKeeper's days.
func kafkaLines(w io.Writer, node int32) {
	now := time.Now().Format("2006-01-02 15:04:05,000")
	for _, line := range []string{
		fmt.Sprintf("[BrokerServer id=%d] Transition from STARTING to STARTED (kafka.server.BrokerServer)", node),
		fmt.Sprintf("[BrokerLifecycleManager id=%d] The broker has been unfenced. Transitioning from RECOVERY to RUNNING. (kafka.server.BrokerLifecycleManager)", node),
		fmt.Sprintf("[KafkaRaftServer nodeId=%d] Kafka Server started (kafka.server.KafkaRaftServer)", node),
		fmt.Sprintf("[KafkaServer id=%d] started (kafka.server.KafkaServer)", node),
	} {
		fmt.Fprintf(w, "[%s] INFO %s\n", now, line)
	}
}

// override puts what --override and --cluster-id say into values.
func override(c *cli.Context, values map[string]string) error {
	for _, o := range c.StringSlice("override") {
		key, value, err := config.ParseOverride(o)
		if err != nil {
			return badUseOf(err)
		}
		values[key] = value
	}
	if c.IsSet("admin") {
		values["admin.listener"] = c.String("admin")
	}
	if c.IsSet("cluster-id") {
		values["cluster.id"] = c.String("cluster-id")
	}
	return nil
}

// defaultLogDir is where a daemon's log is, below the directory that it was started in.
const defaultLogDir = "logs"

// logPath is the file that a node logs to, "" for stderr.
func logPath(c *cli.Context) string {
	if path := c.String("log-file"); path != "" || !c.Bool("daemon") {
		return path
	}
	dir := os.Getenv("LOG_DIR") // of Kafka's scripts
	if dir == "" {
		dir = defaultLogDir
	}
	return filepath.Join(dir, "kafkaServer.out")
}

// startLogging makes the log, and serves profiles if they are asked for.
func startLogging(c *cli.Context) (logs *logging.Log, stop func(), err error) {
	var files logFiles
	main := c.App.ErrWriter
	if path := logPath(c); path != "" {
		if main, err = files.open(path); err != nil {
			return nil, nil, badUseOf(err)
		}
	}
	level, format, err := logOptions(c)
	if err != nil {
		return nil, nil, err
	}
	everything := format(main)
	var parts map[logging.Part]io.Writer
	if dir := c.String("log-dir"); dir != "" {
		of := map[string]io.Writer{}
		for _, name := range []string{"server.log", "controller.log", "state-change.log", "kafka-request.log"} {
			f, err := files.open(filepath.Join(dir, name))
			if err != nil {
				return nil, nil, badUseOf(err)
			}
			of[name] = format(f)
		}
		everything = zerolog.MultiLevelWriter(everything, of["server.log"])
		ofController := zerolog.MultiLevelWriter(everything, of["controller.log"])
		parts = map[logging.Part]io.Writer{
			logging.Controller: ofController, logging.Quorum: ofController,
			logging.StateChange: of["state-change.log"], logging.Requests: of["kafka-request.log"],
		}
	}
	log := zerolog.New(everything).Level(level).With().Timestamp().Logger()
	if addr := c.String("pprof"); addr != "" {
		go func() {
			s := &http.Server{Addr: addr, ReadHeaderTimeout: 10 * time.Second}
			log.Warn().Err(s.ListenAndServe()).Msg("profiles are not served")
		}()
	}
	logs = logging.New(log, parts)
	for logger, level := range config.LogLevels(os.Environ()) {
		if logger == "root" && c.IsSet("log-level") {
			continue
		}
		if err := logs.Set(logger, &level); err != nil { // most of Kafka's loggers have no counterpart
			log.Debug().Err(err).Msg("KAFKA_LOG4J_*")
		}
	}
	stop = reopenOnHangup(files, func(err error) {
		fmt.Fprintf(c.App.ErrWriter, "kraft: cannot reopen a log file, continuing with the old one: %v\n", err)
	})
	return logs, stop, nil
}

// untilStopped waits for a signal, or for what runs to fail, and stops it.
func untilStopped(c *cli.Context, log zerolog.Logger, failed <-chan struct{}, stop func() error) error {
	select {
	case <-c.Context.Done():
		log.Info().Msg("stopping")
		_ = notifySystemd("STOPPING=1") // it sees the process end anyway
	case <-failed:
	}
	// A signal that comes now ends the process at once.
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- stop() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("did not stop within %v: the next start will check the logs", stopPatience)
	}
}

// stopPatience bounds a clean stop; past it the logs are left as after a crash, which they survive.
const stopPatience = 30 * time.Second

// logOptions are --log-level, and --log-format as what puts lines into a writer.
func logOptions(c *cli.Context) (level zerolog.Level, format func(io.Writer) io.Writer, err error) {
	level, err = zerolog.ParseLevel(c.String("log-level"))
	if err != nil || level == zerolog.NoLevel {
		return level, nil, badUse("--log-level must be debug, info, warn or error, not %q", c.String("log-level"))
	}
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	switch f := c.String("log-format"); f {
	case "json":
		return level, func(w io.Writer) io.Writer { return w }, nil
	case "text":
		return level, textLog, nil
	default:
		return level, nil, badUse("--log-format must be text or json, not %q", f)
	}
}

// textLog writes lines for people: with the date where they may be read on another day.
func textLog(w io.Writer) io.Writer {
	times := "15:04:05.000"
	if _, isFile := w.(*logFile); isFile {
		times = "2006-01-02 15:04:05.000"
	}
	return zerolog.ConsoleWriter{Out: w, TimeFormat: times, NoColor: !isTerminal(w)}
}
