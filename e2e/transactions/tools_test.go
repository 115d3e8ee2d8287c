package transactions

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// TestTransactionTools: kafka-transactions, Apache Kafka's and ours, say the same of open and of hanging transactions and end both; kraft
// transaction says in a sentence what readers wait for.
func TestTransactionTools(t *testing.T) {
	jars := harness.NeedKafka(t)
	k := harness.NewKraft(t, "--override", "transaction.partition.verification.enable=false")
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	w := connect(t, "kraft", k.Addr).begin(t, "tools")
	must := func(s step, want string) {
		t.Helper()
		if got, err := w.settled(s); err != nil || !strings.HasPrefix(got, want) {
			t.Fatalf("%v: %s, %v", s, got, err)
		}
	}
	must(step{kind: "init", id: "A", pair: "nobody", version: 5, timeout: 60_000}, "ok")
	must(step{kind: "init", id: "B", pair: "nobody", version: 5, timeout: 60_000}, "ok")
	must(step{kind: "produce", id: "A", pair: "now", version: 12, sequence: "next"}, "ok 0")
	must(step{kind: "produce", id: "B", pair: "now", version: 9, sequence: "next", partition: 1}, "ok 0") // never added: it hangs
	// run plays a command line of kafka-transactions by both tools, and returns what they print.
	run := func(args ...string) string {
		t.Helper()
		args = append([]string{"--bootstrap-server", k.Addr}, args...)
		var theirs, ours bytes.Buffer
		a, b := harness.Tool(jars, "org.apache.kafka.tools.TransactionsCommand", args...), exec.Command(bin, append([]string{"kafka-transactions"}, args...)...)
		a.Stdout, b.Stdout = &theirs, &ours
		failed, alsoFailed := a.Run(), b.Run()
		moving := regexp.MustCompile(`\t\d{13} *\t\d+ *\t`) // a time and how long ago it is
		x, y := moving.ReplaceAllString(theirs.String(), "\ttime\tage\t"), moving.ReplaceAllString(ours.String(), "\ttime\tage\t")
		if x != y || (failed == nil) != (alsoFailed == nil) {
			t.Errorf("kafka-transactions %s: Apache Kafka's prints\n%s(%v), ours\n%s(%v)", strings.Join(args, " "), theirs.String(), failed, ours.String(), alsoFailed)
		}
		return ours.String()
	}
	run("list")
	run("list", "--transactional-id-pattern", "A.*")
	run("list", "--transactional-id-pattern", "A")
	run("describe", "--transactional-id", w.tid("A"))
	run("describe", "--transactional-id", w.tid("B"))
	run("describe", "--transactional-id", "nobody")
	run("describe-producers", "--topic", w.topic, "--partition", "0")
	run("describe-producers", "--topic", w.topic, "--partition", "1")
	run("find-hanging")
	run("abort", "--topic", w.topic, "--partition", "1", "--start-offset", "7")
	run("abort", "--topic", w.topic, "--partition", "1")
	if out := run("find-hanging", "--topic", w.topic, "--max-transaction-timeout", "0"); !strings.Contains(out, w.topic+"\t1        \t") || strings.Count(out, "\n") != 2 {
		t.Errorf("find-hanging: %s", out)
	}
	why := k.CLI(t, "", "transaction", "hanging")
	for _, says := range []string{
		`^t-tools-0 waits since \d\d:\d\d:\d\d for transaction A-tools of producer \d+, coordinator 1, which times out at \d\d:\d\d:\d\d$`,
		fmt.Sprintf(`^t-tools-1 waits since \d\d:\d\d:\d\d for a transaction of producer %d that no coordinator knows; end it with: kraft transaction abort --partition t-tools:1 --offset 0$`, w.now["B"].id),
	} {
		if !regexp.MustCompile(`(?m)` + says).MatchString(why) {
			t.Errorf("kraft transaction hanging: %s", why)
		}
	}
	stable := func(partition int32, want string) {
		t.Helper()
		must(step{kind: "listOffset", partition: partition, at: -1, isolation: 1}, want)
	}
	stable(0, "ok 0")
	stable(1, "ok 0")
	k.CLI(t, "", "transaction", "abort", "--partition", "t-tools:1", "--offset", "0")
	stable(1, "ok 3")
	must(step{kind: "produce", id: "B", pair: "now", version: 9, sequence: "next", partition: 1}, "ok 3")
	out, err := harness.Run(ctx, harness.Tool(jars, "org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", k.Addr, "abort", "--topic", w.topic, "--partition", "1", "--start-offset", "3"))
	if err != nil {
		t.Errorf("Apache Kafka's abort: %v: %s", err, out)
	}
	stable(1, "ok 6")
	if out, err := exec.Command(bin, "kafka-transactions.sh", "--bootstrap-server", k.Addr, "forceTerminateTransaction", "--transactionalId", w.tid("A")).CombinedOutput(); err != nil {
		t.Errorf("forceTerminateTransaction: %v: %s", err, out)
	}
	stable(0, "ok 3")
	if out := k.CLI(t, "", "transaction", "hanging"); !strings.Contains(out, "no partition") {
		t.Errorf("hanging in the end: %s", out)
	}
	if out := k.CLI(t, "", "transaction", "describe", w.tid("A"), w.tid("B")); !regexp.MustCompile(`(?m)^A-tools +Empty +1 `).MatchString(out) || !strings.Contains(out, "B-tools") {
		t.Errorf("describe: %s", out)
	}
}
