package storage

import (
	"kraft/wire/locks"
)

// copying is the copy of a log that moves to another directory. What is cut from the log is cut from the copy first, so that the copy never
// holds a record that the log does not have: another leader's records take the place of those that were cut (KIP-101).
type copying struct {
	mu     locks.Mutex // held while the copy is appended to or cut, or takes the log's place; taken before Log.mu
	copy   *Log
	failed error // the copy could not be cut: it is of no use any more
}

// begin ties the copy to its log. An earlier process may have left a copy behind that was not cut with the log; epochs tell what the two
// have in common. Nothing was copied after such a cut.
func (c *copying) begin(l *Log) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.mu.Lock()
	l.copying = c
	l.mu.Unlock()
	end := c.copy.EndOffset()
	common := c.copy.epochs.history().commonEnd(end, l.epochs.history(), l.EndOffset())
	if common >= end {
		return nil
	}
	_, err := c.copy.Truncate(common)
	return err
}

// end unties the copy from its log.
func (c *copying) end(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.copying = nil
}

// next copies the next records, and returns how many bytes. Where the log was cut meanwhile it copies nothing.
func (c *copying) next(l *Log, buf *[]byte) (int, error) {
	before := l.cutCount()
	data, err := readNext(l, c.copy, buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failed != nil:
		return 0, c.failed
	case l.cutCount() != before: // what was read may not be records any more
		return 0, nil
	case err != nil:
		return 0, err
	}
	return appendCopy(c.copy, data)
}

// cutCopy cuts the copy of a log that is about to be cut, if there is one. Call release when the log is cut. The cut of the log must begin
// anew if l.copying is not c when it holds Log.mu.
func (l *Log) cutCopy(cut func(copy *Log) error) (c *copying, release func()) {
	for {
		if c = l.copied(); c == nil {
			return nil, func() {}
		}
		c.mu.Lock()
		if l.copied() == c { // else the copy may have taken the log's place
			if c.failed == nil {
				c.failed = cut(c.copy)
			}
			return c, c.mu.Unlock
		}
		c.mu.Unlock()
	}
}

// copied returns the copy that is being made, if any.
func (l *Log) copied() *copying {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.copying
}

// cutCount counts how often the log was cut.
func (l *Log) cutCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}
