package sim

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// build builds this package's test binary, with clients that wait for locks in virtual time: franz-go has the tag synctests
// for that.
func build(t *testing.T, flags ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "sim.test")
	args := append([]string{"test", "-c", "-tags", "synctests", "-o", bin}, flags...)
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// TestSeeds runs many simulations, in processes of their own.
func TestSeeds(t *testing.T) {
	count := 120
	if os.Getenv("KRAFT_E2E") == "all" {
		count = 500
	}
	if testing.Short() {
		count = 20
	}
	from := 1
	if n, err := strconv.Atoi(os.Getenv("KRAFT_SIM_SEEDS")); err == nil {
		count = n
	}
	if n, err := strconv.Atoi(os.Getenv("KRAFT_SIM_FROM")); err == nil {
		from = n
	}
	bin := build(t)
	var mu sync.Mutex // guards ran
	ran := 0
	each(from, count, func(from, n int) {
		out := runSeeds(bin, from, n)
		mu.Lock()
		defer mu.Unlock()
		ran += out.ran
		for _, w := range out.wrong {
			t.Error(w)
		}
		if out.ran < n {
			t.Errorf("ended before seed %d:\n%s", from+out.ran, out.tail)
		}
	})
	t.Logf("%d simulations", ran)
}

// search looks for a seed that finds something.
type search struct {
	mu    sync.Mutex // guards the rest
	found int        // the smallest of those that did so far
	check string     // what it found
}

// try runs seeds unless a smaller one has found something.
func (s *search) try(bin string, from, n int) {
	s.mu.Lock()
	done := s.found > 0 && s.found < from
	s.mu.Unlock()
	if done {
		return
	}
	out := runSeeds(bin, from, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, check := 0, ""
	if len(out.wrong) > 0 {
		m := wrongLine.FindStringSubmatch(out.wrong[0])
		at, _ = strconv.Atoi(m[1])
		check, _, _ = strings.Cut(m[2], ":")
	} else if out.ran < n {
		at, check = from+out.ran, "the process ended"
	}
	if at > 0 && (s.found == 0 || at < s.found) {
		s.found, s.check = at, check
	}
}

const chunk = 20

// each runs f for chunks of count seeds, on a goroutine for each processor.
func each(first, count int, f func(from, n int)) {
	var running sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for from := range next {
				f(from, min(chunk, first+count-from))
			}
		})
	}
	for from := first; from < first+count; from += chunk {
		next <- from
	}
	close(next)
	running.Wait()
}

type outcome struct {
	ran   int
	wrong []string // the first finding of each seed, with how to see it again
	tail  string
}

var (
	ranLine   = regexp.MustCompile(`seed \d+: .* in .* hash`)
	wrongLine = regexp.MustCompile(`seed (\d+): ([a-z ]+: .*)`)
)

func runSeeds(bin string, from, n int) (o outcome) {
	cmd := exec.Command(bin, "-test.run", "^TestSeed$", "-test.v", "-seed", fmt.Sprint(from), "-seeds", fmt.Sprint(n))
	out, _ := cmd.CombinedOutput()
	told := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if ranLine.MatchString(line) {
			o.ran++
		} else if m := wrongLine.FindStringSubmatch(line); m != nil && !told[m[1]] {
			told[m[1]] = true
			o.wrong = append(o.wrong, fmt.Sprintf("%s\nits story: go test -tags synctests ./e2e/sim -run 'TestSeed$' -v -seed %s -story (or -shrink)", m[0], m[1]))
		}
	}
	if all := strings.TrimSpace(string(out)); len(all) > 3000 {
		o.tail = all[len(all)-3000:]
	} else {
		o.tail = all
	}
	return o
}
