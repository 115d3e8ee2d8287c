package controller

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// TestAlterScram: a user may be in a request once, and other users' changes are made all the same.
func TestAlterScram(t *testing.T) {
	m := image.Empty()
	apply(m, FirstRecords(Features, "c", 1))
	set := func(user string, mechanism int8) ScramChange {
		return ScramChange{User: user, Mechanism: mechanism, Iterations: 4096, Salt: []byte("s"), SaltedPassword: make([]byte, 32)}
	}
	remove := func(user string, mechanism int8) ScramChange {
		return ScramChange{User: user, Mechanism: mechanism, Remove: true}
	}
	for _, step := range []struct {
		changes []ScramChange
		refused map[string]error
		have    []string // in the end
	}{
		{[]ScramChange{set("a", 1), set("b", 1), set("b", 2)}, map[string]error{"b": kerr.DuplicateResource}, []string{"a1"}},
		{[]ScramChange{remove("b", 1), set("b", 2), set("a", 2)}, map[string]error{"b": kerr.ResourceNotFound}, []string{"a1", "a2"}},
		{[]ScramChange{remove("a", 1), set("a", 2), set("c", 1)}, map[string]error{"a": kerr.DuplicateResource}, []string{"a1", "a2", "c1"}},
		{[]ScramChange{remove("a", 1), set("b", 1)}, nil, []string{"a2", "b1", "c1"}},
	} {
		records, errs := AlterScram(m, step.changes)
		apply(m, records)
		for user, want := range step.refused {
			if !errors.Is(errs[user], want) {
				t.Errorf("%+v: %s: %v, want %v", step.changes, user, errs[user], want)
			}
		}
		if len(errs) != len(step.refused) {
			t.Errorf("%+v: %v", step.changes, errs)
		}
		for range 2 { // and after a snapshot
			var have []string
			m.ScramCredentials("", func(c *image.ScramCredential) bool {
				have = append(have, c.User+string(rune('0'+c.Mechanism)))
				return true
			})
			if len(have) != len(step.have) {
				t.Errorf("%+v: %v, want %v", step.changes, have, step.have)
			}
			for i := range min(len(have), len(step.have)) {
				if have[i] != step.have[i] {
					t.Errorf("%+v: %v, want %v", step.changes, have, step.have)
				}
			}
			data, err := m.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if m, err = image.FromSnapshot(data); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.Features["metadata.version"] = scramSince - 1
	if _, errs := AlterScram(m, []ScramChange{set("a", 1)}); !errors.Is(errs["a"], kerr.UnsupportedVersion) {
		t.Error(errs)
	}
}
