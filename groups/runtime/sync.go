package runtime

// syncer writes a log to disk beside its loop, which goes on meanwhile. Each sync is for all that was appended until it began.
type syncer struct {
	wanted chan int64 // holds the newest offset, if it is not synced yet
	failed chan error
	done   chan struct{}
}

func startSyncer(log Log) *syncer {
	s := &syncer{wanted: make(chan int64, 1), failed: make(chan error, 1), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for end := range s.wanted {
			if err := log.Sync(end); err != nil {
				select {
				case s.failed <- err:
				default: // the loop has yet to hear of an earlier one
				}
			}
		}
	}()
	return s
}

// to has what is below end synced soon. Only the loop calls it.
func (s *syncer) to(end int64) {
	for {
		select {
		case s.wanted <- end:
			return
		default:
		}
		select {
		case <-s.wanted: // an earlier end
		default:
		}
	}
}

// end waits until all is synced. to is not called any more.
func (s *syncer) end() {
	close(s.wanted)
	<-s.done
}
