package ops

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
)

// Address reads HOST:PORT, or HOST for port 9092. Its errors are sentences for whoever wrote it.
func Address(text string) (string, error) {
	text = strings.TrimSpace(text)
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		return "", fmt.Errorf("%q is a URL: write HOST:PORT, like %s (TLS and logins are settings of a profile, not %s://)", text, strings.TrimRight(rest, "/"), scheme)
	}
	if text == "" || strings.ContainsAny(text, " /") {
		return "", fmt.Errorf("%q is no address: write HOST:PORT, like localhost:9092", text)
	}
	if !strings.Contains(text, ":") {
		return text + ":9092", nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		if strings.Count(text, ":") > 1 {
			return "", fmt.Errorf("%q is no address: write an IPv6 address in brackets, like [::1]:9092", text)
		}
		return "", fmt.Errorf("%q is no address: write HOST:PORT, like localhost:9092", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q is no address: write HOST:PORT, with a port from 1 to 65535", text)
	}
	return text, nil
}

// answerPatience is how long WhatListens waits for what listens to say something.
const answerPatience = time.Second

// Listening is what WhatListens found at an address.
type Listening int

const (
	Unreached Listening = iota // no connection is made, for another reason than Refused
	Refused                    // nothing listens
	Silent                     // it accepts connections, and may be a broker
	Stranger                   // it is no broker, or not in this way
	Serving                    // a broker answers
)

// WhatListens finds out why a client cannot use an address: it connects, and looks at what answers. says is a sentence, "" for Serving.
func WhatListens(ctx context.Context, address string) (says string, what Listening) {
	req := kmsg.NewPtrApiVersionsRequest()
	first, err := ask(ctx, address, kmsg.NewRequestFormatter(kmsg.FormatterClientID("kraft")).AppendRequest(nil, req, 1))
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("host name %s does not resolve", dns.Name), Unreached
	case wire.IsRefused(err):
		return "nothing listens at " + address, Refused
	case errors.Is(err, context.DeadlineExceeded) && first == nil:
		return fmt.Sprintf("%s does not answer: a firewall is in between, or the machine is off or in another network", address), Unreached
	case errors.Is(err, errDial):
		return fmt.Sprintf("%s is not reached: %s", address, wire.Unreached(err)), Unreached
	case err != nil && len(first) == 0 && !errors.Is(err, errSilent):
		if speaksTLS(ctx, address) {
			return wantsTLS(address), Stranger
		}
		return fmt.Sprintf("what listens at %s closes the connection: it may be shutting down, or require TLS (security.protocol), or be no broker", address), Silent
	}
	if len(first) == 0 { // a web server waits for the end of a line
		if second, _ := ask(ctx, address, []byte("GET / HTTP/1.0\r\n\r\n")); bytes.HasPrefix(second, []byte("HTTP/")) {
			first = second
		}
	}
	switch {
	case len(first) == 0:
		return fmt.Sprintf("%s accepts connections but does not answer: the broker waits for its metadata quorum or loads its logs, it hangs, or it is no broker", address), Silent
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return fmt.Sprintf("a web server (HTTP) listens at %s, not a broker", address), Stranger
	case len(first) > 2 && first[0] == 0x15 && first[1] == 3:
		return wantsTLS(address), Stranger
	case isWords(first):
		return fmt.Sprintf("what listens at %s is no broker: it says %q", address, strings.TrimSpace(string(first[:min(len(first), 40)]))), Stranger
	case len(first) < 8 || binary.BigEndian.Uint32(first[4:]) != 1:
		return fmt.Sprintf("what listens at %s does not speak Kafka's protocol", address), Stranger
	}
	var resp kmsg.ApiVersionsResponse
	if err := resp.ReadFrom(first[8:]); err == nil {
		for _, k := range resp.ApiKeys {
			if k.ApiKey == kmsg.Metadata.Int16() {
				return "", Serving
			}
		}
		return fmt.Sprintf("%s is the address of a controller, for the metadata quorum: give that of a broker", address), Stranger
	}
	return "", Serving
}

func wantsTLS(address string) string {
	return fmt.Sprintf("%s speaks TLS: set security.protocol=SSL or SASL_SSL in a profile (kraft profile create --help)", address)
}

// speaksTLS reports whether what listens greets with TLS. Whose certificate it has does not matter.
func speaksTLS(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // nothing is sent to it
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	var alert tls.AlertError
	return err == nil || errors.As(err, &alert)
}

// errDial reports that there is no connection.
var errDial = errors.New("no connection")

// errSilent reports that what listens has said nothing yet.
var errSilent = errors.New("silent")

// ask sends bytes to an address and returns what comes back.
func ask(ctx context.Context, address string, words []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*answerPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, errors.Join(errDial, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerPatience))
	if _, err := conn.Write(words); err != nil {
		return []byte{}, err
	}
	buf := make([]byte, 64<<10)
	n, err := io.ReadAtLeast(conn, buf, 4)
	if size := int(binary.BigEndian.Uint32(buf)); n >= 4 && size < len(buf)-4 && n < size+4 {
		more, _ := io.ReadFull(conn, buf[n:size+4])
		n += more
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && n == 0 {
		err = errSilent
	}
	return buf[:n], err
}

// isWords reports whether bytes begin like text.
func isWords(data []byte) bool {
	for _, b := range data[:min(4, len(data))] {
		if b > unicode.MaxASCII || b < ' ' {
			return false
		}
	}
	return len(data) > 0
}
