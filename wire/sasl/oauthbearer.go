package sasl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// OAuthBearer is the mechanism OAUTHBEARER (RFC 7628, KIP-255). validate checks a token, and returns whose it is; its errors are for the log alone.
func OAuthBearer(validate func(token string) (*Identity, error)) Mechanism {
	return func() Exchange {
		var failed error
		return func(message []byte) ([]byte, *Identity, error) {
			if failed != nil { // the client has read that, and says so
				return nil, nil, failed
			}
			as, token, err := parseBearer(string(message))
			if err != nil {
				return nil, nil, err
			}
			who, err := validate(token)
			if err != nil {
				status, _ := json.Marshal(map[string]string{"status": "invalid_token"})
				failed = fmt.Errorf("%w: %w", Refusal(status), err)
				return status, nil, nil
			}
			if as != "" && as != who.User {
				return nil, nil, Refusal(fmt.Sprintf("Authentication failed: Client requested an authorization id (%s) that is different from the token's principal name (%s)", as, who.User))
			}
			return nil, who, nil
		}
	}
}

var errBearer = errors.New("a message that is none of OAUTHBEARER")

// parseBearer reads a client's first message: the name that it wants to be, "" for that of the token, and the token.
func parseBearer(message string) (as, token string, err error) {
	header, rest, ok := strings.Cut(message, "\x01")
	if !ok {
		return "", "", errBearer
	}
	binding, as, ok := strings.Cut(header, ",")
	if as, closed := strings.CutSuffix(as, ","); ok && closed && binding == "n" { // without channel binding
		if as != "" {
			if as, ok = strings.CutPrefix(as, "a="); !ok {
				return "", "", errBearer
			}
			if as, err = saslName(as); err != nil {
				return "", "", err
			}
		}
		token, err = bearerToken(rest)
		return as, token, err
	}
	return "", "", errBearer
}

// bearerToken finds the token among the key=value pairs behind the header, each of which ends with a byte 1, as does the whole.
func bearerToken(pairs string) (token string, err error) {
	list := strings.Split(pairs, "\x01")
	if n := len(list); n < 3 || list[n-1] != "" || list[n-2] != "" {
		return "", errBearer
	}
	for _, pair := range list[:len(list)-2] {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isLetter(r) }) || strings.ContainsFunc(value, func(r rune) bool { return !isValue(r) }) {
			return "", errBearer
		}
		if key != "auth" {
			continue // an extension, which says nothing of who this is
		}
		scheme, given, ok := strings.Cut(value, " ")
		if !ok || !strings.EqualFold(scheme, "bearer") || token != "" {
			return "", errBearer
		}
		if token = strings.TrimLeft(given, " "); token == "" {
			return "", errBearer
		}
	}
	if token == "" {
		return "", errBearer
	}
	return token, nil
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isValue(r rune) bool  { return r >= ' ' && r <= '~' || r == '\t' || r == '\r' || r == '\n' }
