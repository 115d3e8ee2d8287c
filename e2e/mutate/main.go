// Command mutate changes kraft's sources in one place at a time, and says which changes no test notices: each comparison is inverted, each
// branch and each lock is removed in turn.
//
//	go run ./e2e/mutate [-race] [-unreached] [-only regexp] [package ...] > missed
//	go run ./e2e/mutate [-race] -by e2e/race -of missed [package ...]
//	KRAFT_MUTANTS=$PWD/missed KRAFT_SIM_SEEDS=8 go test ./e2e/sim -run TestMutants -v -timeout 0
//
// The first runs a package's own tests, the second another package's tests on the changes that survived, the third the simulation. A change that nothing notices is one
// that no test reaches, one that makes no difference, or a gap. docs/proof.md has what came of the last run.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"kraft/e2e/mutate/sources"
	"kraft/e2e/sim/planted"
)

// targets are the packages that are changed by default, with the arguments of their tests.
var targets = map[string][]string{
	"replication":         nil,
	"raftmeta/controller": nil,
	"raftmeta/image":      nil,
	"raftmeta/quorum":     nil,
	"groups/coordinator":  nil,
	"groups/runtime":      nil,
	"storage":             {"-test.short"},
}

func main() {
	race := flag.Bool("race", false, "remove locks, and have the race detector look; otherwise comparisons and branches")
	unreached := flag.Bool("unreached", false, "list changes that no test reaches, too")
	only := flag.String("only", "", "a regular expression for the paths of the files to change")
	by := flag.String("by", "", "the package whose tests look; by default the changed package's own")
	of := flag.String("of", "", "a file that an earlier run wrote: only the changes that it lists are tried")
	flag.Parse()
	o := options{race: *race, unreached: *unreached, by: *by}
	var err error
	if o.files, err = regexp.Compile(*only); err == nil && *of != "" {
		o.listed, err = listed(*of)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	packages := flag.Args()
	if len(packages) == 0 {
		for p := range targets {
			packages = append(packages, p)
		}
	}
	for _, p := range packages {
		if err := run(p, o); err != nil {
			fmt.Fprintln(os.Stderr, "mutate:", err)
			os.Exit(1)
		}
	}
}

// options are the flags.
type options struct {
	race, unreached bool
	files           *regexp.Regexp
	by              string
	listed          map[string]bool // mutants by their String, or nil for all
}

// wanted reports whether a change is to be tried.
func (o *options) wanted(m sources.Mutant) bool {
	file, _, _ := strings.Cut(m.Place, ":")
	return (m.Kind == "lock") == o.race && o.files.MatchString(file) && (o.listed == nil || o.listed[m.String()])
}

// listed reads the changes that an earlier run printed, of any package.
func listed(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		all[strings.TrimSuffix(strings.TrimSpace(line), "\tnot reached")] = true
	}
	return all, nil
}

// run tries changes of one package.
func run(pkg string, o options) error {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	changed, mutants, err := sources.Plant(root, pkg, 1)
	if err != nil {
		return err
	}
	changes, err := sources.Overlay(dir, changed)
	if err != nil {
		return err
	}
	bin := filepath.Join(dir, "test")
	args := []string{"test", "-c", "-vet=off", "-overlay", changes, "-o", bin}
	if o.race {
		args = append(args, "-race")
	}
	tests := cmp.Or(o.by, pkg)
	if out, err := exec.Command("go", append(args, "./"+tests)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", tests, err, out)
	}
	t := &trial{bin: bin, dir: tests, args: append([]string{"-test.failfast"}, targets[tests]...), limit: 5 * time.Minute}
	seen := filepath.Join(dir, "reached")
	begun := time.Now()
	if noticed, out := t.try(planted.ReachedVariable + "=" + seen); noticed {
		return fmt.Errorf("%s does not pass its tests, with nothing changed in %s:\n%s", tests, pkg, out)
	}
	t.limit = 4*time.Duration(runtime.GOMAXPROCS(0))*time.Since(begun) + 20*time.Second
	reached, err := sources.Reached(seen)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var noticed, missed, unseen int
	queue := make(chan sources.Mutant)
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for m := range queue {
				found, _ := t.try(fmt.Sprintf("%s=%d", planted.MutantVariable, m.Number))
				mu.Lock()
				if found {
					noticed++
				} else {
					missed++
					fmt.Println(m)
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range mutants {
		switch {
		case !o.wanted(m):
		case reached[m.Number]:
			queue <- m
		default:
			mu.Lock()
			unseen++
			if o.unreached {
				fmt.Printf("%v\tnot reached\n", m)
			}
			mu.Unlock()
		}
	}
	close(queue)
	running.Wait()
	if o.listed != nil && noticed+missed+unseen == 0 {
		return fmt.Errorf("none of the changes that are listed is one of %s: is the list of other sources, or without -race?", pkg)
	}
	fmt.Printf("%s: %d noticed, %d not, %d not reached\n", pkg, noticed, missed, unseen)
	return nil
}

// trial runs a package's tests.
type trial struct {
	bin, dir string
	args     []string
	limit    time.Duration
}

// try runs them with a variable in the environment, and reports whether they fail, or do not end in time.
func (t *trial) try(variable string) (noticed bool, out []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), t.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.bin, t.args...)
	cmd.Dir, cmd.Env = t.dir, append(os.Environ(), variable, "GORACE=halt_on_error=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return err != nil, said.Bytes()
}
