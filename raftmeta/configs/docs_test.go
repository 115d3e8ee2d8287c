package configs

import "testing"

// TestDocumentation: every setting says what it is for, or why it has no effect; and nothing is told of a setting that there is not.
func TestDocumentation(t *testing.T) {
	known := map[string]bool{}
	for kind, definitions := range map[string]map[string]*Definition{"broker": Broker, "topic": Topic, "group": Group, "client metrics": ClientMetrics} {
		for name, d := range definitions {
			known[name] = true
			if text := d.Documentation(); len(text) < 30 || text[len(text)-1] != '.' {
				t.Errorf("%s setting %s: %q", kind, name, text)
			}
		}
	}
	for name := range docs {
		if !known[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
