package harness

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Compare fails a test for what became of its trials otherwise on kraft than on Apache Kafka, unless the file at path lists it. outcomes are
// by server, "kafka" and "kraft", and trial. The file has lines
//
//	TRIAL || OUTCOMES || REASON
//
// of which the first two are regular expressions: of the whole trial, and of some of Kafka's outcome and kraft's with " | " between them.
// Where all trials were made, each line must have been of use. With KRAFT_WRITE_DIFFERENCES=1 what is not listed goes into a file beside
// it, whose name ends in .new. Files at also list more, which need not be of use.
func Compare(t testing.TB, path string, outcomes map[string]map[string]string, all bool, also ...string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := parseDifferences(t, string(text))
	known := own
	for _, path := range also {
		more, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, parseDifferences(t, string(more))...)
	}
	var found []string
	for _, trial := range slices.Sorted(maps.Keys(outcomes["kafka"])) {
		kafka, kraft := outcomes["kafka"][trial], outcomes["kraft"][trial]
		if kafka == kraft {
			continue
		}
		i := slices.IndexFunc(known, func(d *difference) bool {
			return d.trial.MatchString(trial) && d.outcome.MatchString(kafka+" | "+kraft)
		})
		if i >= 0 {
			known[i].used = true
			continue
		}
		found = append(found, fmt.Sprintf("%s\n  kafka %s\n  kraft %s\n", trial, kafka, kraft))
	}
	if os.Getenv("KRAFT_WRITE_DIFFERENCES") != "" {
		if err := os.WriteFile(path+".new", []byte(strings.Join(found, "")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, f := range found {
		t.Errorf("%s", f)
	}
	for _, d := range own {
		if all && !d.used {
			t.Errorf("%s lists a difference that is none any more: %v", path, d.trial)
		}
	}
}

// difference is one that has a reason.
type difference struct {
	trial, outcome *regexp.Regexp
	used           bool
}

func parseDifferences(t testing.TB, text string) (out []*difference) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, " || ")
		if len(f) != 3 {
			t.Fatalf("a line is not TRIAL || OUTCOMES || REASON: %s", line)
		}
		trial, err := regexp.Compile("^(?:" + f[0] + ")$")
		if err != nil {
			t.Fatal(err)
		}
		outcome, err := regexp.Compile(f[1])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &difference{trial: trial, outcome: outcome})
	}
	return out
}
