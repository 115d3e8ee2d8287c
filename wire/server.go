package wire

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"kraft/wire/quota"
	"kraft/wire/ssl"
)

// Config holds a server's limits.
type Config struct {
	MaxRequestBytes int            // socket.request.max.bytes
	MaxQueuedBytes  int64          // queued.max.request.bytes: all requests together while read and handled
	IdleTimeout     time.Duration  // connections.max.idle.ms; also for a peer that stops in mid-frame or does not read
	Limits          func() *Limits // of connections; called for each, also with a lock held
	RequestLog      zerolog.Logger // a line for each request at debug
	Authorizer      Authorizer     // nil: everybody may do everything
	Quotas          *quota.Manager // nil: nobody is throttled
	SlowRequest     time.Duration  // slow.request.log.ms: requests that are handled and sent for longer are logged; 0 for none
}

// Requests up to these sizes in bytes are not counted against MaxQueuedBytes. Others than Produce count decodedFactor times while they
// are handled: their arrays of small elements can become that much larger in memory.
const (
	smallProduce  = 64 << 10
	smallAdmin    = 4 << 10
	decodedFactor = 64
)

// mediumRequest is up to which size in bytes requests have memory of their own, a quarter of all, which larger ones cannot use up.
const mediumRequest = 1 << 20

// slowLines is how many slow requests are logged a second, and how many logins that failed and connections closed for what clients sent.
const slowLines = 10

// Server accepts connections on any number of listeners and serves the registry's handlers.
type Server struct {
	config   Config
	registry *Registry
	log      zerolog.Logger
	medium   *memory             // of requests while they are read, up to mediumRequest
	large    *memory             // of larger ones
	decoded  *semaphore.Weighted // what others than Produce may become, once they are read
	capacity int64               // of decoded, in bytes
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	counters *counters
	slow     *rate.Limiter // of log lines
	refusals *rate.Limiter // of log lines about logins that failed, and connections that were closed for what the client sent
	draining chan struct{} // closed when Drain begins

	mu        sync.Mutex // guards the rest
	closed    bool
	suspended bool // whoever comes is turned away
	listeners []net.Listener
	conns     map[*conn]struct{}
	addresses map[netip.Addr]int // how many of conns each peer has
	perName   map[string]int     // and each listener
	pace      pace
	refused   time.Time // when a refused connection was last logged
}

// NewServer makes a server and registers ApiVersions in r, which must not change afterwards.
func NewServer(config Config, r *Registry, id Identity, log zerolog.Logger) *Server {
	RegisterAPIVersions(r, id)
	RegisterSASL(r)
	ctx, cancel := context.WithCancel(context.Background())
	capacity := max(config.MaxQueuedBytes, int64(config.MaxRequestBytes))
	return &Server{
		config: config, registry: r, log: log, ctx: ctx, cancel: cancel,
		medium: newMemory(capacity / 4), large: newMemory(capacity - capacity/4), decoded: semaphore.NewWeighted(capacity), capacity: capacity,
		counters: newCounters(r), slow: rate.NewLimiter(slowLines, slowLines), refusals: rate.NewLimiter(slowLines, slowLines),
		conns: map[*conn]struct{}{}, addresses: map[netip.Addr]int{}, perName: map[string]int{}, draining: make(chan struct{}),
	}
}

// Stream is another protocol on a listener: connections that begin with Preface, which no frame of Kafka's can,
// are given to Serve, which reads on behind it and closes the connection.
type Stream struct {
	Preface string
	Serve   func(c net.Conn, r *bufio.Reader)
	// Words are of four letters, which no frame begins with: a connection that begins with one gets what its function returns, and ends.
	Words map[string]func() string
}

// Listener is where a server accepts connections.
type Listener struct {
	Name     string       // e.g. EXTERNAL
	Protocol string       // e.g. PLAINTEXT (listener.security.protocol.map)
	TLS      *ssl.Store   // nil for a listener without TLS
	Login    *LoginConfig // how clients log in, nil for a listener that serves everybody
	Member   bool         // for members of the quorum, whom no quota limits
	Net      net.Listener
	Stream   *Stream // that shares it with Kafka's protocol, or nil
}

