package scripts

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"kraft/raftmeta/image"
	"kraft/wire/sasl"
)

// firstUsers reads the values of --add-scram, SCRAM-SHA-256=[name=alice,password=...] (KIP-900; Kafka's ScramParser).
func firstUsers(values []string) (out []image.ScramCredential, err error) {
	for _, v := range values {
		c, err := firstUser(v)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o image.ScramCredential) bool { return o.User == c.User && o.Mechanism == c.Mechanism }) {
			return nil, fmt.Errorf("--add-scram sets the credential of %s twice", c.User)
		}
		out = append(out, c)
	}
	return out, nil
}

func firstUser(value string) (c image.ScramCredential, err error) {
	mechanism, rest, _ := strings.Cut(value, "=")
	h, known := sasl.ScramNamed(mechanism)
	if !known {
		return c, fmt.Errorf("--add-scram: the mechanism is SCRAM-SHA-256 or SCRAM-SHA-512, as in SCRAM-SHA-256=[name=alice,password=PASSWORD], not %q", mechanism)
	}
	c.Mechanism = image.ScramMechanism(h.Number)
	inner, ok := strings.CutPrefix(rest, "[")
	inner, ok2 := strings.CutSuffix(inner, "]")
	if !ok || !ok2 {
		return c, fmt.Errorf("--add-scram: what is behind %s= is [name=alice,password=PASSWORD]", mechanism)
	}
	given := map[string]string{}
	for _, part := range strings.Split(inner, ",") {
		key, text, _ := strings.Cut(part, "=")
		if !slices.Contains([]string{"name", "salt", "iterations", "password", "saltedpassword"}, key) {
			return c, errors.New("--add-scram has name, password, iterations, salt and saltedpassword; no value of them can have a comma")
		}
		given[key] = strings.Trim(text, `"`)
	}
	if c.User = given["name"]; c.User == "" {
		return c, errors.New("--add-scram: name is missing")
	}
	c.Iterations = defaultScramIterations
	if text, ok := given["iterations"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < sasl.MinIterations || n > sasl.MaxIterations {
			return c, fmt.Errorf("--add-scram: iterations is a number from %d to %d", sasl.MinIterations, sasl.MaxIterations)
		}
		c.Iterations = int32(n)
	}
	if text, ok := given["salt"]; ok {
		if c.Salt, err = base64.StdEncoding.DecodeString(text); err != nil {
			return c, errors.New("--add-scram: salt is not base64")
		}
	} else {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 130))
		if err != nil {
			return c, err
		}
		c.Salt = []byte(n.Text(36))
	}
	password, hasPassword := given["password"]
	salted, hasSalted := given["saltedpassword"]
	var key []byte
	switch {
	case hasPassword == hasSalted:
		return c, errors.New("--add-scram takes one of password and saltedpassword")
	case hasSalted && given["salt"] == "":
		return c, errors.New("--add-scram: saltedpassword needs its salt")
	case hasSalted:
		if key, err = base64.StdEncoding.DecodeString(salted); err != nil {
			return c, errors.New("--add-scram: saltedpassword is not base64")
		}
	default:
		if key, err = h.SaltedPassword(password, c.Salt, int(c.Iterations)); err != nil {
			return c, err
		}
	}
	c.StoredKey, c.ServerKey = h.Keys(key)
	return c, nil
}
