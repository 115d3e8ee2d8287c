package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// waiting is how many pushes may wait for the receiver; what comes when there are more is given up.
const waiting = 256

// forwardPatience is how long the receiver may take for one.
const forwardPatience = 10 * time.Second

// forwarder posts pushes to a receiver of OTLP over HTTP, one at a time.
type forwarder struct {
	url    string
	log    zerolog.Logger
	failed atomic.Int64
	queue  chan []byte
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

func newForwarder(url string, log zerolog.Logger) *forwarder {
	f := &forwarder{url: url, log: log, queue: make(chan []byte, waiting), done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	go f.run()
	return f
}

// send hands a push over, or gives it up: clients do not wait for the receiver.
func (f *forwarder) send(b []byte) {
	select {
	case f.queue <- b:
	default:
		f.failed.Add(1)
	}
}

func (f *forwarder) run() {
	defer close(f.done)
	client := &http.Client{Timeout: forwardPatience, Transport: &http.Transport{MaxIdleConns: 1}}
	defer client.CloseIdleConnections()
	working := true
	for {
		select {
		case <-f.ctx.Done():
			return
		case b := <-f.queue:
			err := f.post(client, b)
			if err != nil {
				f.failed.Add(1)
			}
			if failed := err != nil; failed == working && f.ctx.Err() == nil { // one line when it begins to fail, one when it works again
				working = !failed
				f.log.Warn().Err(err).Str("url", f.url).Bool("works", working).Msg("passing on clients' metrics (telemetry.otlp.endpoint)")
			}
		}
	}
}

func (f *forwarder) post(client *http.Client, b []byte) error {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodPost, f.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

func (f *forwarder) close() {
	f.cancel()
	<-f.done
}
