package runtime

import (
	"time"

	"kraft/wire/defect"
)

// syncer writes a log to disk beside its loop, which goes on meanwhile. Each sync is for all that was appended until it began.
type syncer struct {
	wanted chan int64    // holds the newest offset, if it is not synced yet
	failed chan error    // why a sync failed; it is tried again
	stop   chan struct{} // closed by the loop, which does not wait for a disk that hangs
}

func startSyncer(log Log) *syncer {
	s := &syncer{wanted: make(chan int64, 1), failed: make(chan error), stop: make(chan struct{})}
	go s.run(log)
	return s
}

func (s *syncer) run(log Log) {
	for {
		select {
		case <-s.stop:
			return
		case end := <-s.wanted:
			sync := func() error { return defect.Contain("coordinator", func() error { return log.Sync(end) }) }
			for err := sync(); err != nil; err = sync() {
				select {
				case <-s.stop:
					return
				case s.failed <- err:
				}
				select {
				case <-s.stop:
					return
				case <-time.After(failurePause):
				}
				select {
				case end = <-s.wanted:
				default:
				}
			}
		}
	}
}

// to has what is below end synced soon. Only the loop calls it.
func (s *syncer) to(end int64) {
	select {
	case <-s.wanted: // an earlier end
	default:
	}
	s.wanted <- end // nobody else sends
}
