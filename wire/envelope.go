package wire

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Envelop puts a request, as it came from a client, into an Envelope for another broker (KIP-590), with who sent it and from where.
func Envelop(ctx *Request, req kmsg.Request) *kmsg.EnvelopeRequest {
	e := kmsg.NewPtrEnvelopeRequest()
	e.RequestData = kmsg.NewRequestFormatter(kmsg.FormatterClientID(ctx.ClientID)).AppendRequest(nil, req, 1)[4:]
	e.RequestPrincipal = ctx.Session.Principal.encode()
	e.ClientHostAddress = peerAddress(ctx.Session.Peer).AsSlice()
	return e
}

// Open decodes the answer to req, which went out by Envelop.
func Open(req kmsg.Request, answer *kmsg.EnvelopeResponse) (kmsg.Response, error) {
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	data := answer.ResponseData
	if len(data) < 4 {
		return nil, io.ErrUnexpectedEOF
	}
	body, err := answerBody(req, data[4:])
	if err != nil {
		return nil, err
	}
	return decodeResponse(req, body)
}

// errNoAnswer reports that the handler of a forwarded request returned no immediate response.
var errNoAnswer = errors.New("the request has no answer")

// ServeEnvelope serves the request in an Envelope as if its client had sent it here, and returns the answer, header and all. An error is
// the Envelope's: kerr.PrincipalDeserializationFailure if its principal cannot be read, kerr.InvalidRequest if its client's address cannot be
// one, or that its request is none that brokers forward.
func (r *Registry) ServeEnvelope(ctx *Request, e *kmsg.EnvelopeRequest) ([]byte, error) {
	if len(e.RequestPrincipal) == 0 && ctx.Authorizes() { // who that is would be guessed
		return nil, fmt.Errorf("an envelope without a principal: %w", kerr.PrincipalDeserializationFailure)
	}
	session, err := enveloped(ctx.Session, e)
	if err != nil {
		return nil, err
	}
	data := e.RequestData
	if len(data) < 8 {
		return nil, &badRequest{io.ErrUnexpectedEOF}
	}
	inner := newRequest(data, ctx.conn, session, ctx.Received)
	api := r.find(inner.Key)
	if api == nil || inner.Version < api.Min || inner.Version > api.Max || ofConnection[inner.Key] {
		return nil, &badRequest{fmt.Errorf("request of kind %d, version %d in an envelope", inner.Key, inner.Version)}
	}
	flexible := isFlexible(inner.Key, inner.Version)
	var body []byte
	if inner.ClientID, body, err = parseHeader(data, flexible); err != nil {
		return nil, &badRequest{err}
	}
	inner.timed = true // the client's broker counts its own time
	answer, err := api.serve(inner, body)
	if err != nil {
		return nil, err
	}
	if answer.Now == nil {
		return nil, errNoAnswer
	}
	inner.settle(answer.Now)
	return answer.Now.AppendTo(answerHeader{inner.CorrelationID, flexible}.append(nil)), nil
}

// ofConnection are requests about the connection that they come on, which no broker forwards.
var ofConnection = map[int16]bool{
	apiVersionsKey: true, kmsg.SASLHandshake.Int16(): true, kmsg.SASLAuthenticate.Int16(): true, kmsg.Envelope.Int16(): true,
}

// enveloped returns the session of the client whose request a broker forwarded. Listener, protocol and connection stay the broker's.
func enveloped(by *Session, e *kmsg.EnvelopeRequest) (*Session, error) {
	s := *by
	s.SoftwareName, s.SoftwareVersion = "", ""
	s.Member, s.Forwarded = false, true
	if len(e.RequestPrincipal) > 0 { // brokers before 2026-11-29 send none
		p, err := decodePrincipal(e.RequestPrincipal)
		if err != nil {
			return nil, fmt.Errorf("principal in an envelope: %w", errors.Join(kerr.PrincipalDeserializationFailure, err))
		}
		s.Principal = p
	} else {
		s.Principal = Anonymous
	}
	switch n := len(e.ClientHostAddress); n {
	case 0:
		s.Peer = "" // the broker does not know it
	case net.IPv4len, net.IPv6len:
		s.Peer = net.IP(e.ClientHostAddress).String()
	default:
		return nil, fmt.Errorf("client's address of %d bytes in an envelope: %w", n, kerr.InvalidRequest)
	}
	return &s, nil
}
