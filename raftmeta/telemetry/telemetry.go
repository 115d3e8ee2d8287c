// Package telemetry takes the metrics that clients push to this broker (KIP-714): what they are asked for follows from the
// cluster's subscriptions, which are configs of client-metrics resources; what they push is kept for scrapes and may be passed on
// to an OTLP receiver.
package telemetry

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/locks"
	"kraft/wire/record"
)

// maxInstances bounds the clients that are known at a time; the one not heard of for longest goes first. It is Kafka's bound.
const maxInstances = 16384

// forgetAfter is how many of its intervals a client may miss before it is forgotten, and leastMemory the least time.
const (
	forgetAfter = 3
	leastMemory = time.Minute
)

// codecs are those that clients may push in, the best first.
var codecs = []int8{int8(record.Zstd), int8(record.LZ4), int8(record.Gzip), int8(record.Snappy)}

// Config is what a Manager needs of its node.
type Config struct {
	Image    func() *image.Image
	MaxBytes int    // telemetry.max.bytes: of a push, compressed and not
	Forward  string // telemetry.otlp.endpoint: a URL to post what clients push to; "" for none
	Log      zerolog.Logger
}

// Manager knows the clients that push metrics to this broker. Its methods may be called from any goroutine.
type Manager struct {
	config  Config
	forward *forwarder // nil for none

	mu        locks.Mutex // guards the rest
	instances map[[16]byte]*instance
	byHeard   list.List // ids of instances, the one that was heard of last at the end
	series    int       // of all instances
	counts    Counts
}

// Counts is what has become of requests since the start.
type Counts struct {
	Pushed, Refused, Dropped int64 // pushes taken and refused; data points that could not be kept
	ForwardFailed            int64 // pushes that the receiver did not get
}

// instance is one client, as long as it goes on pushing. Manager.mu guards it.
type instance struct {
	client   Client
	id       int32 // of the subscription that it was told last
	interval time.Duration
	heard    time.Time // of it at all
	got      time.Time // its newest GetTelemetrySubscriptions that was answered
	pushed   time.Time
	fetches  bool // it was told to ask again at once
	ended    bool // it has said that it ends
	series   map[string]Series
	place    *list.Element // in Manager.byHeard
}

// NewManager makes a manager; Close ends what it began.
func NewManager(c Config) *Manager {
	m := &Manager{config: c, instances: map[[16]byte]*instance{}}
	if c.Forward != "" {
		m.forward = newForwarder(c.Forward, c.Log)
	}
	return m
}

// Close ends the passing on of metrics; what waits is given up.
func (m *Manager) Close() {
	if m.forward != nil {
		m.forward.close()
	}
}

// RegisterHandlers adds GetTelemetrySubscriptions and PushTelemetry to r.
func (m *Manager) RegisterHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 0, m.getSubscriptions)
	wire.Handle(r, 0, 0, m.push)
}

// maxClientID bounds what is kept of a client's id, in bytes.
const maxClientID = 1000

func clientOf(ctx *wire.Request, id [16]byte) Client {
	s := ctx.Session
	_, port, _ := net.SplitHostPort(s.Peer)
	return Client{InstanceID: id, ClientID: ctx.ClientID[:min(len(ctx.ClientID), maxClientID)], SoftwareName: s.SoftwareName, SoftwareVersion: s.SoftwareVersion, SourceAddress: s.Host(), SourcePort: port}
}

// getSubscriptions answers GetTelemetrySubscriptions as Kafka's ClientMetricsManager, but asks for sums from the beginning in place
// of differences: that is what scrapes tell.
func (m *Manager) getSubscriptions(ctx *wire.Request, req *kmsg.GetTelemetrySubscriptionsRequest) (*kmsg.GetTelemetrySubscriptionsResponse, error) {
	resp := kmsg.NewPtrGetTelemetrySubscriptionsResponse()
	id := req.ClientInstanceID
	if id == [16]byte{} {
		id = controller.NewID()
	}
	c := clientOf(ctx, id)
	s := subscriptionFor(c, subscriptions(m.config.Image()))
	if err := m.admitGet(c, s, time.Now()); err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		return resp, nil
	}
	resp.ClientInstanceID, resp.SubscriptionID, resp.PushIntervalMillis = id, s.ID, int32(s.Interval.Milliseconds())
	resp.AcceptedCompressionTypes, resp.TelemetryMaxBytes, resp.RequestedMetrics = codecs, int32(m.config.MaxBytes), s.Metrics
	return resp, nil
}

// admitGet refuses who asks again before its interval is over, without a reason to.
func (m *Manager) admitGet(c Client, s Subscription, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.instance(c, s, now)
	last := i.got
	if i.pushed.After(last) {
		last = i.pushed
	}
	if !last.IsZero() && now.Sub(last) < i.interval && !i.fetches && i.id == s.ID {
		m.counts.Refused++
		return kerr.ThrottlingQuotaExceeded
	}
	i.got, i.id, i.interval, i.fetches = now, s.ID, s.Interval, false
	return nil
}

