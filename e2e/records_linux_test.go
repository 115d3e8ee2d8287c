package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestRecordsAsJSON: what kraft consume --json prints and kraft produce --json reads is every record, byte for byte.
func TestRecordsAsJSON(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "from", "to", "-p", "3")
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.DefaultProduceTopic("from"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rng := rand.New(rand.NewPCG(1, 2))
	some := func() []byte {
		switch rng.IntN(6) {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			return []byte(`{"a":"<b>&\u2028"}` + "\n\t\x00\x7f")
		case 3:
			return []byte("grün 简体 \U0001f600 \u2028")
		}
		out := make([]byte, rng.IntN(40))
		for i := range out {
			out[i] = byte(rng.Uint32())
		}
		return out
	}
	text := func(r *kgo.Record) string {
		return fmt.Sprintf("%q %t %q %t %q %v", r.Key, r.Key == nil, r.Value, r.Value == nil, r.Headers, r.Timestamp.UnixMilli())
	}
	want := map[string]int{}
	for i := range 500 {
		r := &kgo.Record{Key: some(), Value: some(), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i))}
		for range rng.IntN(3) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(some()), Value: some()})
		}
		want[text(r)]++
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	out := k.CLI(t, "", "consume", "from", "--from-beginning", "--exit-at-end", "--json")
	if n := strings.Count(out, "\n"); n != 500 {
		t.Fatalf("%d lines", n)
	}
	k.CLI(t, out, "produce", "to", "--json")
	reader, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.ConsumeTopics("to"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for read := 0; read < 500; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			read++
			if want[text(r)]--; want[text(r)] < 0 {
				t.Errorf("not written: %s", text(r))
			}
		})
	}
}

// TestExitAtEnd: --exit-at-end ends at the end, whatever lies there.
func TestExitAtEnd(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "empty", "some", "holes", "-p", "2")
	k.CLI(t, "a:1\nb:2\nc:3\n", "produce", "some", "-k", ":")
	k.CLI(t, "", "config", "set", "--topic", "holes", "cleanup.policy=compact", "segment.ms=1", "min.cleanable.dirty.ratio=0", "delete.retention.ms=0")
	for range 3 { // the cleaner takes away the last tombstones: the last offsets hold nothing
		k.CLI(t, `{"key":"k","value":"v"}{"key":"k","value":null}`, "produce", "holes", "--json", "--partition", "0")
		time.Sleep(20 * time.Millisecond)
	}
	lines := func(args ...string) int {
		t.Helper()
		begun := time.Now()
		out := k.CLI(t, "", append([]string{"consume", "--exit-at-end"}, args...)...)
		if took := time.Since(begun); took > 15*time.Second {
			t.Errorf("%v took %v", args, took)
		}
		return strings.Count(out, "\n")
	}
	for args, want := range map[string]int{
		"empty --from-beginning": 0, "some --from-beginning": 3, "some": 0, "some --offset end": 0, "some --offset 100": 0,
		"some --offset -1h": 3, "some --from-beginning --partition 0 --partition 1": 3, "empty --offset 5": 0,
	} {
		if got := lines(strings.Fields(args)...); got != want {
			t.Errorf("consume %s: %d records, want %d", args, got, want)
		}
	}
	if got := lines("some", "--offset", "-1"); got < 1 || got > 2 { // the last of each partition that has any
		t.Errorf("the last of each partition: %d", got)
	}
	lines("holes", "--from-beginning")
	if got := lines("some", "--group", "g", "--from-beginning"); got != 3 {
		t.Errorf("a group read %d records", got)
	}
	if got := lines("some", "--group", "g", "--from-beginning"); got != 0 {
		t.Errorf("a group read %d records again", got)
	}
}

