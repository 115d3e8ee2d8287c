package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// Hash is the hash function of a SCRAM mechanism (RFC 5802, RFC 7677).
type Hash struct {
	Name   string // of the mechanism, e.g. SCRAM-SHA-256
	Number int8   // Kafka's (ScramMechanism)
	new    func() hash.Hash
}

// The hash functions that Kafka has.
var (
	SHA256 = Hash{"SCRAM-SHA-256", 1, sha256.New}
	SHA512 = Hash{"SCRAM-SHA-512", 2, sha512.New}
)

// ScramNamed finds a mechanism by its name.
func ScramNamed(name string) (Hash, bool) {
	return findHash(func(h Hash) bool { return h.Name == name })
}

// ScramNumbered finds a mechanism by Kafka's number.
func ScramNumbered(number int8) (Hash, bool) {
	return findHash(func(h Hash) bool { return h.Number == number })
}

func findHash(is func(Hash) bool) (Hash, bool) {
	for _, h := range []Hash{SHA256, SHA512} {
		if is(h) {
			return h, true
		}
	}
	return Hash{}, false
}

// SaltedPassword is what SCRAM makes of a password before anything else, slowly.
func (h Hash) SaltedPassword(password string, salt []byte, iterations int) ([]byte, error) {
	return pbkdf2.Key(h.new, password, salt, iterations, h.Size())
}

func (h Hash) hmac(key []byte, data string) []byte {
	m := hmac.New(h.new, key)
	m.Write([]byte(data))
	return m.Sum(nil)
}

func (h Hash) sum(data []byte) []byte {
	s := h.new()
	s.Write(data)
	return s.Sum(nil)
}

// Size is the length in bytes of the hash, and so of salted passwords and keys.
func (h Hash) Size() int { return h.new().Size() }

// Keys are what a server keeps of a salted password.
func (h Hash) Keys(saltedPassword []byte) (storedKey, serverKey []byte) {
	return h.sum(h.hmac(saltedPassword, "Client Key")), h.hmac(saltedPassword, "Server Key")
}

// ScramCredential is what a server knows of a user.
type ScramCredential struct {
	Salt, StoredKey, ServerKey []byte
	Iterations                 int
}

// ScramUsers finds a user's credential, or that of a delegation token by its id (KIP-48), and who logs in by it. Of one that there is not, it
// returns a credential that nobody can log in by, the same each time, and nil: who does not log in should not learn which users there are. Any
// goroutine may call it.
type ScramUsers func(user string, token bool) (c ScramCredential, who *Identity)

// The bounds of a credential's iterations (Kafka's ScramMechanism), and those that kraft's own tools take.
const (
	MinIterations     = 4096
	MaxIterations     = 16384
	DefaultIterations = 8192
)

// errScram is all that a client learns of a login that failed, as in Kafka's ScramSaslServer.
var errScram = errors.New("SCRAM login failed")

// Scram is the mechanism SCRAM with a hash function, without channel binding.
func Scram(h Hash, users ScramUsers) Mechanism {
	return func() Exchange {
		s := &scramExchange{hash: h, users: users}
		return s.take
	}
}

// scramExchange is one login. It takes two tokens.
type scramExchange struct {
	hash  Hash
	users ScramUsers

	user       string
	credential ScramCredential
	who        *Identity
	header     string // the client's first message up to its own part
	bare       string // its own part
	first      string // the server's message, "" before the first token
	nonce      string // of both
	nonceOf    string // the client's part
}

func (s *scramExchange) take(token []byte) ([]byte, *Identity, error) {
	if s.first == "" {
		return s.begin(string(token))
	}
	return s.finish(string(token))
}

