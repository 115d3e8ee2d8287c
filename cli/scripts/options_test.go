package scripts

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestParse: options anywhere, --a=b, the beginning of a name, older names; what is wrong is one sentence.
func TestParse(t *testing.T) {
	known := append(append(valued("topic", "partitions", "timeout"), flags("list", "exclude-internal")...), option{name: "reader-property", aliases: []string{"property"}}, option{name: "state", maybe: true})
	for line, want := range map[string]string{
		"--list --topic a":                     "list= topic=a",
		"--topic=a --list":                     "list= topic=a",
		"--topic a=b":                          "topic=a=b",
		"--top a --part 3":                     "partitions=3 topic=a",
		"--property a=b --reader-property c=d": "reader-property=a=b,c=d",
		"word --list other":                    "list= word other",
		"--state --list":                       "list= state=",
		"--state Empty --list":                 "list= state=Empty",
		"--excl":                               "exclude-internal=",
		"--t a":                                "error: it may be topic or timeout",
		"--nothing":                            "error: not a recognized option",
		"--topic":                              "error: requires an argument",
		"--list=yes":                           "error: does not allow an argument",
		"--zookeeper z:2181 --list":            "error: use --bootstrap-server",
	} {
		o, err := parse(known, strings.Fields(line))
		if reason, wrong := strings.CutPrefix(want, "error: "); wrong {
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s: %v, want %q", line, err, reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		var got []string
		for _, name := range []string{"exclude-internal", "list", "partitions", "reader-property", "state", "topic"} {
			if o.has(name) {
				got = append(got, name+"="+strings.Join(o.all(name), ","))
			}
		}
		if text := strings.Join(append(got, o.rest...), " "); text != want {
			t.Errorf("%s: %q, want %q", line, text, want)
		}
	}
}

func TestRun(t *testing.T) {
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"--help":                         {0, "--bootstrap-server HOST:PORT"},
		"--version":                      {0, "v1"},
		"--zookeeper :1":                 {1, "--zookeeper: \":1\" is not of the form host:port"},
		"--zookeeper 127.0.0.1:1 --list": {1, "cannot connect to 127.0.0.1:1: connection refused"},
		"--zookeeper a:1 --bootstrap-server b:1 --list": {1, "Only one of --bootstrap-server or --zookeeper"},
		"--list":              {1, "bootstrap-server"},
		"--list --create":     {1, "do not go together"},
		"--describe --frobni": {1, "frobni is not a recognized option (see kafka-topics --help)"},
	} {
		var out strings.Builder
		if status := Run(context.Background(), "kafka-topics", strings.Fields(args), Streams{In: strings.NewReader(""), Out: &out, Err: &out}, "v1"); status != want.status || !strings.Contains(out.String(), want.says) {
			t.Errorf("%s: status %d, %s", args, status, out.String())
		}
	}
}

func TestNames(t *testing.T) {
	for path, want := range map[string]string{"/usr/bin/kafka-topics.sh": "kafka-topics", "kafka-groups": "kafka-groups", "/bin/kraft": "", "topic": "", "kafka-nothing.sh": ""} {
		if got := Find(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	dir := t.TempDir()
	for range 2 { // once more does no harm
		if err := Link("/bin/kraft", dir, Names()); err != nil {
			t.Fatal(err)
		}
	}
	if target, err := os.Readlink(filepath.Join(dir, "kafka-topics.sh")); err != nil || target != "/bin/kraft" {
		t.Errorf("%s %v", target, err)
	}
}

// TestHashOrder: the order of Java's HashMap: a and q share the second of 16 buckets, b has the third.
func TestHashOrder(t *testing.T) {
	if got := strings.Join(hashOrder([]string{"b", "a", "q"}), " "); got != "a q b" {
		t.Error(got)
	}
}

// TestHelp: --help explains each option, with a value where it takes one.
func TestHelp(t *testing.T) {
	used := map[string]bool{}
	for name, sc := range all {
		for _, o := range sc.options {
			e := explain(name, o)
			if e.text == "" || o.flag != (e.value == "-") {
				t.Errorf("%s --%s: a flag: %v, explained as %+v", name, o.name, o.flag, e)
			}
			used[o.name], used[strings.TrimPrefix(name, "kafka-")+":"+o.name] = true, true
		}
	}
	for name := range explanations {
		if !used[name] {
			t.Errorf("%s is explained, and no script has it", name)
		}
	}
}
