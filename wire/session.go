package wire

import (
	"net"
	"net/netip"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Session is who sends requests on a connection, and from where (Kafka's RequestContext, without the request). A Session never changes: when a
// client names its software, later requests get another Session. Any goroutine may read it.
type Session struct {
	Principal Principal
	Listener  string // its name, e.g. EXTERNAL
	Protocol  string // the listener's, e.g. PLAINTEXT (listener.security.protocol.map)
	Forwarded bool   // a broker passed the request on, in an Envelope
	Member    bool   // it came in by the listener for members of the quorum, and is no request that a broker forwarded
	Peer      string // the peer's address, as host:port; of a request that another broker forwarded, the client's host alone
	// What the client calls itself (KIP-511): "" until it has said so.
	SoftwareName, SoftwareVersion string

	ended <-chan struct{}
}

// Host is the peer's IP address.
func (s *Session) Host() string {
	if host, _, err := net.SplitHostPort(s.Peer); err == nil {
		return host
	}
	return s.Peer
}

// peerAddress is the IP address in a Session's Peer, without its zone; the zero Addr if there is none.
func peerAddress(peer string) netip.Addr {
	if at, err := netip.ParseAddrPort(peer); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	a, _ := netip.ParseAddr(peer) // of a request that another broker forwarded
	return a.Unmap().WithZone("")
}

// Ended returns a channel that is closed when the connection has ended. All sessions of a connection return the same channel.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// named is the session of a client that has said what it is.
func (s *Session) named(software, version string) *Session {
	named := *s
	named.SoftwareName, named.SoftwareVersion = software, version
	return &named
}

// Principal is the identity that a listener authenticated (Kafka's KafkaPrincipal), or Anonymous.
type Principal struct {
	Type, Name string
	Token      bool // by a delegation token
}

// Anonymous is everybody on a listener that does not authenticate.
var Anonymous = Principal{Type: "User", Name: "ANONYMOUS"}

// String is the principal as Kafka writes it in settings and ACLs.
func (p Principal) String() string { return p.Type + ":" + p.Name }

// encode gives it the form in which Kafka's brokers forward it (DefaultKafkaPrincipalBuilder).
func (p Principal) encode() []byte {
	return (&kmsg.DefaultPrincipalData{Type: p.Type, Name: p.Name, TokenAuthenticated: p.Token}).AppendTo(nil)
}

func decodePrincipal(data []byte) (Principal, error) {
	var d kmsg.DefaultPrincipalData
	if err := d.ReadFrom(data); err != nil {
		return Principal{}, err
	}
	return Principal{Type: d.Type, Name: d.Name, Token: d.TokenAuthenticated}, nil
}
