// Package jaas reads the values of sasl.jaas.config: a login module, a flag and options, as Kafka's JaasConfig does.
package jaas

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Entry is what a value says.
type Entry struct {
	Module  string // the Java class, e.g. org.apache.kafka.common.security.plain.PlainLoginModule
	Options map[string]string
}

// Parse reads a value. An option that is given twice counts as it stands last.
func Parse(text string) (*Entry, error) {
	t := &tokenizer{rest: []rune(text)}
	module, err := t.word("a login module")
	if err != nil {
		return nil, err
	}
	flag, err := t.word("required, requisite, sufficient or optional")
	if err != nil {
		return nil, err
	}
	switch strings.ToLower(flag) {
	case "required", "requisite", "sufficient", "optional":
	default:
		return nil, fmt.Errorf("%q stands where required, requisite, sufficient or optional should", flag)
	}
	e := &Entry{Module: module, Options: map[string]string{}}
	for {
		if t.take(';') {
			break
		}
		key, err := t.word("an option or ;")
		if err != nil {
			return nil, err
		}
		if !t.take('=') {
			return nil, errors.New("an option has no value: KEY=\"VALUE\", with quotes around a value that has blanks")
		}
		if e.Options[key], err = t.word("the value of option " + key); err != nil {
			return nil, err
		}
	}
	if t.skip(); len(t.rest) > 0 {
		return nil, errors.New("something stands behind the ;, and one login module is allowed")
	}
	return e, nil
}

// tokenizer cuts a value into words as java.io.StreamTokenizer does.
type tokenizer struct{ rest []rune }

// skip leaves out blanks and comments: /* */, //, and, outside quotes, from a single / to the end of the line.
func (t *tokenizer) skip() {
	for len(t.rest) > 0 {
		switch {
		case t.rest[0] <= ' ':
			t.rest = t.rest[1:]
		case t.rest[0] != '/':
			return
		case len(t.rest) > 1 && t.rest[1] == '*':
			if end := strings.Index(string(t.rest[2:]), "*/"); end >= 0 {
				t.rest = []rune(string(t.rest[2:])[end+2:])
			} else {
				t.rest = nil
			}
		default:
			for len(t.rest) > 0 && t.rest[0] != '\n' && t.rest[0] != '\r' {
				t.rest = t.rest[1:]
			}
		}
	}
}

// take takes one sign if it comes next.
func (t *tokenizer) take(sign rune) bool {
	if t.skip(); len(t.rest) == 0 || t.rest[0] != sign {
		return false
	}
	t.rest = t.rest[1:]
	return true
}

func isWordSign(r rune) bool {
	return r >= 0xa0 || r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("_$.-", r)
}

// word takes a word, or a string in quotes.
func (t *tokenizer) word(what string) (string, error) {
	if t.skip(); len(t.rest) == 0 {
		return "", fmt.Errorf("the end comes where %s should", what)
	}
	switch first := t.rest[0]; {
	case first == '"' || first == '\'':
		return t.quoted(first)
	case unicode.IsDigit(first) || first == '-' || first == '.' || !isWordSign(first):
		return "", fmt.Errorf("%q stands where %s should: put it into quotes if it belongs to a word", first, what)
	}
	n := 1
	for n < len(t.rest) && isWordSign(t.rest[n]) {
		n++
	}
	word := string(t.rest[:n])
	t.rest = t.rest[n:]
	return word, nil
}

func (t *tokenizer) quoted(quote rune) (string, error) {
	var out []rune
	for r := t.rest[1:]; len(r) > 0; r = r[1:] {
		switch r[0] {
		case quote:
			t.rest = r[1:]
			return string(out), nil
		case '\n', '\r':
			return "", errors.New("a string in quotes goes on in the next line")
		case '\\':
			if len(r) == 1 {
				return "", errors.New("a string in quotes has no end")
			}
			c, more := unescape(r[1:])
			out = append(out, c)
			r = r[more:]
		default:
			out = append(out, r[0])
		}
	}
	return "", errors.New("a string in quotes has no end")
}

// unescape is the sign that stands behind a backslash, and how many runes it takes.
func unescape(r []rune) (sign rune, n int) {
	if c := strings.IndexRune("abfnrtv", r[0]); c >= 0 {
		return rune("\a\b\f\n\r\t\v"[c]), 1
	}
	if r[0] < '0' || r[0] > '7' {
		return r[0], 1
	}
	most := 2
	if r[0] <= '3' {
		most = 3
	}
	for n < len(r) && n < most && r[n] >= '0' && r[n] <= '7' {
		sign = sign*8 + r[n] - '0'
		n++
	}
	return sign, n
}
