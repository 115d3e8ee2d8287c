// Package sasl has the server's side of SASL mechanisms: what a client's tokens prove, and the answers to them. It does no I/O.
package sasl

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"time"
)

// Mechanism begins the exchange of one login. Any goroutine may call it.
type Mechanism func() Exchange

// Exchange takes a client's next token and returns what the server says to it. The identity is nil while the exchange goes on. A Refusal is for
// the client to read; of other errors it learns only that the login failed. One goroutine uses an Exchange, which ends with an identity or
// an error.
type Exchange func(token []byte) (challenge []byte, who *Identity, err error)

// Identity is what an exchange proved.
type Identity struct {
	User    string
	Token   bool      // by a delegation token
	Expires time.Time // when the credential expires; zero for never
}

// Refusal is an error whose text the client may see.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Plain is the mechanism PLAIN (RFC 4616) for users with their passwords. Its refusals are those of Kafka's PlainSaslServer.
func Plain(passwords map[string]string) Mechanism {
	return func() Exchange {
		return func(token []byte) ([]byte, *Identity, error) {
			if n := bytes.Count(token, []byte{0}) + 1; n != 3 {
				return nil, nil, Refusal(fmt.Sprintf("Invalid SASL/PLAIN response: expected 3 tokens, got %d", n))
			}
			parts := strings.Split(string(token), "\x00")
			as, user, password := parts[0], parts[1], parts[2]
			known, isUser := passwords[user]
			// Hashes are equally long: how long this takes tells nothing of the password, or whether there is such a user.
			given, right := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(known))
			same := subtle.ConstantTimeCompare(given[:], right[:]) == 1
			switch {
			case user == "":
				return nil, nil, Refusal("Authentication failed: username not specified")
			case password == "":
				return nil, nil, Refusal("Authentication failed: password not specified")
			case !isUser || !same:
				return nil, nil, Refusal("Authentication failed: Invalid username or password")
			case as != "" && as != user:
				return nil, nil, Refusal("Authentication failed: Client requested an authorization id that is different from username")
			}
			return nil, &Identity{User: user}, nil
		}
	}
}