// TestPipesAndTopics: a command ends when its reader does, and a reader makes no topic.
func TestPipesAndTopics(t *testing.T) {
	k := harness.NewKraft(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	k.CLI(t, "", "topic", "create", "orders", "-p", "1")
	k.CLI(t, "one\ntwo\n", "produce", "orders")
	begun := time.Now()
	out, err := exec.Command("sh", "-c", fmt.Sprintf("%s consume orders --from-beginning -b %s | head -1; echo $?", bin, k.Addr)).CombinedOutput()
	if err != nil || string(out) != "one\n0\n" || time.Since(begun) > 10*time.Second {
		t.Errorf("head: %v after %v: %s", err, time.Since(begun), out)
	}
	for _, args := range []string{"consume ordres", "consume ordres -g g", "consume ordres -e", "topic describe ordres", "topic delete ordres", "topic trim ordres --before end", "topic analyze ordres",
		"topic why-kept ordres", "topic add-partitions ordres --to 3", "perf consume ordres"} {
		if out, err := k.TryCLI(t, "", strings.Fields(args)...); err == nil || !strings.Contains(out+err.Error(), `there is no topic "ordres", did you mean "orders"?`) {
			t.Errorf("kraft %s: %v: %s", args, err, out)
		}
	}
	if out := k.CLI(t, "", "topic", "list"); strings.Contains(out, "ordres") {
		t.Errorf("reading created a topic: %s", out)
	}
}

// TestAtATerminal: produce says where records went, consume what it reads and how to stop it.
func TestAtATerminal(t *testing.T) {
	k := harness.NewKraft(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	k.CLI(t, "", "topic", "create", "orders", "-p", "1")
	type dialogue []struct{ typed, shows string }
	play := func(status int, d dialogue, args ...string) {
		t.Helper()
		term := harness.InTerminal(t, exec.Command(bin, append(args, "-b", k.Addr)...))
		for _, step := range d {
			term.Type(step.typed)
			term.Await(t, 20*time.Second, func(screen string) bool { return strings.Contains(screen, step.shows) })
		}
		if got := term.Exit(t, 20*time.Second); got != status {
			t.Errorf("kraft %s: status %d: %s", strings.Join(args, " "), got, term.Screen())
		}
	}
	play(0, dialogue{{"", "writing to orders: each line is a record; Ctrl-D ends it"}, {"hello\n", "partition 0, offset 0"}, {"again\n", "partition 0, offset 1"}, {"\x04", ""}}, "produce", "orders")
	play(0, dialogue{{"", "reading orders (1 partition) from now on; Ctrl-C stops it"}, {"\x03", ""}}, "consume", "orders")
	play(0, dialogue{{"", "reading orders (1 partition) from the beginning; to the end"}, {"", "again"}}, "consume", "orders", "--from-beginning", "--exit-at-end")
	play(0, dialogue{{"", `there is no topic "ordres" yet: it is created with the first record, if the broker allows that (did you mean "orders"?)`}, {"\x04", ""}}, "produce", "ordres")
	play(0, dialogue{{"", "Ctrl-D ends it"}, {"\x03", ""}}, "produce", "orders")
	for bad, says := range map[string]string{`{"id":1}`: "unknown field", `{"key":"k"}`: "it has no value", `{"value":"a","value_base64":"AA=="}`: "both given", `x`: "no record in JSON",
		`{"value":"a"}{"value":"b"`: "record 2 cannot be read", `[]`: "records are JSON objects one after the other, and this is a JSON array", `{"value":"a","headers":{}}`: "headers must not be a JSON object",
		`{"value":"a","timestamp":99999999999999999}`: "none before the year 2262", "{\"value\":\"\xff\"}": "no UTF-8", `{"value":"\ud800"}`: "half of a surrogate pair"} {
		if out, err := k.TryCLI(t, bad, "produce", "orders", "--json"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("produce --json of %s: %v: %s", bad, err, out)
		}
	}
	endless := exec.Command(bin, "produce", "orders", "-b", k.Addr)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer typed.Close()
	endless.Stdin = in
	fmt.Fprintln(typed, "1")
	p, err := harness.Start(endless)
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(20*time.Second, func() error {
		if out := k.CLI(t, "", "topic", "describe", "orders"); !strings.HasSuffix(strings.TrimSpace(out), " 4") {
			return fmt.Errorf("the record is not there: %s", out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.Signal(t, os.Interrupt)
	if err := p.Wait(20 * time.Second); err == nil || !strings.Contains(p.Output(), "interrupted before the end of the input: 1 record written, 0 of those read not") {
		t.Errorf("an interrupted produce: %v: %s", err, p.Output())
	}
	lines := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(lines, []byte("1\n2\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	play(0, dialogue{{"", "wrote 3 records to orders: partition 0 offsets 4 to 6"}}, "produce", "orders", "--file", lines)
	if err := os.WriteFile(lines, bytes.Repeat([]byte{0xff, '\n', 0}, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	play(0, dialogue{{"", "is no text: each of its parts up to a newline becomes a record (--whole writes it as one)"}}, "produce", "orders", "--file", lines)
	play(0, dialogue{{"", "wrote 1 record to orders: partition 0 offset 18"}}, "produce", "orders", "--whole", "--file", lines)
}

// TestAskedBefore: what takes something away for good asks on a terminal, tries with --dry-run, and does it at once with --yes or in a script.
func TestAskedBefore(t *testing.T) {
	k := harness.NewKraft(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	k.CLI(t, "", "topic", "create", "orders", "one", "two", "-p", "2")
	k.CLI(t, "a\nb\n", "produce", "orders", "--partition", "0")
	k.CLI(t, "", "consume", "orders", "-g", "readers", "--from-beginning", "-e")
	ask := func(status int, question, typed, shows string, args ...string) {
		t.Helper()
		term := harness.InTerminal(t, exec.Command(bin, append(args, "-b", k.Addr)...))
		term.Await(t, 20*time.Second, func(screen string) bool { return strings.Contains(screen, question) })
		term.Type(typed)
		if got := term.Exit(t, 20*time.Second); got != status || !strings.Contains(term.Screen(), shows) {
			t.Errorf("kraft %s: status %d: %s", strings.Join(args, " "), got, term.Screen())
		}
	}
	const goOn = ". Go on? [y/N] "
	ask(1, "This will delete topic orders with its 2 partitions (up to 2 records)"+goOn, "\n", "nothing has been changed", "topic", "delete", "orders")
	ask(1, "[y/N]", "n\n", "nothing has been changed", "topic", "delete", "orders")
	ask(1, "[y/N]", "\x03", "interrupted", "topic", "delete", "orders")
	ask(1, `there is no topic "ordres", did you mean "orders"?`, "", "", "topic", "delete", "ordres")
	ask(0, "delete nothing: there is no record before that", "y\n", "BEGINS AT", "topic", "trim", "one", "--before", "end")
	ask(0, "This will delete topic one", "yes\n", "deleted topic one", "topic", "delete", "one")
	ask(0, "deleted topic two", "", "", "topic", "delete", "two", "--yes")
	ask(1, "This will delete group readers (Empty, 0 members) with its committed offsets"+goOn, "\n", "nothing has been changed", "group", "delete", "readers")
	ask(1, "This will remove node 1 from the voters: no voter would be left"+goOn, "\n", "nothing has been changed", "quorum", "remove", "1")
	for args, says := range map[string]string{
		"topic delete orders --dry-run":              "would delete topic orders with its 2 partitions (up to 2 records)",
		"topic trim orders:0 --before end --dry-run": "would delete what is before offset ",
		"group delete readers --dry-run":             "would delete group readers",
		"quorum remove 1 --dry-run":                  "would remove node 1 from the voters",
	} {
		if out := k.CLI(t, "", strings.Fields(args)...); !strings.Contains(out, says) {
			t.Errorf("kraft %s: %s", args, out)
		}
	}
	if out := k.CLI(t, "", "consume", "orders", "--from-beginning", "-e"); strings.Count(out, "\n") != 2 {
		t.Errorf("a --dry-run changed something: %s", out)
	}
	if _, err := k.TryCLI(t, "", "broker", "remove", "1", "--dry-run"); err == nil || !strings.Contains(err.Error(), "broker 1 runs") {
		t.Error(err)
	}
	for args, says := range map[string]string{"group delete raeders": `there is no group "raeders", did you mean "readers"?`, "topic delete __consumer_offsets": "is the brokers' own"} {
		if out, err := k.TryCLI(t, "", strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("kraft %s: %v: %s", args, err, out)
		}
	}
	if out := k.CLI(t, "", "group", "delete", "readers"); out != "deleted group readers\n" {
		t.Error(out)
	}
}

// TestTab: somebody presses Tab in bash.
func TestTab(t *testing.T) {
	harness.Need(t, "bash")
	k := harness.NewKraft(t)
	dir := harness.Install(t)
	k.CLI(t, "", "topic", "create", "orders", "payments", "-p", "1")
	cmd := exec.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "KRAFT_BOOTSTRAP_SERVER="+k.Addr, "KRAFT_PROFILES="+filepath.Join(dir, "profiles.json"), "PS1=ready$ ", "TERM=dumb", "INPUTRC=/dev/null")
	term := harness.InTerminal(t, cmd)
	shows := func(what string) {
		t.Helper()
		term.Await(t, 20*time.Second, func(screen string) bool { return strings.HasSuffix(strings.TrimRight(screen, "\a"), what) })
	}
	shows("ready$ ")
	term.Type("source <(kraft completion bash)\n")
	shows("\nready$ ")
	for _, typed := range []struct{ keys, becomes string }{
		{"kraft topic del\t", "kraft topic delete "}, {"kraft topic delete pay\t", "kraft topic delete payments "}, {"kraft topic delete payments --y\t", "kraft topic delete payments --yes "},
		{"kraft produce orders --compression=z\t", "kraft produce orders --compression=zstd "}, {"kraft config set --topic orders retention.m\t", "kraft config set --topic orders retention.ms="},
		{"kraft -b " + k.Addr + " consume ord\t", "consume orders "},
	} {
		term.Type(typed.keys)
		shows(typed.becomes)
		term.Type("\x03")
		shows("\nready$ ")
	}
}

// TestTransactionByKcat: a transactional producer of librdkafka writes, and a reader of committed records reads that.
func TestTransactionByKcat(t *testing.T) {
	harness.Need(t, "kcat")
	k := harness.NewKraft(t)
	cmd := exec.Command("kcat", "-b", k.Addr, "-P", "-t", "orders", "-X", "transactional.id=x")
	cmd.Stdin = strings.NewReader("a\nb\n")
	p, err := harness.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if err := p.Wait(20 * time.Second); err != nil {
		t.Errorf("kcat: %v: %s", err, p.Output())
	}
	out, err := exec.Command("kcat", "-b", k.Addr, "-C", "-t", "orders", "-e", "-q", "-X", "isolation.level=read_committed").Output()
	if err != nil || string(out) != "a\nb\n" {
		t.Errorf("read: %q, %v", out, err)
	}
}

// TestTabElsewhere: fish and zsh complete, too.
func TestTabElsewhere(t *testing.T) {
	harness.Need(t, "fish", "zsh")
	k := harness.NewKraft(t)
	dir := harness.Install(t)
	k.CLI(t, "", "topic", "create", "orders", "payments", "-p", "1")
	env := append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "KRAFT_BOOTSTRAP_SERVER="+k.Addr, "KRAFT_PROFILES="+filepath.Join(dir, "profiles.json"), "HOME="+dir, "TERM=dumb")
	for typed, want := range map[string]string{"kraft topic cre": "create", "kraft topic create --part": "--partitions", "kraft topic delete pay": "payments", "kraft produce x --compression z": "zstd"} {
		cmd := exec.Command("fish", "-c", "source (kraft completion fish | psub); complete -C '"+typed+"'")
		cmd.Env, cmd.Dir = env, t.TempDir()
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("fish completes %q to %q (%v), wanted %s", typed, out, err, want)
		}
	}
	cmd := exec.Command("zsh", "-f", "-i")
	cmd.Env = append(env, "PS1=ready> ", "PROMPT_EOL_MARK=")
	term := harness.InTerminal(t, cmd)
	shows := func(what string) {
		t.Helper()
		term.Await(t, 20*time.Second, func(screen string) bool { return strings.Contains(screen, what) })
	}
	shows("ready> ")
	term.Type("autoload -Uz compinit; compinit -u -d " + dir + "/dump; source <(kraft completion zsh); print set''up\n")
	shows("\nsetup")
	term.Type("kraft topic delete pay\t")
	shows("kraft topic delete payments")
}
