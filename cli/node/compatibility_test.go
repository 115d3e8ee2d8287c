package node

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"kraft/groups"
	"kraft/raftmeta/admin"
	"kraft/raftmeta/discovery"
	"kraft/raftmeta/telemetry"
	"kraft/replication"
	"kraft/wire"
)

var update = flag.Bool("update", false, "write docs/compatibility.md")

// registry has all that a broker serves. Registering needs no more of a package than its methods.
func registry() *wire.Registry {
	r := new(wire.Registry)
	(&metadata{discovery: new(discovery.Discovery), admin: new(admin.Admin)}).registerHandlers(r)
	new(replication.Manager).RegisterHandlers(r)
	new(groups.Manager).RegisterHandlers(r)
	new(telemetry.Manager).RegisterHandlers(r)
	wire.RegisterAPIVersions(r, wire.Identity{})
	wire.RegisterSASL(r)
	return r
}

// TestAPIs: each API of Apache Kafka 4.4.0 is served in all its versions, or testdata/apis.txt says with what it comes.
func TestAPIs(t *testing.T) {
	served := map[int16][2]int16{}
	for _, a := range registry().APIs() {
		served[a.Key] = [2]int16{a.Min, a.Max}
	}
	data, err := os.ReadFile("testdata/apis.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(data)) {
		line, later, comesLater := strings.Cut(strings.TrimSpace(line), " # ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		lines++
		m := apiLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q is not an API", line)
		}
		key, _ := strconv.Atoi(m[2])
		have, ok := served[int16(key)]
		if comesLater {
			if ok {
				t.Errorf("%s is said to come with %s, and is there", m[1], later)
			}
			continue
		}
		low, _ := strconv.Atoi(m[3])
		high := low
		if m[4] != "" {
			high, _ = strconv.Atoi(m[4])
		}
		if !ok || have[0] > int16(low) || have[1] < int16(high) {
			t.Errorf("%s: served %v, Apache Kafka serves %d to %d", m[1], have, low, high)
		}
	}
	if lines < 70 {
		t.Errorf("only %d APIs", lines)
	}
}

var apiLine = regexp.MustCompile(`^(\w+)\((\d+)\): (?:(\d+)(?: to (\d+))?|UNSUPPORTED)$`)

// TestCompatibilityTable keeps docs/compatibility.md what the registry says.
func TestCompatibilityTable(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Compatibility

The APIs of Apache Kafka's protocol that kraft serves, with their versions. The table is made from the code by
` + "`go test ./cli/node -update`" + `; ApiVersions answers from the same registry. Every version from 0 to Apache Kafka 4.4's
highest is served: clients from 0.8 on work. What is not listed is not served yet, and clients see that in ApiVersions.

| key | API | versions |
|---|---|---|
`)
	for _, a := range registry().APIs() {
		fmt.Fprintf(&b, "| %d | %s | %d to %d |\n", a.Key, a.Name, a.Min, a.Max)
	}
	b.WriteString(`
## What is treated otherwise

Every setting with every value that matters, batches with every mistake that a client can make, and requests of every API in every version
are given to kraft and to Apache Kafka 4.4.0 by tests (e2e/settings, e2e/batches, e2e/requests), and what becomes of them is compared. These
differences are left, by the names of the trials. (Before a request stands ` + "`twice:`" + ` if it names something more than once, and ` + "`nothing of:`" + ` if it names a
topic and no partition of it.)

| trials | why |
|---|---|
`)
	for _, file := range []string{"settings/testdata/topics", "settings/testdata/brokers", "settings/testdata/groups", "settings/testdata/quotas", "batches/testdata/batches", "requests/testdata/requests", "requests/testdata/mangled"} {
		data, err := os.ReadFile("../../e2e/" + file + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Split(strings.TrimSpace(line), " || ")
			if len(f) != 3 || strings.HasPrefix(line, "#") {
				continue
			}
			if row := fmt.Sprintf("| `%s` | %s |\n", strings.ReplaceAll(f[0], "|", `\|`), f[2]); !strings.Contains(b.String(), row) {
				b.WriteString(row)
			}
		}
	}
	const path = "../../docs/compatibility.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the registry says: run go test ./cli/node -update (%v)", path, err)
	}
}
