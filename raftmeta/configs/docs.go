package configs

import (
	_ "embed"
	"iter"
	"maps"
	"strings"
)

//go:embed docs.txt
var docsTable string

var docs = maps.Collect(describedNames(docsTable))

// describedNames are the lines of a table "name | text", but for comments.
func describedNames(table string) iter.Seq2[string, string] {
	return func(yield func(name, text string) bool) {
		for line := range strings.Lines(table) {
			name, text, ok := strings.Cut(strings.TrimSpace(line), " | ")
			if ok && !strings.HasPrefix(name, "#") && !yield(name, text) {
				return
			}
		}
	}
}

// fallback is, by a broker's setting, the topic's that falls back to it.
var fallback = func() map[string]string {
	out := map[string]string{}
	for topic, brokers := range synonyms {
		for _, name := range brokers {
			if name != topic {
				out[name] = topic
			}
		}
	}
	return out
}()

// units are those of settings that say in another what a setting of a topic says in milliseconds.
var units = map[string]string{".hours": "hours", ".minutes": "minutes"}

// Documentation says what a setting is for.
func (d *Definition) Documentation() string {
	isBroker := Broker[d.Name] == d
	if isBroker {
		if why := NoEffect(d.Name); why != "" {
			return "It has no effect in kraft: " + why + "."
		}
		if topic, ok := fallback[d.Name]; ok {
			text := "For topics that do not set " + topic + ": " + docs[topic]
			for suffix, unit := range units {
				if strings.HasSuffix(d.Name, suffix) {
					text = strings.ReplaceAll(text, "milliseconds", unit)
				}
			}
			return text
		}
	}
	return docs[d.Name]
}
