package jaas

import (
	"maps"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
	for text, want := range map[string]map[string]string{
		plain + ` required;`: {},
		plain + ` REQUIRED username="a" password='b c' user_a="b;c" ;`:                          {"username": "a", "password": "b c", "user_a": "b;c"},
		"x optional // a comment\n a=true /* and\nanother */ b=p$w;":                            {"a": "true", "b": "p$w"},
		`x requisite "user_a b"="x";`:                                                           {"user_a b": "x"},
		`x sufficient p="a\"b\\c\n\101\u" q="é" r=é;`:                                           {"p": "a\"b\\c\nAu", "q": "é", "r": "é"},
		`x required a="1" a="2";`:                                                               {"a": "2"},
		"x required\n\tserviceName=kafka\n\tkeyTab=\"/etc/security/k\"\n\tprincipal='k/h@R';\n": {"serviceName": "kafka", "keyTab": "/etc/security/k", "principal": "k/h@R"},
	} {
		e, err := Parse(text)
		if err != nil || !maps.Equal(e.Options, want) {
			t.Errorf("%s: %v, %v, want %v", text, e, err, want)
		}
	}
	for text, says := range map[string]string{
		"":                            "a login module should",
		"x":                           "the end comes where required",
		"x maybe;":                    `"maybe" stands where required`,
		`x required a="b"`:            "an option or ; should",
		"x required keyTab=/etc/k;":   "the value of option keyTab",
		"x required a=1;":             "'1' stands where",
		"x required a=-5;":            "'-' stands where",
		"x required a=p@w;":           "'@' stands where",
		`x required a="1", b="2";`:    "',' stands where",
		"x required a=\"1\n2\";":      "next line",
		`x required a="1;`:            "has no end",
		`x required a="1\`:            "has no end",
		`x required a;`:               "has no value",
		`x required; y required;`:     "one login module",
		"x required # c\n a=b;":       "'#' stands where",
		"x required a=b /* no end; a": "an option or ; should",
	} {
		if e, err := Parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, %v, want %q", text, e, err, says)
		}
	}
}

// FuzzParse: no value makes Parse panic or go on for ever.
func FuzzParse(f *testing.F) {
	f.Add(`x required a="\`)
	f.Add(`x required /* a="\400";`)
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := Parse(text); (e == nil) == (err == nil) {
			t.Fatal(e, err)
		}
	})
}
