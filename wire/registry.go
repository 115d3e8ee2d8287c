// Package wire speaks Kafka's protocol on TCP: framing, the registry of handlers, answers in request
// order, listeners. It knows no topic, no partition and no group; those packages register handlers.
package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/acl"
	"kraft/wire/defect"
)

// Request is what a handler learns about a request besides its body. It belongs to the connection's
// goroutine until the answer is written.
type Request struct {
	Key, Version  int16
	CorrelationID int32
	ClientID      string
	Session       *Session // who sent it
	Received      time.Time

	conn   *conn
	kind   Kind
	size   int // of its frame in bytes
	phases [phases]time.Duration
	mark   time.Time    // when the last phase ended
	asks   acl.Question // the sender, from the first question about its rights on

	exempt    bool          // from quotas: another broker sent it, or a client that is logging in
	timed     bool          // the time in the handler was counted against the sender's quota
	throttled time.Duration // how long the sender is throttled
}

// newRequest is the request whose header begins with head, eight bytes. The rest of the header is parseHeader's.
func newRequest(head []byte, c *conn, s *Session, received time.Time) *Request {
	return &Request{
		Key: int16(binary.BigEndian.Uint16(head)), Version: int16(binary.BigEndian.Uint16(head[2:])), CorrelationID: int32(binary.BigEndian.Uint32(head[4:])),
		Session: s, Received: received, conn: c,
	}
}

// NewRequest returns a request that came on no connection, for callers of handlers such as tests. Its context is ctx; Draining is never closed.
func NewRequest(ctx context.Context, version int16, s *Session) *Request {
	ctx, cancel := context.WithCancel(ctx)
	c := &conn{ctx: ctx, cancel: cancel, server: &Server{draining: make(chan struct{})}, session: s}
	return &Request{Version: version, Session: s, Received: time.Now(), conn: c}
}

// Wait runs f, which waits for something that is not this request's own work; that is told apart in the time it takes. For the
// request's handler.
func (r *Request) Wait(f func()) {
	begun := time.Now()
	f()
	r.waited(time.Since(begun))
}

func (r *Request) waited(d time.Duration) {
	r.phases[Waited] += d
	r.phases[Handled] -= d
}

// end ends a phase now.
func (r *Request) end(p Phase) {
	now := time.Now()
	r.phases[p] += now.Sub(r.mark)
	r.mark = now
}

// Context ends when the connection closes or the server shuts down. Handlers that wait must obey it.
func (r *Request) Context() context.Context { return r.conn.ctx }

// Draining is closed when the server reads no more requests. Handlers that wait for something to happen, other than what the
// request itself did, then answer with what there is.
func (r *Request) Draining() <-chan struct{} { return r.conn.server.draining }

// Name is Kafka's name of the kind of request.
func (r *Request) Name() string {
	if r.Key == noKey {
		return "stream of a member of the quorum"
	}
	return APIName(r.Key)
}

// noKey is the Key of what is no request: a connection that leaves the protocol behind.
const noKey = -1

// CountAs has the request counted apart from others of its API. For the request's handler.
func (r *Request) CountAs(k Kind) { r.kind = k }

// Response is an answer that can be encoded: every kmsg.Response is one, and FetchResponse.
type Response interface {
	IsFlexible() bool
	AppendTo([]byte) []byte
}

// Answer is what a deferred handler returns: either Now, or Await, which the connection calls when all
// earlier answers have left. Both nil means that the client expects no answer (acks=0). Await runs on
// the connection's writer goroutine and must return when ctx ends; a nil Response closes the connection.
type Answer struct {
	Now   Response
	Await func(ctx context.Context) Response
}

// API is one registered request kind, as ApiVersions and the compatibility table show it.
type API struct {
	Key, Min, Max int16
	Name          string

	serve  func(*Request, []byte) (Answer, error)
	scoped bool // body is valid only until serve returns, so its buffer is pooled
}

// APIName is Kafka's name (ApiKeys) of a kind of request.
func APIName(key int16) string {
	if key >= 0 && int(key) < len(apiNames) {
		return apiNames[key]
	}
	return kafkaNames.Replace(kmsg.NameForKey(key))
}

var apiNames = func() (names [128]string) {
	for key := range names {
		names[key] = kafkaNames.Replace(kmsg.NameForKey(int16(key)))
	}
	return names
}()

