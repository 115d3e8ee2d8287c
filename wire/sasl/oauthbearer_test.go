package sasl

import (
	"errors"
	"strings"
	"testing"
)

// TestOAuthBearer: what clients may say, and what they are told.
func TestOAuthBearer(t *testing.T) {
	begin := OAuthBearer(func(token string) (*Identity, error) {
		if user, ok := strings.CutPrefix(token, "token-of-"); ok {
			return &Identity{User: user}, nil
		}
		return nil, errors.New("the token's signature is not right")
	})
	for message, want := range map[string]string{
		"n,,\x01auth=Bearer token-of-alice\x01\x01":                                         "alice",
		"n,,\x01auth=bearer   token-of-alice\x01\x01":                                       "alice",
		"n,a=alice,\x01auth=Bearer token-of-alice\x01\x01":                                  "alice",
		"n,a=a=2Cb=3D,\x01auth=Bearer token-of-a,b=\x01\x01":                                "a,b=",
		"n,,\x01host=h\x01port=1\x01auth=Bearer token-of-alice\x01traceId=x y\x01\x01":      "alice",
		"n,a=bob,\x01auth=Bearer token-of-alice\x01\x01":                                    "refused: authorization id (bob)",
		"n,a=,\x01auth=Bearer token-of-alice\x01\x01":                                       "bad",
		"n,bob,\x01auth=Bearer token-of-alice\x01\x01":                                      "bad",
		"y,,\x01auth=Bearer token-of-alice\x01\x01":                                         "bad",
		"p=tls-unique,,\x01auth=Bearer token-of-alice\x01\x01":                              "bad",
		"n,,\x01auth=Basic token-of-alice\x01\x01":                                          "bad",
		"n,,\x01auth=Bearer token-of-alice\x01":                                             "bad",
		"n,,\x01auth=Bearer token-of-alice":                                                 "bad",
		"n,,\x01auth=Bearer\x01\x01":                                                        "bad",
		"n,,\x01auth=Bearer \x01\x01":                                                       "bad",
		"n,,\x01\x01":                                                                       "bad",
		"n,,\x01auth=Bearer token-of-alice\x01auth=Bearer token-of-bob\x01\x01":             "bad",
		"n,,\x01k1=v\x01auth=Bearer token-of-alice\x01\x01":                                 "bad",
		"n,,\x01k=v\x00\x01auth=Bearer token-of-alice\x01\x01":                              "bad",
		"n,,\x01k\x01auth=Bearer token-of-alice\x01\x01":                                    "bad",
		"n,a=" + strings.Repeat("x", maxSASLName+1) + ",\x01auth=Bearer token-of-x\x01\x01": "bad",
		"": "bad", "\x01": "bad",
	} {
		_, who, err := begin()([]byte(message))
		refusal := Refusal("")
		got := "bad"
		switch {
		case err == nil && who != nil:
			got = who.User
		case errors.As(err, &refusal):
			got = "refused: " + string(refusal)
		}
		if got != want && !(strings.HasPrefix(want, "refused: ") && strings.Contains(got, want[len("refused: "):])) {
			t.Errorf("%q: %s (%v), want %s", message, got, err, want)
		}
	}
	// A token that is not valid: the client is told, says that it has read it, and is refused, with the reason for the log alone.
	for _, answer := range []string{"\x01", "n,,\x01auth=Bearer token-of-alice\x01\x01", ""} {
		exchange := begin()
		said, who, err := exchange([]byte("n,,\x01auth=Bearer forged\x01\x01"))
		if err != nil || who != nil || string(said) != `{"status":"invalid_token"}` {
			t.Fatalf("%q %v %v", said, who, err)
		}
		_, who, err = exchange([]byte(answer))
		refusal := Refusal("")
		if who != nil || !errors.As(err, &refusal) || string(refusal) != `{"status":"invalid_token"}` || !strings.Contains(err.Error(), "signature") {
			t.Errorf("%q: %v %v", answer, who, err)
		}
	}
}

func FuzzOAuthBearer(f *testing.F) {
	f.Add("n,a=alice,\x01auth=Bearer t\x01k=v\x01\x01")
	f.Fuzz(func(t *testing.T, message string) {
		as, token, err := parseBearer(message)
		if err == nil && (token == "" || len(as)+len(token) > len(message) || !strings.Contains(message, token)) {
			t.Errorf("%q and %q are made of %q", as, token, message)
		}
	})
}
