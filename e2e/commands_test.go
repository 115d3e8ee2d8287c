package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kraft/e2e/harness"
)

// TestJSON: commands tell programs the same as people.
func TestJSON(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "orders", "-p", "2", "--config", "retention.ms=3600000")
	k.CLI(t, "a\nb\nc\n", "produce", "orders")
	k.CLI(t, "", "consume", "orders", "--from-beginning", "-g", "readers", "-n", "2")
	ask := func(into any, args ...string) {
		t.Helper()
		out := k.CLI(t, "", append(args, "--json")...)
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("kraft %v: %v: %s", args, err, out)
		}
	}
	var topics []struct{ Partitions, Replicas int }
	if ask(&topics, "topic", "list"); len(topics) != 1 || topics[0].Partitions != 2 || topics[0].Replicas != 1 {
		t.Errorf("topics %+v", topics)
	}
	var described []struct {
		Configs    map[string]string
		Partitions []struct {
			Leader int32
			End    int64 `json:"end_offset"`
		}
	}
	if ask(&described, "topic", "describe", "orders"); len(described) != 1 || described[0].Configs["retention.ms"] != "3600000" ||
		described[0].Partitions[0].End+described[0].Partitions[1].End != 3 || described[0].Partitions[0].Leader != 1 {
		t.Errorf("topic %+v", described)
	}
	var groups []struct{ Group, State string }
	if ask(&groups, "group", "list"); len(groups) != 1 || groups[0].Group != "readers" || groups[0].State != "Empty" {
		t.Errorf("groups %+v", groups)
	}
	var lags []struct {
		Topic string
		Lag   int64
	}
	if ask(&lags, "group", "lag"); len(lags) != 1 || lags[0].Topic != "orders" || lags[0].Lag != 1 {
		t.Errorf("lags %+v", lags)
	}
	var cluster struct{ Brokers []struct{ Address string } }
	if ask(&cluster, "cluster", "describe"); len(cluster.Brokers) != 1 || cluster.Brokers[0].Address != k.Addr {
		t.Errorf("cluster %+v", cluster)
	}
	var version struct{ Version, Platform string }
	if ask(&version, "version"); version.Version == "" || !strings.Contains(version.Platform, "/") {
		t.Errorf("version %+v", version)
	}
}

// TestGroupReset: a group begins where it is told to, wherever the options stand; one with members is left alone.
func TestGroupReset(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "orders", "-p", "1")
	k.CLI(t, "a\nb\nc\n", "produce", "orders")
	k.CLI(t, "", "consume", "orders", "--from-beginning", "-g", "readers", "-n", "3")
	for _, step := range []struct{ args, lag string }{
		{"group reset readers --to start --dry-run", "0"},
		{"group reset --to start readers", "3"},
		{"group reset --to 2 readers --topic orders", "1"},
		{"group reset readers --to=-1h", "3"},
		{"group reset readers --to 1000", "0"},
		{"group reset readers --to 2020-01-01T00:00:00Z", "3"},
		{"group reset readers --to end", "0"},
	} {
		k.CLI(t, "", strings.Fields(step.args)...)
		if out := k.CLI(t, "", "group", "lag", "readers"); !strings.HasSuffix(strings.TrimSpace(out), " "+step.lag) {
			t.Errorf("%s: the lag is %s, wanted %s", step.args, out, step.lag)
		}
	}
	for args, says := range map[string]string{
		"group reset readers --to soon": "--to must be start, end",
		"group reset others --to start": `there is no group "others"`, "group reset others --create --to start": "name its topics with --topic",
		"group reset readers others --to start": "takes one group",
		"group lag nobody":                      `there is no group "nobody"`,
		"group lag --interval 0s":               "--interval must be",
	} {
		if _, err := k.TryCLI(t, "", strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, wanted %s", args, err, says)
		}
	}
}