var kafkaNames = strings.NewReplacer("ID", "Id", "SASL", "Sasl", "SCRAM", "Scram", "ACL", "Acl", "AlterPartitionAssignments", "AlterPartitionReassignments")

// Registry maps request keys to handlers. Fill it before serving; it is read-only afterwards.
type Registry struct {
	Unstable bool // versions are served that Kafka calls unstable (unstable.api.versions.enable)

	apis  [128]*API
	kinds []string // by Kind, from 1 on
}

// Newest is the highest version to register of an API that has unstable versions behind its stable ones.
func (r *Registry) Newest(stable, unstable int16) int16 {
	if r.Unstable {
		return unstable
	}
	return stable
}

// Kind is a sort of requests that are counted apart from others of their API; 0 is none.
type Kind int

// Kind registers a name under which Stats counts some requests of an API apart. Call it before NewServer: Request.CountAs takes no Kind of
// another registry.
func (r *Registry) Kind(name string) Kind {
	r.kinds = append(r.kinds, name)
	return Kind(len(r.kinds))
}

// request is a pointer to a kmsg request struct Q.
type request[Q any] interface {
	*Q
	kmsg.Request
}

// Handle registers h for versions minimum to maximum of the request kind that h takes. h runs on the
// connection's goroutine and may block: as with Apache Kafka, the connection's next request waits. An
// error from h closes the connection and is logged; errors meant for the client go into the response.
func Handle[Q any, P request[Q], R any, S interface {
	*R
	kmsg.Response
}](r *Registry, minimum, maximum int16, h func(*Request, P) (S, error)) {
	add(r, minimum, maximum, false, func(ctx *Request, q P) (Answer, error) {
		resp, err := h(ctx, q)
		if err != nil {
			return Answer{}, err
		}
		resp.SetVersion(ctx.Version)
		return Answer{Now: resp}, nil
	})
}

// HandleDeferred registers a handler whose answer may come later while the connection goes on with its
// next request. The request's byte slices are valid only until the handler returns.
func HandleDeferred[Q any, P request[Q]](r *Registry, minimum, maximum int16, h func(*Request, P) (Answer, error)) {
	add(r, minimum, maximum, true, h)
}

// HandleAnswer registers a handler that builds its own Answer and may keep the request's bytes.
func HandleAnswer[Q any, P request[Q]](r *Registry, minimum, maximum int16, h func(*Request, P) (Answer, error)) {
	add(r, minimum, maximum, false, h)
}

func add[Q any, P request[Q]](r *Registry, minimum, maximum int16, scoped bool, h func(*Request, P) (Answer, error)) {
	key := P(new(Q)).Key()
	if r.apis[key] != nil {
		panic(fmt.Sprintf("wire: %s registered twice", APIName(key)))
	}
	r.apis[key] = &API{
		Key: key, Min: minimum, Max: maximum, Name: APIName(key), scoped: scoped,
		serve: func(ctx *Request, body []byte) (Answer, error) {
			q := P(new(Q))
			q.SetVersion(ctx.Version)
			if err := decode(q, body); err != nil {
				return Answer{}, &badRequest{fmt.Errorf("%s version %d of %d bytes: %w", APIName(key), ctx.Version, len(body), err)}
			}
			var answer Answer
			err := defect.Contain(APIName(key), func() (err error) {
				answer, err = h(ctx, q)
				return err
			})
			return answer, err
		},
	}
}

// badRequest marks an error as the peer's fault.
type badRequest struct{ error }

func (b *badRequest) Unwrap() error { return b.error }

// Refuse marks an error by which a handler closes the connection as the client's doing.
func Refuse(err error) error { return &badRequest{err} }

// decode parses body into q. What kmsg makes of bytes from outside must never take the process down.
func decode(q kmsg.Request, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("undecodable: %v", p)
		}
	}()
	return q.ReadFrom(body)
}

// APIs lists what is registered, by key.
func (r *Registry) APIs() []API {
	var out []API
	for _, a := range r.apis {
		if a != nil {
			out = append(out, *a)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

func (r *Registry) find(key int16) *API {
	if key < 0 || int(key) >= len(r.apis) {
		return nil
	}
	return r.apis[key]
}
