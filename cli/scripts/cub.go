package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

var cubScript = script{
	about:   "cub kafka-ready [-b HOST:PORT] N SECONDS: wait until N brokers are there, as Confluent's images do it",
	options: slices.Concat([]option{{name: "bootstrap-server", aliases: []string{"b"}}, {name: "command-config", aliases: []string{"c", "config"}}, {name: "security-protocol", aliases: []string{"s"}}}),
	run:     cub,
}

// cub waits for brokers. Its other commands are about Confluent's own programs.
func cub(c *call) error {
	if len(c.rest) != 3 || c.rest[0] != "kafka-ready" {
		return errors.New("cub takes kafka-ready N SECONDS, for N brokers within so many seconds")
	}
	wanted, err := strconv.Atoi(c.rest[1])
	seconds, err2 := strconv.Atoi(c.rest[2])
	if err != nil || err2 != nil {
		return fmt.Errorf("cub kafka-ready takes two numbers, not %s and %s", c.rest[1], c.rest[2])
	}
	ctx, cancel := context.WithTimeout(c.ctx, time.Duration(seconds)*time.Second)
	defer cancel()
	const pause = 50 * time.Millisecond
	for {
		found := 0
		err := c.admin(func(admin *kadm.Client) error {
			brokers, err := admin.ListBrokers(ctx)
			found = len(brokers)
			return err
		})
		if err == nil && found >= wanted {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("Expected %d brokers but found only %d within %d s", wanted, found, seconds)
		case <-time.After(pause):
		}
	}
}
