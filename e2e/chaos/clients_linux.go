package chaos

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"kraft/e2e/clients"
	"kraft/e2e/workload"
)

// Program is a running program of e2e/clients on the clients' host, whose lines become part of the history.
type Program struct {
	*clients.Program
	name    string
	reading sync.WaitGroup

	mu     sync.Mutex // guards the rest
	errors []string   // that a producer was told
	acked  int
	read   map[int]int64 // of a consumer: the newest offset by partition
}

// Stream starts a program that sends records to all partitions of a topic until Stop.
func (c *Cluster) Stream(d clients.Driver, name, topic string, idempotent bool) (*Program, error) {
	const first = 1000 // no client of a workload has its number
	p, sent, number := &Program{name: name}, 0, first+len(c.programs)
	return p, c.start(p, d, func(f []string) {
		switch {
		case len(f) == 3 && f[0] == "sent":
			n, _ := strconv.Atoi(f[2])
			c.History.Sends(f[1], workload.Attempt{To: workload.Partition{Topic: topic, N: int32(n)}, Producer: number, N: sent, Idempotent: idempotent, Unordered: !idempotent})
			sent++
		case len(f) == 3 && f[0] == "ack":
			offset, _ := strconv.ParseInt(f[2], 10, 64)
			c.History.Acked(f[1], offset)
			p.mu.Lock()
			p.acked++
			p.mu.Unlock()
		case len(f) > 2 && f[0] == "error":
			text := strings.Join(f[1:], " ")
			c.History.Say("%s: %s", name, text)
			p.mu.Lock()
			p.errors = append(p.errors, text)
			p.mu.Unlock()
		}
	}, "stream", c.bootstrap(), topic, strconv.Itoa(Partitions), name)
}

// Consume starts a program that reads a topic as a member of a group until Stop.
func (c *Cluster) Consume(d clients.Driver, name, topic, group string) (*Program, error) {
	p := &Program{name: name, read: map[int]int64{}}
	return p, c.start(p, d, func(f []string) {
		if len(f) < 5 || f[0] != "record" {
			return
		}
		n, _ := strconv.Atoi(f[1])
		offset, _ := strconv.ParseInt(f[2], 10, 64)
		c.History.Read(name, workload.Partition{Topic: topic, N: int32(n)}, offset, f[4])
		p.mu.Lock()
		p.read[n] = offset
		p.mu.Unlock()
	}, "consume", c.bootstrap(), topic, group)
}

func (c *Cluster) bootstrap() string { return strings.Join(c.Bootstrap(), ",") }

func (c *Cluster) start(p *Program, d clients.Driver, line func([]string), args ...string) error {
	if err := c.Clients.Do(func() (err error) { p.Program, err = d.Start(args...); return err }); err != nil {
		return err
	}
	p.reading.Go(func() {
		for l := range p.Lines {
			line(strings.Fields(l))
		}
	})
	c.programs = append(c.programs, p)
	return nil
}

// Stop has the program end in its own time, and says how it ended.
func (p *Program) Stop(patience time.Duration) error {
	err := p.End()
	if err == nil {
		err = p.Wait(patience)
	}
	p.kill()
	if err == nil && !strings.Contains(p.Output(), "closed") {
		err = errors.New("it did not close")
	}
	if err != nil {
		const enough = 1000
		out := p.Output()
		return fmt.Errorf("%s: %w; it said: ...%s", p.name, err, out[max(0, len(out)-enough):])
	}
	return nil
}

func (p *Program) kill() {
	p.Kill()
	p.reading.Wait()
}

// Offsets are the newest that a consumer has read, by partition.
func (p *Program) Offsets() map[int]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.read)
}

// Told are the errors that a producer was told, and how many of its records were acknowledged.
func (p *Program) Told() (errors []string, acked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errors, p.acked
}
