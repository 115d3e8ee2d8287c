package planted

import (
	"fmt"
	"os"
	"strconv"
	"sync"
)

const (
	// MutantVariable is the number of the change that a test binary made by e2e/mutate makes, in the environment.
	MutantVariable = "KRAFT_MUTANT"
	// ReachedVariable names a file to which the number of each change is appended whose place is reached.
	ReachedVariable = "KRAFT_MUTANTS_REACHED"
)

var mutant, _ = strconv.Atoi(os.Getenv(MutantVariable))

var reached = struct {
	sync.Mutex
	seen map[int]bool
	file *os.File
}{seen: map[int]bool{}}

func init() {
	if path := os.Getenv(ReachedVariable); path != "" {
		reached.file, _ = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
}

func changed(n int) bool {
	if reached.file != nil {
		reached.Lock()
		defer reached.Unlock()
		if !reached.seen[n] {
			reached.seen[n] = true
			fmt.Fprintln(reached.file, n)
		}
	}
	return n == mutant
}

// Inverted is what a comparison gives, or its opposite where the process makes change n.
func Inverted(n int, is bool) bool { return is != changed(n) }

// Taken is whether a branch is taken, which none is where the process makes change n.
func Taken(n int, is bool) bool { return !changed(n) && is }

// Kept is false where the process makes change n: the lock is not taken.
func Kept(n int) bool { return !changed(n) }
