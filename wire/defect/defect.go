// Package defect keeps a mistake of kraft's own to what it happens in. A panic while one request is answered, one record of the metadata
// is applied or one log is opened ends that, as an error, and not the process: after a restart the same bytes would only do the same
// again. docs/architecture.md lists what ends the process nevertheless.
package defect

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// Error is a panic that was contained.
type Error struct {
	Part  string // of kraft, as in Counts
	Value any    // of the panic
	Where string // function, file and line
	Stack []byte // of the goroutine; nil where the same was told before
}

func (e *Error) Error() string {
	return fmt.Sprintf("a mistake in kraft, please report it: %s: %v at %s", e.Part, e.Value, e.Where)
}

// toldAtMost bounds the places of panics that are remembered.
const toldAtMost = 1000

var (
	mu     sync.Mutex // guards the rest
	counts = map[string]int64{}
	told   = map[string]bool{} // by place
)

// Contain runs f on the calling goroutine and returns its error, an *Error if it panicked. Locks that f takes must be given back by defer,
// and what it changes must be whole, or marked as broken, where it panics. part names what f is a part of, for Counts. Any goroutine may
// call it.
func Contain(part string, f func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		e := &Error{Part: part, Value: p, Where: where()}
		mu.Lock()
		defer mu.Unlock()
		counts[part]++
		if !told[e.Where] && len(told) < toldAtMost {
			told[e.Where] = true
			e.Stack = debug.Stack()
		}
		err = e
	}()
	return f()
}

// where is the place that panicked: the frame below those of the runtime's panic.
func where() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") || !more {
			return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
		}
	}
}

// Tell begins a line about err, with the stack where it is a panic that is told for the first time.
func Tell(log *zerolog.Logger, err error) *zerolog.Event {
	e := log.Error().Err(err)
	if d := (*Error)(nil); errors.As(err, &d) && d.Stack != nil {
		e.Bytes("stack", d.Stack)
	}
	return e
}

// Counts is how many panics were contained since the process began, by part. Any goroutine may call it.
func Counts() map[string]int64 {
	mu.Lock()
	defer mu.Unlock()
	return maps.Clone(counts)
}
