package storage

import (
	"context"
	"errors"
	"maps"
	"math"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"kraft/wire/defect"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

const cleanerCheckpointFile = "cleaner-offset-checkpoint"

// CleanerConfig holds the broker's settings for compaction.
type CleanerConfig struct {
	Threads   int           // log.cleaner.threads
	Memory    int64         // log.cleaner.dedupe.buffer.size, of all threads together
	Backoff   time.Duration // log.cleaner.backoff.ms; less than 10 ms counts as that
	ReadWrite float64       // log.cleaner.io.max.bytes.per.second, read and written together
}

// cleaner compacts logs in the background: each thread takes the dirtiest log that nobody else works on.
type cleaner struct {
	manager *Manager
	config  CleanerConfig
	limit   *rate.Limiter
	ctx     context.Context // ends with the threads
	cancel  context.CancelFunc
	done    sync.WaitGroup

	writing locks.Mutex // held while a checkpoint file is written; nothing else is waited for meanwhile
	running locks.Mutex // held while threads start and stop, and guards closed; the above change only between
	closed  bool

	mu    locks.Mutex // guards the rest
	busy  map[ident.TopicPartition]bool
	dirty map[*Dir]map[ident.TopicPartition]int64 // first offset never compacted
	stale map[*Dir]bool                           // the checkpoint file says something of partitions that are forgotten
}

func newCleaner(m *Manager, config CleanerConfig) *cleaner {
	c := &cleaner{manager: m, config: config, busy: map[ident.TopicPartition]bool{}, dirty: map[*Dir]map[ident.TopicPartition]int64{}, stale: map[*Dir]bool{}}
	for _, d := range m.online() {
		offsets, err := readOffsets(d.fs, d.path, cleanerCheckpointFile)
		if err != nil { // everything counts as dirty again
			m.log.Warn().Err(err).Msg("ignored damaged checkpoint")
			offsets = map[ident.TopicPartition]int64{}
		}
		c.dirty[d] = offsets
		for tp := range offsets {
			if !m.states[d].present[tp] {
				c.forget(d, tp)
			}
		}
	}
	return c
}

// start begins the threads. running is held, or nobody else knows of c yet.
func (c *cleaner) start() {
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.limit = nil
	if r := c.config.ReadWrite; r > 0 && r < math.MaxInt64 {
		c.limit = rate.NewLimiter(rate.Limit(r), int(min(r, 1<<20))+1)
	}
	if c.config.Threads > maxCleanerThreads {
		c.manager.log.Warn().Int("threads", maxCleanerThreads).Msg("log.cleaner.threads asks for more threads than kraft runs")
	}
	for range c.threads() {
		c.done.Add(1)
		go c.run()
	}
}

// maxCleanerThreads is more than any disk has work for; each takes memory of its own.
const maxCleanerThreads = 64

// threads is how many run.
func (c *cleaner) threads() int { return min(c.config.Threads, maxCleanerThreads) }

func (c *cleaner) close() {
	c.running.Lock()
	defer c.running.Unlock()
	c.closed = true
	c.cancel()
	c.done.Wait()
}

// configure starts the threads anew with other settings. A pass that is under way begins again.
func (c *cleaner) configure(config CleanerConfig) {
	c.running.Lock()
	defer c.running.Unlock()
	if c.closed || config == c.config {
		return
	}
	c.cancel()
	c.done.Wait()
	c.config = config
	c.start()
}

func (c *cleaner) run() {
	defer c.done.Done()
	share := c.config.Memory / int64(c.threads())
	keys := newOffsetMap(share)
	backoff := max(c.config.Backoff, 10*time.Millisecond)
	timer := time.NewTimer(backoff)
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-timer.C:
		}
		for c.cleanOne(keys, time.Now()) {
		}
		if len(keys.slots) > firstSlots {
			keys = newOffsetMap(share) // idle: give the memory back
		}
		timer.Reset(backoff)
	}
}

// cleanOne compacts the dirtiest log, if any is dirty enough.
func (c *cleaner) cleanOne(keys *offsetMap, now time.Time) bool {
	if c.ctx.Err() != nil {
		return false
	}
	p, work := c.choose(now)
	if p == nil {
		return false
	}
	log := p.log
	begun := time.Now()
	pass, end := new(compaction), work.from
	err := defect.Contain("compaction", func() (err error) {
		pass, end, err = log.compact(work, keys, now, c.throttle, c.ctx.Done())
		return err
	})
	switch {
	case errors.Is(err, errStopped), errors.Is(err, errChanged), err != nil && p.dir.offline() != nil:
		c.end(p, -1)
		return false
	case err != nil:
		defect.Tell(&c.manager.log, err).Str("partition", log.tp.String()).Msg("compaction failed: the log stays as it is")
		c.end(p, work.to) // not again until more is written
		return true
	}
	c.end(p, end)
	if err := c.checkpoint(p.dir); err != nil && p.dir.offline() == nil {
		c.manager.log.Error().Err(err).Msg("checkpoint failed")
	}
	c.manager.log.Debug().Str("partition", log.tp.String()).Int64("read", pass.read).Int64("written", pass.written).
		Dur("took", time.Since(begun)).Msg("compacted")
	return end > work.from
}

