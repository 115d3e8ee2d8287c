package configs

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// IsLoopback reports whether a host is localhost or a loopback address, by its text. Any goroutine may call it.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Check says in one sentence what is wrong with a value, nil if nothing (Kafka's ConfigDef). Spaces around it do not count.
func (d *Definition) Check(value string) error {
	text := strings.TrimSpace(value)
	switch d.Type {
	case Boolean:
		if v := strings.ToLower(text); v != "true" && v != "false" {
			return fmt.Errorf("Invalid value %s for configuration %s: Expected value to be either true or false", value, d.Name)
		}
	case Int, Short, Long:
		bits := map[Type]int{Int: 32, Short: 16, Long: 64}[d.Type]
		n, err := strconv.ParseInt(text, 10, bits)
		if err != nil {
			return fmt.Errorf("Invalid value %s for configuration %s: Not a number of type %s", value, d.Name, map[Type]string{Int: "INT", Short: "SHORT", Long: "LONG"}[d.Type])
		}
		return d.checkBounds(float64(n), value)
	case Double:
		f, err := parseDouble(text)
		if err != nil {
			return fmt.Errorf("Invalid value %s for configuration %s: Not a number of type DOUBLE", value, d.Name)
		}
		return d.checkBounds(f, value)
	case List:
		for _, v := range SplitList(text) {
			if d.allowed != nil && !slices.Contains(d.allowed, v) {
				return fmt.Errorf("Invalid value %s for configuration %s: String must be one of: %s", v, d.Name, strings.Join(d.allowed, ", "))
			}
		}
		if d.distinct && text != "" && slices.ContainsFunc(strings.Split(text, ","), func(v string) bool { return strings.TrimSpace(v) == "" }) {
			return fmt.Errorf("Configuration '%s' values must not be empty.", d.Name)
		}
		if strings.HasSuffix(d.Name, throttledReplicas) && !isThrottledReplicas(text) {
			return fmt.Errorf("Invalid value %s for configuration %s: %s must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...", value, d.Name, d.Name)
		}
	case String:
		if d.Name == "max.connections.per.ip.overrides" {
			if _, err := HostLimits(text); err != nil {
				return fmt.Errorf("Invalid value %s for configuration %s: %w", value, d.Name, err)
			}
		}
		if d.allowed != nil && !slices.Contains(d.allowed, text) {
			return fmt.Errorf("Invalid value %s for configuration %s: String must be one of: %s", value, d.Name, strings.Join(d.allowed, ", "))
		}
	}
	if d.nonEmpty && text == "" {
		return fmt.Errorf("Invalid value for configuration %s: must not be empty", d.Name)
	}
	return nil
}

// throttledReplicas ends the names of the two topic settings that list replicas.
const throttledReplicas = "replication.throttled.replicas"

var replicaOfPartition = regexp.MustCompile(`^([0-9]+:[0-9]+)?$`)

// isThrottledReplicas is Kafka's ThrottledReplicaListValidator.
func isThrottledReplicas(text string) bool {
	return text == "*" || !slices.ContainsFunc(strings.Split(text, ","), func(v string) bool { return !replicaOfPartition.MatchString(strings.TrimSpace(v)) })
}

func (d *Definition) checkBounds(f float64, value string) error {
	if !d.bounded || d.orValue != nil && f == *d.orValue {
		return nil
	}
	if f < d.minimum {
		return fmt.Errorf("Invalid value %s for configuration %s: Value must be at least %v", value, d.Name, int64(d.minimum))
	}
	if f > d.maximum {
		return fmt.Errorf("Invalid value %s for configuration %s: Value must be no more than %v", value, d.Name, int64(d.maximum))
	}
	return nil
}

// Normal is the one text of a value that Check takes, by which it is described and goes by: of " TRUE" it is "true", of "+1" it is "1".
// What Check does not take stays as it is.
func (d *Definition) Normal(value string) string {
	text := strings.TrimSpace(value)
	switch d.Type {
	case Boolean:
		return strings.ToLower(text)
	case Int, Short, Long:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return strconv.FormatInt(n, 10)
		}
	case Double:
		if f, err := parseDouble(text); err == nil {
			return formatDouble(f)
		}
	case List:
		var out []string
		for _, v := range strings.Split(text, ",") {
			if v = strings.TrimSpace(v); !d.distinct || !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
		return strings.Join(out, ",")
	}
	return text
}

// parseDouble reads what Java's Double.parseDouble does, but for numbers in hexadecimal.
func parseDouble(text string) (float64, error) {
	if n := len(text); n > 1 && strings.ContainsRune("dDfF", rune(text[n-1])) && strings.ContainsRune("0123456789.", rune(text[n-2])) {
		text = text[:n-1]
	}
	switch strings.TrimLeft(text, "+-") {
	case "NaN", "Infinity":
	default: // other names of them are Go's
		if strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789.eE+-", r) }) {
			return 0, strconv.ErrSyntax
		}
	}
	return strconv.ParseFloat(text, 64)
}

// formatDouble writes a number as Java's Double.toString does.
func formatDouble(f float64) string {
	size := math.Abs(f)
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case size == 0 || size >= 1e-3 && size < 1e7:
		text := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	}
	digits, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return digits + "E" + strconv.Itoa(n)
}

// HostLimit is an entry of max.connections.per.ip.overrides.
type HostLimit struct {
	Host  string // an IP address or a name
	Limit int
}

// HostLimits reads max.connections.per.ip.overrides: HOST:COUNT, separated by commas.
func HostLimits(text string) (out []HostLimit, err error) {
	for _, entry := range SplitList(text) {
		i := strings.LastIndexByte(entry, ':')
		if i <= 0 {
			return nil, fmt.Errorf("%q is not HOST:COUNT", entry)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(entry[i+1:]), 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is not HOST:COUNT", entry)
		}
		out = append(out, HostLimit{strings.Trim(strings.TrimSpace(entry[:i]), "[]"), int(n)})
	}
	return out, nil
}
