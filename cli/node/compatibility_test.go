package node

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"kraft/groups"
	"kraft/raftmeta"
	"kraft/replication"
	"kraft/wire"
)

var update = flag.Bool("update", false, "write docs/compatibility.md")

// TestCompatibilityTable keeps docs/compatibility.md what the registry says.
func TestCompatibilityTable(t *testing.T) {
	r := new(wire.Registry)
	// Registering needs no more of a package than its methods.
	new(raftmeta.Meta).RegisterHandlers(r)
	new(replication.Manager).RegisterHandlers(r)
	new(groups.Manager).RegisterHandlers(r)
	wire.RegisterAPIVersions(r, wire.Identity{})
	var b strings.Builder
	b.WriteString(`# Compatibility

The APIs of Apache Kafka's protocol that kraft serves, with their versions. The table is made from the code by
` + "`go test ./cli/node -update`" + `; ApiVersions answers from the same registry. Every version from 0 to Apache Kafka 4.4's
highest is served: clients from 0.8 on work. What is not listed is not served yet, and clients see that in ApiVersions.

| key | API | versions |
|---|---|---|
`)
	for _, a := range r.APIs() {
		fmt.Fprintf(&b, "| %d | %s | %d to %d |\n", a.Key, a.Name, a.Min, a.Max)
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
