//go:build !lockorder

// Package locks has the mutexes of kraft's packages: Go's own. Built with the tag lockorder they watch in which order goroutines take them, and
// end the process if two orders contradict each other, with the places of both:
//
//	go test -tags lockorder ./storage ./replication ./e2e/race
package locks

import "sync"

// Mutex is sync.Mutex.
type Mutex = sync.Mutex

// RWMutex is sync.RWMutex.
type RWMutex = sync.RWMutex
