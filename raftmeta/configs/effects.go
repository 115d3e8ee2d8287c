package configs

import (
	_ "embed"
	"iter"
	"maps"
	"strings"
)

//go:embed noeffect.txt
var noEffectTable string

type noEffect struct{ pattern, reason string }

var noEffects = parseNoEffects()

func parseNoEffects() (list []noEffect) {
	for pattern, reason := range describedNames(noEffectTable) {
		list = append(list, noEffect{pattern, reason})
	}
	return list
}

// NoEffect says why a broker setting has no effect in kraft, as half a sentence; "" if it has one, or is not known at all.
func NoEffect(name string) string {
	for _, e := range noEffects {
		before, after, many := strings.Cut(e.pattern, "*")
		if name == e.pattern || many && len(name) > len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after) {
			return e.reason
		}
	}
	return ""
}

// Nearest is the broker setting whose name is most like the given one, "" if none is.
func Nearest(name string) string { return Closest(name, len(name)/4, maps.Keys(Broker)) }

// Closest is the one of some names that is most like the given one, "" if none can be made of it with so many changes.
func Closest(name string, changes int, names iter.Seq[string]) string {
	best, least := "", changes+1
	for known := range names {
		if d := distance(name, known, least); d < least || d == least && best != "" && known < best {
			best, least = known, d
		}
	}
	return best
}

// Hint asks about the setting that may be meant, to be put behind a sentence; it is "" if none is near.
func Hint(name string) string {
	if near := Nearest(name); near != "" {
		return ", did you mean " + near + "?"
	}
	return ""
}

// distance is how many letters have to be changed, put in or left out, or exchanged with their neighbour, to make b of a; more
// than atMost is not counted further.
func distance(a, b string, atMost int) int {
	if len(a)-len(b) > atMost || len(b)-len(a) > atMost {
		return atMost + 1
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = min(last[j]+1, row[j-1]+1)
			if a[i-1] == b[j-1] {
				row[j] = min(row[j], last[j-1])
			} else {
				row[j] = min(row[j], last[j-1]+1)
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
