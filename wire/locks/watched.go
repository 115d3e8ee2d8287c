//go:build lockorder

// Package locks has the mutexes of kraft's packages, which watch in which order goroutines take them.
package locks

import (
	"time"

	"github.com/sasha-s/go-deadlock"
)

// Mutex is a sync.Mutex that is watched.
type Mutex = deadlock.Mutex

// RWMutex is a sync.RWMutex that is watched.
type RWMutex = deadlock.RWMutex

func init() {
	deadlock.Opts.DeadlockTimeout = 2 * time.Minute // disks of tests hang for shorter
	deadlock.Opts.MaxMapSize = 1 << 20
}