// choose finds the compacted log with the largest share of dirty bytes that is large enough, or one whose
// max.compaction.lag.ms has passed.
func (c *cleaner) choose(now time.Time) (*placed, cleanable) {
	for {
		best, work, seen := c.dirtiest(now)
		if best == nil || c.begin(best, seen) {
			return best, work
		}
	}
}

// dirtiest is the log that choose is to choose, nil if none is dirty enough, and up to where it was compacted. It reads from disks.
func (c *cleaner) dirtiest(now time.Time) (best *placed, work cleanable, seen int64) {
	for _, p := range c.manager.snapshot() {
		config := p.log.Config()
		if !config.Compact || p.log.failed() {
			continue
		}
		from, busy := c.progress(p)
		if busy {
			continue
		}
		w, err := p.log.cleanable(from, now)
		if err != nil {
			c.manager.log.Error().Err(err).Str("partition", p.log.tp.String()).Msg("cannot tell what to compact")
			continue
		}
		if w.dirtyBytes == 0 || !(w.ratio() > config.MinDirtyRatio) && !w.overdue { // a ratio may be NaN
			continue
		}
		if best == nil || w.ratio() > work.ratio() {
			best, work, seen = p, w, from
		}
	}
	return best, work, seen
}

// progress is the first offset of a log that was never compacted, and whether a thread works on the log.
func (c *cleaner) progress(p *placed) (from int64, busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirty[p.dir][p.log.tp], c.busy[p.log.tp]
}

// begin reserves a log for the calling thread, which has seen up to where it was compacted. It reports false where another thread works on
// the log, has compacted more of it since, or where the log was cut below that.
func (c *cleaner) begin(p *placed, seen int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	tp := p.log.tp
	if c.busy[tp] || c.dirty[p.dir][tp] != seen {
		return false
	}
	c.busy[tp] = true
	return true
}

// end gives a log back, which is compacted up to an offset now; -1 is as far as before.
func (c *cleaner) end(p *placed, upTo int64) {
	c.manager.mu.RLock()
	defer c.manager.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	tp := p.log.tp
	delete(c.busy, tp)
	if upTo >= 0 && c.manager.logs[tp] == p { // and not deleted since
		c.dirty[p.dir][tp] = upTo
	}
}

// throttle waits until n more bytes may be read or written.
func (c *cleaner) throttle(n int) {
	for c.limit != nil && n > 0 && c.ctx.Err() == nil {
		m := min(n, c.limit.Burst())
		_ = c.limit.WaitN(c.ctx, m) // ends early when the cleaner stops
		n -= m
	}
}

// dirtyFrom is the first offset that was never compacted.
func (c *cleaner) dirtyFrom(d *Dir, tp ident.TopicPartition) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirty[d][tp]
}

// forget drops what is known of a deleted partition, so that a new one of its name starts dirty.
func (c *cleaner) forget(d *Dir, tp ident.TopicPartition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.dirty[d][tp]; ok {
		delete(c.dirty[d], tp)
		c.stale[d] = true
	}
}

// settle sees to it that the checkpoint file says nothing of what was forgotten.
func (c *cleaner) settle(d *Dir) error {
	c.mu.Lock()
	stale := c.stale[d]
	c.mu.Unlock()
	if !stale {
		return nil
	}
	return c.checkpoint(d)
}

// truncated takes back how far a partition was compacted when its log is cut before that.
func (c *cleaner) truncated(d *Dir, tp ident.TopicPartition, end int64) error {
	c.mu.Lock()
	o, ok := c.dirty[d][tp]
	if ok && o > end {
		c.dirty[d][tp] = end
	}
	c.mu.Unlock()
	if !ok || o <= end {
		return nil
	}
	return c.checkpoint(d)
}

// announce notes in the directory that a partition is about to move to how far it was compacted.
func (c *cleaner) announce(from, to *Dir, tp ident.TopicPartition) error {
	c.mu.Lock()
	o, ok := c.dirty[from][tp]
	if ok {
		c.dirty[to][tp] = o
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	return c.checkpoint(to)
}

func (c *cleaner) checkpoint(d *Dir) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	offsets := maps.Clone(c.dirty[d])
	c.stale[d] = false
	c.mu.Unlock()
	err := writeOffsets(d.fs, filepath.Clean(d.path), cleanerCheckpointFile, offsets)
	if err != nil {
		c.mu.Lock()
		c.stale[d] = true
		c.mu.Unlock()
	}
	return err
}
