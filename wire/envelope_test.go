package wire

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestEnvelope: a request that a broker passes on is served with its client's principal, address and id, and the connection and the
// listener that it comes by.
func TestEnvelope(t *testing.T) {
	var got *Request
	r := new(Registry)
	Handle(r, 0, 7, func(ctx *Request, _ *kmsg.CreateTopicsRequest) (*kmsg.CreateTopicsResponse, error) {
		got = ctx
		resp := kmsg.NewPtrCreateTopicsResponse()
		resp.ThrottleMillis = 5
		return resp, nil
	})
	ended := make(chan struct{})
	broker := &Request{conn: &conn{server: new(Server)}, Session: &Session{Principal: Principal{"User", "broker", false}, Listener: "CONTROLLER", Protocol: "SSL", Peer: "10.0.0.2:40000", SoftwareName: "kraft", ended: ended}}
	for peer, host := range map[string]string{"192.0.2.7:1234": "192.0.2.7", "[2001:db8::7]:1234": "2001:db8::7", "[fe80::7%eth0]:1234": "fe80::7", "pipe": ""} {
		for _, version := range []int16{2, 7} {
			client := &Request{ClientID: "mine", Session: &Session{Principal: Principal{"User", "alice", true}, Listener: "EXTERNAL", Protocol: "SASL_SSL", Peer: peer}}
			req := kmsg.NewPtrCreateTopicsRequest()
			req.SetVersion(version)
			answer, err := r.ServeEnvelope(broker, Envelop(client, req))
			if err != nil {
				t.Fatal(err)
			}
			want := Session{Principal: Principal{"User", "alice", true}, Listener: "CONTROLLER", Protocol: "SSL", Forwarded: true, Peer: host, ended: ended}
			if *got.Session != want || got.ClientID != "mine" || got.Version != version {
				t.Errorf("served for %+v %q in version %d, wanted %+v", *got.Session, got.ClientID, got.Version, want)
			}
			if got.Session.Host() != host {
				t.Errorf("the host is %s", got.Session.Host())
			}
			resp, err := Open(req, &kmsg.EnvelopeResponse{ResponseData: answer})
			if err != nil || resp.(*kmsg.CreateTopicsResponse).ThrottleMillis != 5 {
				t.Errorf("answered %+v, %v", resp, err)
			}
		}
	}
}

// TestEnvelopeOfStrangers: an envelope that cannot be read is answered with the code that Kafka has for it, and its request not served.
func TestEnvelopeOfStrangers(t *testing.T) {
	r := new(Registry)
	Handle(r, 0, 7, func(*Request, *kmsg.CreateTopicsRequest) (*kmsg.CreateTopicsResponse, error) {
		t.Error("served")
		return kmsg.NewPtrCreateTopicsResponse(), nil
	})
	RegisterAPIVersions(r, Identity{})
	Handle(r, 0, 0, func(*Request, *kmsg.EnvelopeRequest) (*kmsg.EnvelopeResponse, error) {
		t.Error("served an envelope in an envelope")
		return kmsg.NewPtrEnvelopeResponse(), nil
	})
	broker := &Request{conn: &conn{server: new(Server)}, Session: &Session{Principal: Anonymous, Peer: "10.0.0.2:40000"}}
	good := func() *kmsg.EnvelopeRequest {
		return Envelop(&Request{Session: &Session{Principal: Anonymous, Peer: "10.0.0.3:40000"}}, kmsg.NewPtrCreateTopicsRequest())
	}
	for name, c := range map[string]struct {
		spoil func(*kmsg.EnvelopeRequest)
		want  error
	}{
		"a principal cut short": {func(e *kmsg.EnvelopeRequest) { e.RequestPrincipal = e.RequestPrincipal[:5] }, kerr.PrincipalDeserializationFailure},
		"half an address":       {func(e *kmsg.EnvelopeRequest) { e.ClientHostAddress = []byte{1, 2} }, kerr.InvalidRequest},
		"no request":            {func(e *kmsg.EnvelopeRequest) { e.RequestData = nil }, nil},
		"an API not served":     {func(e *kmsg.EnvelopeRequest) { e.RequestData[1] = 0 }, nil},
		"ApiVersions":           {func(e *kmsg.EnvelopeRequest) { e.RequestData[1] = apiVersionsKey }, nil},
		"an envelope":           {func(e *kmsg.EnvelopeRequest) { e.RequestData[1] = byte(kmsg.Envelope.Int16()) }, nil},
	} {
		e := good()
		c.spoil(e)
		if _, err := r.ServeEnvelope(broker, e); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := good() // of a broker that does not say who asks
	before.RequestPrincipal = []byte{}
	if s, err := enveloped(broker.Session, before); err != nil || s.Principal != Anonymous {
		t.Errorf("without a principal: %+v, %v", s, err)
	}
}

// TestPrincipal: who asks is written as Kafka's settings write it.
func TestPrincipal(t *testing.T) {
	if s := Anonymous.String(); s != "User:ANONYMOUS" {
		t.Error(s)
	}
}