// Serve accepts connections in a goroutine of its own until Close. Any goroutine may call it.
func (s *Server) Serve(l Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = l.Net.Close()
		return
	}
	s.listeners = append(s.listeners, l.Net)
	s.running.Add(1)
	go s.accept(l)
}

func (s *Server) accept(l Listener) {
	defer s.running.Done()
	for {
		tcp, err := l.Net.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, or a peer gone before we came: wait a little instead of spinning.
			s.log.Error().Err(err).Str("listener", l.Name).Msg("accept failed")
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if s.admit(&l, tcp) {
			s.start(l, tcp)
		}
	}
}

func (s *Server) start(l Listener, tcp net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.suspended {
		closeUnanswered(tcp)
		return
	}
	from := peerAddress(tcp.RemoteAddr().String())
	why, crowded := s.config.Limits().refuse(l.Name, from, opened{len(s.conns), s.perName[l.Name], s.addresses[from]})
	if why != "" {
		_ = tcp.Close()
		if now := time.Now(); now.Sub(s.refused) > time.Second {
			s.refused = now
			s.log.Warn().Str("peer", tcp.RemoteAddr().String()).Msg("refused connection: " + why)
		}
		return
	}
	if crowded {
		s.evict(l.Name)
	}
	c := &conn{server: s, listener: l.Name, login: l.Login.begin(time.Now()), tcp: tcp, log: &s.log, hung: make(chan struct{})}
	s.counters.accepted.Add(1)
	c.room.L = &c.mu
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.session = &Session{Principal: Anonymous, Listener: l.Name, Protocol: l.Protocol, Member: l.Member, Peer: tcp.RemoteAddr().String(), ended: c.ctx.Done()}
	s.conns[c] = struct{}{}
	s.addresses[from]++
	s.perName[l.Name]++
	c.used.Store(time.Now().UnixNano())
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		if c.secure(l.TLS) && (l.Stream == nil || !c.divert(l.Stream)) {
			c.serve()
		}
		s.mu.Lock()
		delete(s.conns, c)
		s.perName[l.Name]--
		if s.addresses[from]--; s.addresses[from] == 0 {
			delete(s.addresses, from)
		}
		s.mu.Unlock()
	}()
}

// reserve takes what a request of size bytes that has come whole may become when it is decoded, and waits for it if need be.
func (s *Server) reserve(ctx context.Context, key int16, size int) (release func(), err error) {
	if size <= smallAdmin || key == produceKey {
		return func() {}, nil
	}
	weight := min(int64(size)*decodedFactor, s.capacity)
	if err := s.decoded.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	return func() { s.decoded.Release(weight) }, nil
}

// Drain closes the listeners and reads no more requests. It answers those that were read, and returns when their connections have
// ended, or when ctx ends. Handlers that wait for something to happen learn of it by Request.Draining. Close comes after it. Any
// goroutine may call it, once.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.shut()
	close(s.draining)
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// Suspend turns all clients away, those that are connected and those that come, until Resume: they look for another broker. What their
// requests wait for is not ended. Any goroutine may call it.
func (s *Server) Suspend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = true
	for c := range s.conns {
		c.hangUp()
	}
}

// Resume ends Suspend. Any goroutine may call it.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = false
}

// shut accepts no more connections. mu is held.
func (s *Server) shut() {
	s.closed = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// Close ends all requests that wait, closes all connections and returns when every goroutine of the
// server has ended.
func (s *Server) Close() {
	s.cancel()
	s.mu.Lock()
	s.shut()
	for c := range s.conns {
		c.hangUp()
		c.mu.Lock()
		c.room.Broadcast()
		c.mu.Unlock()
	}
	s.mu.Unlock()
	s.running.Wait()
}
