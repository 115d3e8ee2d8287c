package storage

import (
	"errors"
	"time"

	"kraft/wire/locks"
)

// copying is the copy of a log that moves to another directory. Only the mover touches the copy. If the log is cut meanwhile, another
// leader's records take the place of those that were cut (KIP-101): the mover cuts the copy, too, before it appends anything more to it.
type copying struct {
	to *Log

	mu  locks.Mutex // guards the rest; taken after Log.mu
	cut int64       // the lowest end that the log was cut to since the copy was cut, -1 for none
}

// errCopyCut says that the log was cut while it was copied: the copy has to be cut before it can take the log's place.
var errCopyCut = errors.New("the log was cut while it was copied")

// begin ties the copy to its log, and cuts from it what the log does not have: an earlier process may have ended between a cut of the log and
// that of the copy. Since it appended nothing to the copy in between, epochs tell what both have in common.
func (c *copying) begin(l *Log) error {
	l.mu.Lock()
	l.copying = c
	l.mu.Unlock()
	end, logEnd := c.to.EndOffset(), l.EndOffset() // before the history: an epoch that begins meanwhile is behind logEnd
	common := c.to.epochs.history().commonEnd(end, l.epochs.history(), logEnd)
	if common >= end {
		return nil
	}
	_, err := c.to.Truncate(common)
	return err
}

// end unties the copy from its log.
func (c *copying) end(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.copying == c {
		l.copying = nil
	}
}

// noteCut notes that the log now ends at end, and may go on with other records. Log.mu is held; c may be nil.
func (c *copying) noteCut(end int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut < 0 || end < c.cut {
		c.cut = end
	}
}

// wasCut reports whether the log was cut since the copy was.
func (c *copying) wasCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut >= 0
}

// follow cuts the copy as the log was cut.
func (c *copying) follow() error {
	c.mu.Lock()
	cut := c.cut
	c.cut = -1
	c.mu.Unlock()
	if cut < 0 || cut >= c.to.EndOffset() {
		return nil
	}
	_, err := c.to.Truncate(cut)
	return err
}

// next copies the next records, and returns how many bytes. It copies nothing if the log is cut meanwhile.
func (c *copying) next(l *Log, buf *[]byte) (int, error) {
	if err := c.follow(); err != nil {
		return 0, err
	}
	data, err := readNext(l, c.to, buf)
	if c.wasCut() { // what was read may not be records of the log, or not records at all
		return 0, nil
	}
	if err != nil || len(data) == 0 {
		return 0, err
	}
	return c.to.AppendReplicated(data, true, time.Now())
}

// nearly reports whether no more than copyBytes are left to copy, so that appends can wait for the rest.
func (c *copying) nearly(l *Log) bool {
	next, t := c.to.EndOffset(), l.tail.Load()
	if next >= t.offset {
		return true
	}
	if next < t.segment.base {
		return false
	}
	first, ok, err := t.segment.locate(next, t.size)
	return err == nil && (!ok || t.size-first.pos <= copyBytes)
}
