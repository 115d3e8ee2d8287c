// Bench measures kraft beside Apache Kafka 4.4.0, started by the same run, in alternation, and prints
// medians and ratios:
//
//	go run ./e2e/bench            everything, five rounds (half an hour)
//	go run ./e2e/bench -quick     a look in about a minute
//	go run ./e2e/bench -only produce,fetch -rounds 3
//
// The load generator sends pre-encoded batches over bare connections, so that the broker is the
// bottleneck and not the client. Broker CPU time is read from its process.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"kraft/e2e/harness"
)

// options are what the command line asks for.
type options struct {
	rounds int
	scale  int
	quick  bool
	out    string
	only   []string
	solo   bool
	kraft  []string
}

// result maps a figure's name to what one round measured.
type result map[string]float64

// benchmark is one thing to measure. Each round gets a broker that was just started.
type benchmark struct {
	name string
	run  func(o options, t *target) (result, error)
	// cluster, instead of run, gets three brokers.
	cluster func(o options, t *cluster) (result, error)
	disks   bool // each of them with a disk of its own
	figures []figure
	// settings are the brokers' for this benchmark, by Kafka's names.
	settings map[string]string
}

// figure is one measured number and the ratio to Apache Kafka's that is wanted.
type figure struct {
	name, unit string
	wanted     float64 // kraft / Apache Kafka: at most, or at least where more is better
	more       bool
}

func main() {
	var o options
	var only, kraftArgs string
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each benchmark, medians are reported")
	flag.IntVar(&o.scale, "scale", 1, "multiply throughput loads by `N`, to have time for a profile")
	flag.BoolVar(&o.quick, "quick", false, "one round of small loads: a look, not a measurement")
	flag.StringVar(&o.out, "out", "", "also write the table, as Markdown, to `FILE`")
	flag.StringVar(&only, "only", "", "run only these benchmarks, by `NAME`, with commas")
	flag.BoolVar(&o.solo, "solo", false, "measure kraft only, without Apache Kafka")
	flag.StringVar(&kraftArgs, "kraft-args", "", "more arguments for kraft, e.g. \"--pprof localhost:6060\"")
	flag.Parse()
	if o.quick {
		o.rounds = 1
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	o.kraft = strings.Fields(kraftArgs)
	if err := runAll(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runAll(o options) error {
	defer harness.RemoveBinary()
	known := map[string]bool{}
	var report strings.Builder
	fmt.Fprintf(&report, "Machine: %s. Go %s. %d round(s), medians.\n\n", machine(), strings.TrimPrefix(runtime.Version(), "go"), o.rounds)
	fmt.Fprintln(&report, "| benchmark | figure | kraft | Apache Kafka 4.4.0 | ratio | wanted | |")
	fmt.Fprintln(&report, "|---|---|---|---|---|---|---|")
	fmt.Print(report.String())
	for _, b := range benchmarks {
		known[b.name] = true
		if o.only != nil && !slices.Contains(o.only, b.name) {
			continue
		}
		rows, err := measure(o, b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Print(rows)
		report.WriteString(rows)
	}
	for _, name := range o.only {
		if !known[name] {
			return fmt.Errorf("no benchmark %q", name)
		}
	}
	if o.out == "" {
		return nil
	}
	return os.WriteFile(o.out, []byte(report.String()), 0o644)
}

// measure runs all rounds of one benchmark, kraft and Apache Kafka in turn.
func measure(o options, b benchmark) (string, error) {
	kinds := []starter{startKraft, startKafka}
	trios := []trioStarter{startKraftTrio, startKafkaTrio}
	if o.solo {
		kinds = kinds[:1]
	}
	values := make([]map[string][]float64, len(kinds))
	for i := range values {
		values[i] = map[string][]float64{}
	}
	for range o.rounds {
		for i, start := range kinds {
			var r result
			var err error
			if b.cluster != nil {
				r, err = clusterRound(o, b, trios[i])
			} else {
				r, err = round(o, b, start)
			}
			if err != nil {
				return "", err
			}
			for name, v := range r {
				values[i][name] = append(values[i][name], v)
			}
		}
	}
	var rows strings.Builder
	for _, f := range b.figures {
		ours := median(values[0][f.name])
		theirs, ratio, verdict := "-", "-", ""
		if len(kinds) > 1 {
			other := median(values[1][f.name])
			theirs, ratio = number(other), fmt.Sprintf("%.2fx", ours/other)
			if r := ours / other; f.wanted > 0 && (f.more && r < f.wanted || !f.more && r > f.wanted) {
				verdict = "missed"
			}
		}
		fmt.Fprintf(&rows, "| %s | %s, %s | %s | %s | %s | %s | %s |\n", b.name, f.name, f.unit, number(ours), theirs, ratio, f.want(), verdict)
	}
	return rows.String(), nil
}

func (f figure) want() string {
	switch {
	case f.wanted == 0:
		return ""
	case f.more:
		return fmt.Sprintf(">= %.2fx", f.wanted)
	}
	return fmt.Sprintf("<= %.2fx", f.wanted)
}

// round starts a broker in a directory of its own, measures and stops it.
func round(o options, b benchmark, start starter) (r result, err error) {
	dir, err := os.MkdirTemp("", "kraft-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := touchMemory(filepath.Join(dir, "touch"), o.megabytes(4000, 800)); err != nil {
		return nil, err
	}
	t := &target{dir: dir, start: start, o: o, settings: b.settings}
	if err := t.up(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.down()) }()
	return b.run(o, t)
}

// touchMemory writes a file and removes it. On a virtual machine the first touch of memory costs several
// times what writing to the page cache does: without this, who writes first would pay for both.
func touchMemory(path string, megabytes int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 1_000_000)
	for range megabytes {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// machine names the processor, cores and memory.
func machine() string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*:\s*(.*)`).FindSubmatch(data); m != nil {
			model = string(m[1])
		}
	}
	memory := ""
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(data), "MemTotal: %d kB", &kb); err == nil {
			memory = fmt.Sprintf(", %d GiB", (kb+1<<19)>>20)
		}
	}
	kernel := ""
	if out, err := exec.Command("uname", "-sr").Output(); err == nil {
		kernel = ", " + strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%d cores of %s%s%s, %s", runtime.NumCPU(), model, memory, kernel, time.Now().Format("2006-01-02"))
}
