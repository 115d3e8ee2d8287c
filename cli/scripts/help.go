package scripts

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
)

//go:embed help.txt
var helpText string

// explained is what --help says of an option.
type explained struct{ value, text string }

// explanations are by option, or by script without kafka- and option, with a colon between them.
var explanations = func() map[string]explained {
	out := map[string]explained{}
	for line := range strings.Lines(helpText) {
		fields := strings.SplitN(strings.TrimSpace(line), " | ", 3)
		if len(fields) == 3 && !strings.HasPrefix(line, "#") {
			out[fields[0]] = explained{fields[1], fields[2]}
		}
	}
	return out
}()

// explain is what --help says of a script's option.
func explain(name string, o option) explained {
	if e, ok := explanations[strings.TrimPrefix(name, "kafka-")+":"+o.name]; ok {
		return e
	}
	return explanations[o.name]
}

// help prints what a script does, and its options.
func help(w io.Writer, name string, sc script) {
	fmt.Fprintf(w, "%s: %s\n\n", name, sc.about)
	left := make([]string, len(sc.options))
	width := 0
	for i, o := range sc.options {
		left[i] = "--" + o.name
		switch value := explain(name, o).value; {
		case o.flag:
		case o.maybe:
			left[i] += " [" + value + "]"
		default:
			left[i] += " " + value
		}
		width = max(width, len(left[i]))
	}
	for i, o := range sc.options {
		text := explain(name, o).text
		if len(o.aliases) > 0 {
			text += "; also --" + strings.Join(o.aliases, ", --")
		}
		fmt.Fprintf(w, "  %-*s  %s\n", width, left[i], text)
	}
}