// push answers PushTelemetry as Kafka's ClientMetricsManager.
func (m *Manager) push(ctx *wire.Request, req *kmsg.PushTelemetryRequest) (*kmsg.PushTelemetryResponse, error) {
	resp := kmsg.NewPtrPushTelemetryResponse()
	c := clientOf(ctx, req.ClientInstanceID)
	s := subscriptionFor(c, subscriptions(m.config.Image()))
	err := m.admitPush(c, s, req, time.Now())
	if err == nil && len(req.Metrics) > 0 {
		err = m.take(c, record.Codec(req.CompressionType), req.Metrics)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.counts.Refused++
	} else {
		m.counts.Pushed++
	}
	resp.ErrorCode = wire.ErrorCode(err)
	return resp, nil
}

func (m *Manager) admitPush(c Client, s Subscription, req *kmsg.PushTelemetryRequest, now time.Time) error {
	if reserved(req.ClientInstanceID) {
		return fmt.Errorf("client instance id %x is reserved: %w", req.ClientInstanceID, kerr.InvalidRequest)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.instance(c, s, now)
	ended := i.ended
	i.ended = req.Terminating
	early := !i.pushed.IsZero() && now.Sub(i.pushed) < i.interval
	switch {
	case ended:
		return fmt.Errorf("client instance %x has ended: %w", req.ClientInstanceID, kerr.InvalidRequest)
	case early && !req.Terminating && !i.fetches:
		return kerr.ThrottlingQuotaExceeded
	case req.SubscriptionID != s.ID:
		i.fetches = true
		return kerr.UnknownSubscriptionID
	case req.CompressionType < 0 || record.Codec(req.CompressionType) > record.Zstd:
		i.fetches = true
		return kerr.UnsupportedCompressionType
	case len(req.Metrics) > m.config.MaxBytes:
		return kerr.TelemetryTooLarge
	}
	i.pushed, i.fetches = now, false
	return nil
}

// instance finds a client, or makes it known. The caller holds m.mu.
func (m *Manager) instance(c Client, s Subscription, now time.Time) *instance {
	i, ok := m.instances[c.InstanceID]
	if !ok {
		for first := m.byHeard.Front(); first != nil; first = m.byHeard.Front() {
			id := first.Value.([16]byte)
			if i := m.instances[id]; now.Sub(i.heard) <= max(forgetAfter*i.interval, leastMemory) {
				break
			}
			m.forget(id)
		}
		if len(m.instances) >= maxInstances {
			m.forget(m.byHeard.Front().Value.([16]byte))
		}
		i = &instance{client: c, id: s.ID, interval: s.Interval, place: m.byHeard.PushBack(c.InstanceID)}
		m.instances[c.InstanceID] = i
	}
	m.byHeard.MoveToBack(i.place)
	i.client, i.heard = c, now
	return i
}

func (m *Manager) forget(id [16]byte) {
	i := m.instances[id]
	m.series -= len(i.series)
	m.byHeard.Remove(i.place)
	delete(m.instances, id)
}

// take keeps what a client has pushed, and passes it on.
func (m *Manager) take(c Client, codec record.Codec, data []byte) error {
	if codec != record.None {
		plain, err := record.Decompress(codec, data, m.config.MaxBytes)
		if errors.Is(err, record.ErrTooLarge) {
			return kerr.TelemetryTooLarge
		}
		if err != nil {
			return fmt.Errorf("%v: %w", err, kerr.InvalidRecord)
		}
		data = plain
	}
	payload, err := decode(data)
	if err != nil {
		return fmt.Errorf("%v: %w", err, kerr.InvalidRecord)
	}
	series, dropped := payload.series()
	if m.forward != nil {
		m.forward.send(payload.marked(c))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.Dropped += int64(dropped)
	i := m.instances[c.InstanceID]
	if i == nil { // others have come meanwhile
		return nil
	}
	m.series -= len(i.series)
	if room := maxSeries - m.series; len(series) > room {
		m.counts.Dropped += int64(len(series))
		series = nil
	}
	i.series = series
	m.series += len(series)
	return nil
}

// Counts are the requests since the start, and how many clients are known now.
func (m *Manager) Counts() (c Counts, clients int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(time.Now())
	c = m.counts
	if m.forward != nil {
		c.ForwardFailed = m.forward.failed.Load()
	}
	return c, len(m.instances)
}

// Each calls f with what each client has pushed last. f must not call the manager, nor change anything.
func (m *Manager) Each(f func(Client, map[string]Series)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(time.Now())
	for _, i := range m.instances {
		f(i.client, i.series)
	}
}

// sweep forgets clients that have ended, or are silent.
func (m *Manager) sweep(now time.Time) {
	for id, i := range m.instances {
		if silent := now.Sub(i.heard); i.ended && silent > leastMemory || silent > max(forgetAfter*i.interval, leastMemory) {
			m.forget(id)
		}
	}
}
