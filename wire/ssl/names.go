package ssl

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// keywords are the attributes that Java writes by name (RFC 2253). It writes others as their number and the bytes of their value.
var keywords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// DistinguishedName is a certificate's subject as Java's X500Principal.getName writes it, which principals and mapping rules go by.
func DistinguishedName(c *x509.Certificate) (string, error) {
	var rdns []attributeSET
	if rest, err := asn1.Unmarshal(c.RawSubject, &rdns); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("subject of a certificate: %v", err)
	}
	if len(rdns) == 0 {
		return "", errors.New("the certificate has no subject")
	}
	var out []string
	for _, set := range slices.Backward(rdns) {
		var parts []string
		for _, a := range set {
			var value any
			if _, err := asn1.Unmarshal(a.Value.FullBytes, &value); err != nil {
				return "", fmt.Errorf("subject of a certificate: %v", err)
			}
			id := a.Type.String()
			text, isText := value.(string)
			if word := keywords[id]; word != "" && isText {
				parts = append(parts, word+"="+escape(text))
			} else {
				parts = append(parts, id+"=#"+hex.EncodeToString(a.Value.FullBytes))
			}
		}
		out = append(out, strings.Join(parts, "+"))
	}
	return strings.Join(out, ","), nil
}

// attributeSET is a part of a name; package asn1 knows sets by the ends of their types' names.
type attributeSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// escape writes a value as Java does: with a backslash before what means something in a name, and before blanks at both ends.
func escape(s string) string {
	leading, trailing := len(s)-len(strings.TrimLeft(s, " ")), len(strings.TrimRight(s, " "))
	var b strings.Builder
	for i, r := range s {
		if r == ' ' && (i < leading || i >= trailing) || strings.ContainsRune(`,=+<>#;"\`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Rules map distinguished names to the names of principals (ssl.principal.mapping.rules, KIP-371; Kafka's SslPrincipalMapper).
type Rules []rule

type rule struct {
	pattern     *regexp.Regexp // nil for DEFAULT
	whole       *regexp.Regexp // pattern, for a whole name
	replacement string
	toCase      byte // 'L', 'U' or 0
}

// ruleText is one rule: DEFAULT, or RULE:pattern/replacement/ with L or U behind it.
var ruleText = regexp.MustCompile(`^\s*(DEFAULT|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?))\s*(?:,|$)`)

var escaped = regexp.MustCompile(`\\([,/])`)

// ParseRules reads the rules' setting.
func ParseRules(text string) (Rules, error) {
	if strings.TrimSpace(text) == "DEFAULT" {
		return Rules{{}}, nil
	}
	var out Rules
	for rest := text; strings.TrimSpace(rest) != ""; {
		m := ruleText.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("%q is none of DEFAULT and RULE:pattern/replacement/[LU]", strings.TrimSpace(rest))
		}
		rest = rest[len(m[0]):]
		if m[1] == "DEFAULT" {
			out = append(out, rule{})
			continue
		}
		pattern := escaped.ReplaceAllString(m[2], "$1")
		if strings.Contains(pattern, "&&") {
			return nil, fmt.Errorf("pattern %q: kraft does not know Java's && in character classes", pattern)
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w (kraft's patterns are RE2's, without look-around)", pattern, err)
		}
		r := rule{pattern: re, whole: regexp.MustCompile(`^(?:` + pattern + `)$`), replacement: escaped.ReplaceAllString(m[3], "$1")}
		if m[4] != "" {
			r.toCase = m[4][0]
		}
		out = append(out, r)
	}
	return out, nil
}

// Name is the name of the principal with a distinguished name. It is an error if no rule fits.
func (rs Rules) Name(dn string) (string, error) {
	for _, r := range rs {
		if r.pattern == nil {
			return dn, nil
		}
		if !r.whole.MatchString(dn) {
			continue
		}
		name := r.replace(dn)
		switch r.toCase {
		case 'L':
			name = strings.ToLower(name)
		case 'U':
			name = strings.ToUpper(name)
		}
		return name, nil
	}
	return "", fmt.Errorf("no rule of ssl.principal.mapping.rules fits %q", dn)
}

// replace is Java's replaceAll: it also replaces an empty match behind one that ends there, which Go does not.
func (r rule) replace(dn string) string {
	var b strings.Builder
	last := 0
	for from := 0; from <= len(dn); {
		loc := r.pattern.FindStringSubmatchIndex(dn[from:])
		if loc == nil {
			break
		}
		for i := range loc {
			if loc[i] >= 0 {
				loc[i] += from
			}
		}
		b.WriteString(dn[last:loc[0]])
		b.WriteString(expand(r.replacement, dn, loc))
		last, from = loc[1], loc[1]
		if loc[0] == loc[1] {
			from++
			if loc[1] < len(dn) {
				b.WriteByte(dn[loc[1]])
				last++
			}
		}
		if strings.HasPrefix(r.pattern.String(), "^") { // it fits once
			break
		}
	}
	b.WriteString(dn[last:])
	return b.String()
}

// expand puts groups in the place of $1 and so on. A number that is too high loses digits, as in Java, or stays as it is.
func expand(replacement, dn string, loc []int) string {
	var b strings.Builder
	for i := 0; i < len(replacement); i++ {
		if replacement[i] != '$' || i+1 == len(replacement) || replacement[i+1] < '0' || replacement[i+1] > '9' {
			b.WriteByte(replacement[i])
			continue
		}
		group, end := int(replacement[i+1]-'0'), i+2
		for end < len(replacement) && replacement[end] >= '0' && replacement[end] <= '9' {
			next, _ := strconv.Atoi(replacement[i+1 : end+1])
			if 2*next+1 >= len(loc) {
				break
			}
			group, end = next, end+1
		}
		if 2*group+1 >= len(loc) {
			b.WriteString(replacement[i:end])
		} else if loc[2*group] >= 0 {
			b.WriteString(dn[loc[2*group]:loc[2*group+1]])
		}
		i = end - 1
	}
	return b.String()
}
