package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/ops"
)

// devTopic is a topic that kraft dev creates.
type devTopic struct {
	name       string
	partitions int32
	replicas   int16 // -1 for as many as there are by default
}

// parseDevTopic reads NAME[:PARTITIONS[:REPLICAS]].
func parseDevTopic(text string) (t devTopic, err error) {
	words := strings.Split(strings.TrimSpace(text), ":")
	t = devTopic{words[0], 1, -1}
	if err := checkTopicName(t.name); err != nil && t.name != "" {
		return t, err
	}
	if t.name == "" || len(words) > 3 {
		return t, badUse("a topic is NAME[:PARTITIONS[:REPLICAS]], like orders:3 or orders:3:1, not %q", text)
	}
	for i, word := range words[1:] {
		n, err := strconv.ParseInt(word, 10, 16)
		if err != nil || n < 1 {
			return t, badUse("a topic is NAME[:PARTITIONS[:REPLICAS]], with numbers from 1 on, like orders:3 or orders:3:1, not %q", text)
		}
		if i == 0 {
			t.partitions = int32(n)
		} else {
			t.replicas = int16(n)
		}
	}
	return t, nil
}

// devTopics are those of --topic and --topics.
func devTopics(c *cli.Context) (out []devTopic, err error) {
	lines := c.StringSlice("topic")
	if path := c.String("topics"); path != "" {
		data, err := config.ReadText(path)
		if err != nil {
			return nil, badUse("--topics: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
				lines = append(lines, line)
			}
		}
	}
	for _, line := range lines {
		t, err := parseDevTopic(line)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// createDevTopics creates the topics that are not there yet.
func createDevTopics(ctx context.Context, address string, topics []devTopic, login []kgo.Opt) error {
	client, err := kgo.NewClient(append(login, kgo.SeedBrokers(address), kgo.ClientID("kraft-dev"), kgo.DisableClientMetrics())...)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, t := range topics {
		resp, err := kadm.NewClient(client).CreateTopic(ctx, t.partitions, t.replicas, nil, t.name)
		if err == nil {
			err = resp.Err
		}
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return badUse("topic %s: %w", t.name, ops.Explain(err, resp.ErrMessage))
		}
	}
	return nil
}

// greet creates the topics and prints how to connect to the brokers, each at its addresses. Commands without an address use this cluster until
// forget is called.
func greet(c *cli.Context, brokers [][]string, dir string, topics []devTopic, security *devSecurity) (forget func(), err error) {
	var addresses []string // the first of each
	for _, at := range brokers {
		if len(at) == 0 {
			return func() {}, nil // it has no listener for clients
		}
		addresses = append(addresses, at[0])
	}
	settings := ""
	var login []kgo.Opt
	if security != nil {
		settings = security.admin()
		if login, err = loginOf(settings); err != nil {
			return nil, err
		}
	}
	if len(topics) > 0 {
		ctx, cancel := context.WithTimeout(c.Context, stopPatience)
		defer cancel()
		if err := createDevTopics(ctx, addresses[0], topics, login); err != nil {
			return nil, err
		}
	}
	w := c.App.Writer
	rows := [][]any{{"BROKER", "ADDRESS", "DATA"}}
	for i, at := range brokers {
		data := dir
		if len(brokers) > 1 {
			data = filepath.Join(dir, strconv.Itoa(i+1))
		}
		rows = append(rows, []any{i + 1, strings.Join(at, ", "), data})
	}
	fmt.Fprintln(w)
	if err := table(w, rows); err != nil {
		return nil, err
	}
	fmt.Fprintln(w)
	if len(topics) > 0 {
		var names []string
		for _, t := range topics {
			names = append(names, t.name)
		}
		fmt.Fprintln(w, "topics              "+strings.Join(names, ", "))
	}
	fmt.Fprintln(w, "bootstrap.servers   "+strings.Join(addresses, ","))
	if !slices.Contains(addresses, "localhost:9092") && security == nil { // scripts would not log in
		fmt.Fprintln(w, "in scripts          export KRAFT_BOOTSTRAP_SERVER="+addresses[0])
	}
	if security != nil {
		security.tell(w, addresses[0])
	}
	example := "orders"
	if len(topics) > 0 {
		example = topics[0].name
	}
	fmt.Fprintf(w, "try                 %[1]s produce %[2]s, %[1]s consume %[2]s --from-beginning, %[1]s dev snippet python\n", called(), example)
	if len(brokers) > 1 {
		fmt.Fprintf(w, "try a failure       %s dev stop-broker 2\n", called())
	}
	if isTerminal(c.App.Reader) && isTerminal(w) {
		fmt.Fprintln(w, "stop it             q, or Ctrl-C")
	}
	return publishDev(dir, addresses, settings), nil
}

// called is how this program was called, for lines to paste.
func called() string {
	if strings.ContainsRune(os.Args[0], os.PathSeparator) {
		return os.Args[0]
	}
	return "kraft"
}

// stopByKey ends the context of a kraft dev in a terminal when somebody types q. restore gives the terminal back as it was.
func stopByKey(c *cli.Context) (restore func()) {
	in, ok := c.App.Reader.(*os.File)
	if !ok || !isTerminal(in) || !isTerminal(c.App.Writer) {
		return func() {}
	}
	restore, err := singleKeys(in)
	if err != nil { // in the background, for one
		return func() {}
	}
	ctx, cancel := context.WithCancel(c.Context)
	c.Context = ctx
	onHangup(cancel)
	go func() { // which ends with the process
		key := make([]byte, 1)
		for {
			n, err := in.Read(key)
			if err != nil {
				return
			}
			if n == 1 && (key[0] == 'q' || key[0] == 'Q') {
				cancel()
				return
			}
		}
	}()
	return restore
}

// serveDev runs a kraft dev of one broker.
func serveDev(c *cli.Context, values map[string]string, topics []devTopic, dir string, security *devSecurity) error {
	restore := stopByKey(c)
	defer restore()
	return serveThen(c, values, nil, func(addresses []string) (func(), error) {
		return greet(c, [][]string{addresses}, dir, topics, security)
	})
}
