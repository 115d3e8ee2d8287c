package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

// show prints the result of an operation. If it is not complete, show first writes to stderr what is missing, and returns errTold.
func show(c *cli.Context, result told, err error) error {
	lacks := lacking(c, err)
	if err != nil && !lacks {
		return err
	}
	if err := tell(c, result); err != nil {
		return err
	}
	if lacks {
		return errTold
	}
	return nil
}

// lacking writes to stderr what is missing from a result, and reports whether something is.
func lacking(c *cli.Context, err error) bool {
	var l *ops.Lacking
	if !errors.As(err, &l) {
		return false
	}
	for _, line := range l.Lines {
		tellOnce(c, line)
	}
	return true
}

// tellOnce writes a line to stderr unless the command has already.
func tellOnce(c *cli.Context, line string) {
	told, _ := c.App.Metadata[toldKey].(map[string]bool)
	if told == nil {
		told = map[string]bool{}
		if c.App.Metadata == nil {
			c.App.Metadata = map[string]any{}
		}
		c.App.Metadata[toldKey] = told
	}
	if !told[line] {
		told[line] = true
		fmt.Fprintln(c.App.ErrWriter, "kraft: "+line)
	}
}

const toldKey = "told"

// withoutController ends a command that has asked a cluster. Brokers without an active controller answer from the metadata that they
// last had; the command warns of that. Where the command failed for want of an answer, it returns ops.ErrNoController in place of that error.
func withoutController(c *cli.Context, client *kgo.Client, err error) error {
	if err != nil && strings.Contains(err.Error(), "the controller broker is not available") {
		return ops.ErrNoController
	}
	var network net.Error
	if err != nil && !errors.Is(err, errTold) && !errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) || c.Context.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, time.Second)
	defer cancel()
	if err != nil { // the answer would come behind the one that did not
		other, failed := newClient(c)
		if failed != nil {
			return err
		}
		defer other.Close()
		client = other
	}
	if led, known := ops.HasController(ctx, client); led || !known {
		return err
	}
	if err != nil && !errors.Is(err, errTold) {
		return ops.ErrNoController
	}
	tellOnce(c, ops.ErrNoController.Error())
	return err
}
