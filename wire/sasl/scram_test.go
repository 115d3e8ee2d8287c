package sasl

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// users have the passwords of a map, but for "weak", whose credential has too few iterations.
func users(t *testing.T, h Hash, passwords map[string]string) ScramUsers {
	t.Helper()
	known := map[string]ScramCredential{}
	for user, password := range passwords {
		c := ScramCredential{Salt: []byte("salt of " + user), Iterations: 4096}
		if user == "weak" {
			c.Iterations = 4095
		}
		salted, err := h.SaltedPassword(password, c.Salt, c.Iterations)
		if err != nil {
			t.Fatal(err)
		}
		c.StoredKey, c.ServerKey = h.Keys(salted)
		known[user] = c
	}
	return func(user string, token bool) (ScramCredential, *Identity) {
		if c, ok := known[user]; ok {
			return c, &Identity{User: user, Token: token}
		}
		return ScramCredential{Salt: []byte("made up"), StoredKey: make([]byte, h.Size()), ServerKey: make([]byte, h.Size()), Iterations: 4096}, nil
	}
}

var hashes = map[string]Hash{"SCRAM-SHA-256": SHA256, "SCRAM-SHA-512": SHA512}

func client(h Hash, auth scram.Auth) sasl.Mechanism {
	if h.Name == SHA256.Name {
		return auth.AsSha256Mechanism()
	}
	return auth.AsSha512Mechanism()
}

// login has franz-go's client log in, whose messages change may alter on their way. It returns who logged in, and whether the client is
// content with the server.
func login(t *testing.T, h Hash, known ScramUsers, auth scram.Auth, change func(n int, message []byte) []byte) (*Identity, bool, error) {
	t.Helper()
	session, message, err := client(h, auth).Authenticate(context.Background(), "host")
	if err != nil {
		t.Fatal(err)
	}
	server := Scram(h, known)()
	for n := 0; ; n++ {
		challenge, who, err := server(change(n, message))
		if err != nil {
			return nil, false, err
		}
		done, next, err := session.Challenge(challenge)
		if who != nil {
			return who, done && err == nil, nil
		}
		if err != nil { // the client does not go on
			return nil, false, err
		}
		message = next
	}
}

func unchanged(_ int, message []byte) []byte { return message }

// TestScram: franz-go's client logs in with the right password, and in no other way.
func TestScram(t *testing.T) {
	passwords := map[string]string{"me": "secret", "a,b=c": "p=,w", "日本": "パス", "weak": "x"}
	for name, h := range hashes {
		known := users(t, h, passwords)
		for user, password := range passwords {
			who, content, err := login(t, h, known, scram.Auth{User: user, Pass: password}, unchanged)
			if user == "weak" {
				if err == nil {
					t.Errorf("%s: a credential with too few iterations", name)
				}
				continue
			}
			if err != nil || who.User != user || !content {
				t.Errorf("%s: %q: %v, %v, %v", name, user, who, content, err)
			}
		}
		for _, wrong := range []scram.Auth{{User: "me", Pass: "secreT"}, {User: "me", Pass: "s"}, {User: "nobody", Pass: "secret"}, {User: "me", Pass: "secret", Zid: "you"}} {
			if who, _, err := login(t, h, known, wrong, unchanged); err == nil {
				t.Errorf("%s: %+v logs in as %v", name, wrong, who)
			}
		}
		if who, _, err := login(t, h, known, scram.Auth{User: "me", Pass: "secret", Zid: "me"}, unchanged); err != nil || who.User != "me" {
			t.Errorf("%s: for itself: %v", name, err)
		}
	}
}

// TestScramUnknown: to who does not know the password, a user that there is not looks like one that there is.
func TestScramUnknown(t *testing.T) {
	known := users(t, SHA256, map[string]string{"me": "secret"})
	_, _, right := login(t, SHA256, known, scram.Auth{User: "me", Pass: "x"}, unchanged)
	_, _, wrong := login(t, SHA256, known, scram.Auth{User: "he", Pass: "x"}, unchanged)
	refusal := Refusal("")
	if right == nil || wrong == nil || errors.As(right, &refusal) || errors.As(wrong, &refusal) || strings.ReplaceAll(right.Error(), "me", "he") != wrong.Error() {
		t.Errorf("%v, %v", right, wrong)
	}
}

// TestScramChanged: no changed byte of a client's messages logs in, nor do messages of an earlier login.
func TestScramChanged(t *testing.T) {
	known := users(t, SHA512, map[string]string{"me": "secret"})
	auth := scram.Auth{User: "me", Pass: "secret"}
	var messages [][]byte
	if _, _, err := login(t, SHA512, known, auth, func(_ int, m []byte) []byte { messages = append(messages, bytes.Clone(m)); return m }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := login(t, SHA512, known, auth, func(n int, m []byte) []byte {
		if n == 1 {
			return messages[1]
		}
		return m
	}); err == nil {
		t.Error("the last message of an earlier login logs in")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		at, place := r.IntN(2), r.Float64()
		to := byte(r.IntN(256))
		changed := false
		who, _, err := login(t, SHA512, known, auth, func(n int, m []byte) []byte {
			if n != at {
				return m
			}
			m = bytes.Clone(m)
			i := int(place * float64(len(m)))
			changed = m[i] != to
			m[i] = to
			return m
		})
		if err == nil && changed {
			t.Fatalf("message %d with a byte changed to %q logs in as %v", at, to, who)
		}
	}
	for _, m := range []string{"", "n,,", "n,,n=me", "p=tls-unique,,n=me,r=x", "n,,n=,r=x", "n,,n=me,r=", "n,,n=m=e,r=x", "n,a=you,n=me,r=x", "n,,m=1,n=me,r=x", "n,,n=me,r=\x00"} {
		if _, who, err := Scram(SHA256, known)()([]byte(m)); err == nil {
			t.Errorf("%q is answered, %v", m, who)
		}
	}
}

func FuzzScram(f *testing.F) {
	f.Add([]byte("n,,n=me,r=abc"), []byte("c=biws,r=abc,p=eA=="))
	known := func(string, bool) (ScramCredential, *Identity) {
		return ScramCredential{Salt: []byte("s"), StoredKey: make([]byte, 32), ServerKey: make([]byte, 32), Iterations: 4096}, &Identity{User: "me"}
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := Scram(SHA256, known)()
		if _, who, err := s(first); err != nil || who != nil {
			return
		}
		if _, who, err := s(second); err == nil || who != nil {
			t.Errorf("%q, %q logs in", first, second)
		}
	})
}