// TestCompletion: commands, options, their values and the cluster's names are completed.
func TestCompletion(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "orders", "others", "payments", "-p", "1")
	k.CLI(t, "a\n", "produce", "orders")
	k.CLI(t, "", "consume", "orders", "-g", "readers", "-e", "--from-beginning")
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	complete := func(words ...string) []string {
		t.Helper()
		cmd := exec.Command(bin, append([]string{"__complete"}, words...)...)
		cmd.Env = append(os.Environ(), "KRAFT_BOOTSTRAP_SERVER="+k.Addr, "KRAFT_PROFILES="+filepath.Join(t.TempDir(), "p"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v: %s", words, err, out)
		}
		return strings.Fields(string(out))
	}
	for words, want := range map[string]string{
		"to|": "top topic", "topic des|": "describe", "topics del|": "delete", "topic list --js|": "--json", "topic create --|": "--bootstrap-server --config --help --partitions --replication-factor",
		"topic delete |": "orders others payments", "topic delete orders oth|": "others", "consume o|": "orders others", "produce --key-separator : p|": "payments", "group lag |": "readers",
		"config set --topic |": "orders others payments", "config set --topic=or|": "", "config set --topic orders retention.m|": "retention.ms=", "config set --broker 1 log.retention.m|": "log.retention.minutes= log.retention.ms=",
		"config explain min.c|": "min.cleanable.dirty.ratio min.compaction.lag.ms", "produce orders --compression s|": "snappy", "produce orders --compression=z|": "--compression=zstd", "broker drain |": "1",
		"completion |": "bash fish powershell zsh", "dev snippet p|": "python", "-b " + k.Addr + " topic delete pay|": "payments", "topic -b localhost:1 delete pay|": "", "help gr|": "group", "nonsense x|": "", "consume orders --offset e|": "end",
	} {
		if words == "config set --topic=or|" {
			want = "--topic=orders"
		}
		before := strings.TrimSuffix(words, "|")
		fields := strings.Fields(before)
		if strings.HasSuffix(before, " ") {
			fields = append(fields, "")
		}
		if got := strings.Join(complete(fields...), " "); got != want {
			t.Errorf("kraft %s completes to %q, wanted %q", words, got, want)
		}
	}
	if out, err := exec.Command(bin, "completion", "tcsh").CombinedOutput(); err == nil || !strings.Contains(string(out), "bash, zsh, fish or powershell") {
		t.Errorf("an unknown shell: %s", out)
	}
	for _, shell := range []string{"zsh", "fish", "powershell"} {
		if out, err := exec.Command(bin, "completion", shell).CombinedOutput(); err != nil || !strings.Contains(string(out), "__complete") {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}

// TestConsumeFrom: reading begins where it is told to, and prints what it is told to.
func TestConsumeFrom(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "orders", "-p", "2")
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte("k0:a\nk1:b\nk2:c\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k.CLI(t, "", "produce", "orders", "--file", file, "--key-separator", ":", "--partition", "1", "-H", "from=file")
	for args, want := range map[string]string{
		"--offset start -n 3":                                "a\nb\nc\n",
		"--offset 1 -p 1 -n 2":                               "b\nc\n",
		"-o -1 --partition=1 -n 1":                           "c\n",
		"--offset -1h -n 3":                                  "a\nb\nc\n",
		"--offset 2020-01-01T00:00:00Z -n 1":                 "a\n",
		"--from-beginning -n 1 --keys":                       "k0\ta\n",
		`--offset start -n 2 --format %t/%p/%o:%k=%v\n`:      "orders/1/0:k0=a\norders/1/1:k1=b\n",
		`--offset start -n 1 --format %h{%k=%v}|%v{base64}|`: "from=file|YQ==|",
	} {
		if out := k.CLI(t, "", append([]string{"consume", "orders"}, strings.Fields(args)...)...); out != want {
			t.Errorf("consume %s prints %q, wanted %q", args, out, want)
		}
	}
	for args, says := range map[string]string{
		"consume orders --offset soon":               "--offset must be start, end",
		"consume orders -g g --offset start":         "kraft group reset",
		"consume orders --from-beginning --offset 1": "give only one of the two",
		"consume orders --format %q":                 "--format",
		"produce orders --file /no/such/file":        "/no/such/file",
	} {
		if _, err := k.TryCLI(t, "", strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, wanted %s", args, err, says)
		}
	}
}

// TestPerfScripts: kafka-producer-perf-test and kafka-consumer-perf-test print lines of the form of Kafka's.
func TestPerfScripts(t *testing.T) {
	k := harness.NewKraft(t, "--override", "group.initial.rebalance.delay.ms=0")
	const number = `[\d.]+`
	form := func(text string) *regexp.Regexp {
		return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(text), "N", number) + "$")
	}
	for args, lines := range map[string][]string{
		"kafka-producer-perf-test --bootstrap-server ADDR --topic p --num-records 3000 --record-size 100 --throughput 3000 --reporting-interval 400 --producer-props acks=1 linger.ms=1": {
			"N records sent, N records/sec (N MB/sec), N ms avg latency, N ms max latency.",
			"N records sent, N records/sec (N MB/sec), N ms avg latency, N ms max latency.",
			"3000 records sent, N records/sec (N MB/sec), N ms avg latency, N ms max latency, N ms 50th, N ms 95th, N ms 99th, N ms N.9th.",
		},
		"kafka-producer-perf-test --topic q --num-records 10 --payload-monotonic --throughput -1 --command-property bootstrap.servers=ADDR --warmup-records 4": {
			"6 records sent, N records/sec (N MB/sec), N ms avg latency, N ms max latency, N ms 50th, N ms 95th, N ms 99th, N ms N.9th.",
		},
	} {
		out := strings.TrimSpace(k.CLI(t, "", strings.Fields(strings.ReplaceAll(args, "ADDR", k.Addr))...))
		said := strings.Split(out, "\n")
		if len(said) < len(lines) {
			t.Errorf("%s prints %s", args, out)
			continue
		}
		said = append(said[:len(lines)-1], said[len(said)-1])
		for i, line := range lines {
			if !form(line).MatchString(said[i]) {
				t.Errorf("%s prints %q, wanted %q", args, said[i], line)
			}
		}
	}
	out := strings.Split(k.CLI(t, "", "kafka-consumer-perf-test", "--bootstrap-server", k.Addr, "--topic", "p", "--messages", "3000"), "\n")
	const head = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec"
	fields := strings.Split(out[1], ", ")
	if out[0] != head || len(fields) != 10 || fields[4] != "3000" || fields[2] != "0.2861" {
		t.Errorf("kafka-consumer-perf-test prints %q", out)
	}
	for args, says := range map[string]string{
		"kafka-producer-perf-test --bootstrap-server ADDR --topic p --num-records 1 --record-size 1":                                   "argument --throughput is required",
		"kafka-producer-perf-test --bootstrap-server ADDR --topic p --num-records 1 --throughput 1":                                    "--record-size --payload-file --payload-monotonic is required",
		"kafka-producer-perf-test --bootstrap-server ADDR --topic p --num-records 1 --throughput 1 --record-size 1 acks":               "Invalid property: acks",
		"kafka-producer-perf-test --bootstrap-server ADDR --topic p --num-records 0 --throughput 1 --record-size 1":                    "--num-records should be greater than zero.",
		"kafka-producer-perf-test --bootstrap-server ADDR --topic p --num-records 1 --throughput 1 --record-size 1 --warmup-records 1": "strictly fewer",
		"kafka-consumer-perf-test --bootstrap-server ADDR --topic p":                                                                   `"[num-records]"`,
	} {
		if _, err := k.TryCLI(t, "", strings.Fields(strings.ReplaceAll(args, "ADDR", k.Addr))...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, wanted %s", args, err, says)
		}
	}
}