// begin answers "n,,n=user,r=nonce" with "r=nonces,s=salt,i=iterations".
func (s *scramExchange) begin(message string) ([]byte, *Identity, error) {
	flag, rest, ok := strings.Cut(message, ",")
	authorized, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 || flag != "n" && flag != "y" { // y: the client could bind the channel, and thinks that the server cannot
		return nil, nil, fmt.Errorf("%w: bad first message", errScram)
	}
	parts := strings.Split(bare, ",")
	if len(parts) < 2 || !strings.HasPrefix(parts[0], "n=") || !strings.HasPrefix(parts[1], "r=") {
		return nil, nil, fmt.Errorf("%w: bad first message", errScram)
	}
	user, err := saslName(parts[0][2:])
	if err != nil {
		return nil, nil, err
	}
	if authorized != "" {
		as, ok := strings.CutPrefix(authorized, "a=")
		if name, err := saslName(as); !ok || err != nil || name != user {
			return nil, nil, Refusal("Authentication failed: Client requested an authorization id that is different from username")
		}
	}
	clientNonce := parts[1][2:]
	if !printable(clientNonce) {
		return nil, nil, fmt.Errorf("%w: bad nonce", errScram)
	}
	s.user, s.header, s.bare = user, message[:len(message)-len(bare)], bare
	s.credential, s.who = s.users(user, slices.Contains(parts[2:], "tokenauth=true"))
	s.nonceOf, s.nonce = clientNonce, clientNonce+rand.Text()
	s.first = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.credential.Salt), s.credential.Iterations)
	return []byte(s.first), nil, nil
}

// finish answers "c=header,r=nonces,p=proof" with "v=signature" if the proof is right.
func (s *scramExchange) finish(message string) ([]byte, *Identity, error) {
	without, proofText, ok := strings.Cut(message, ",p=")
	parts := strings.Split(without, ",")
	if !ok || len(parts) < 2 || !strings.HasPrefix(parts[0], "c=") || !strings.HasPrefix(parts[1], "r=") {
		return nil, nil, fmt.Errorf("%w: bad final message", errScram)
	}
	header, err := base64.StdEncoding.Strict().DecodeString(parts[0][2:])
	if err != nil || string(header) != s.header {
		return nil, nil, fmt.Errorf("%w: another header than in the first message", errScram)
	}
	// librdkafka before 2.6.1 puts its own part in front once more. The proof covers it, and the server's part is there.
	if r := parts[1][2:]; r != s.nonce && r != s.nonceOf+s.nonce {
		return nil, nil, fmt.Errorf("%w: another nonce", errScram)
	}
	proof, err := base64.StdEncoding.Strict().DecodeString(proofText)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: bad proof", errScram)
	}
	signed := s.bare + "," + s.first + "," + without
	signature := s.hash.hmac(s.credential.StoredKey, signed)
	right := len(proof) == len(signature)
	clientKey := make([]byte, len(signature))
	if right {
		for i := range signature {
			clientKey[i] = proof[i] ^ signature[i]
		}
	}
	right = hmac.Equal(s.hash.sum(clientKey), s.credential.StoredKey) && right
	switch {
	case !right || s.who == nil:
		return nil, nil, fmt.Errorf("%w: wrong password or unknown user %.64q", errScram, s.user)
	case s.credential.Iterations < MinIterations:
		return nil, nil, fmt.Errorf("%w: the credential of %q has %d iterations, fewer than %d", errScram, s.user, s.credential.Iterations, MinIterations)
	}
	answer := s.hash.hmac(s.credential.ServerKey, signed)
	return append([]byte("v="), base64.StdEncoding.AppendEncode(nil, answer)...), s.who, nil
}

// maxSASLName bounds a user's name in bytes, as the client sends it.
const maxSASLName = 1024

// saslName decodes a user's name, in which =2C is a comma and =3D an equals sign.
func saslName(text string) (string, error) {
	if text == "" || len(text) > maxSASLName {
		return "", fmt.Errorf("%w: user name of %d bytes", errScram, len(text))
	}
	name := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(text)
	for i := 0; i < len(text); i++ {
		if text[i] == '=' && !strings.HasPrefix(text[i:], "=2C") && !strings.HasPrefix(text[i:], "=3D") {
			return "", fmt.Errorf("%w: bad user name", errScram)
		}
	}
	return name, nil
}

// printable reports whether a nonce has only what RFC 5802 allows.
func printable(nonce string) bool {
	return nonce != "" && !strings.ContainsFunc(nonce, func(r rune) bool { return r < 0x21 || r > 0x7e || r == ',' })
}
