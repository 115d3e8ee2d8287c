package command

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// settingUnits are how long the units of settings' names are.
var settingUnits = map[string]time.Duration{"ms": time.Millisecond, "seconds": time.Second, "minutes": time.Minute, "hours": time.Hour}

// byteUnits are people's words for sizes, the longer ones first.
var byteUnits = []struct {
	word  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}}

// inUnits turns a value with a unit, like 1h for a setting in milliseconds or 1GiB for one in bytes, into the number that the setting takes.
// Other values stay as they are.
func inUnits(key, value string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	if unit, ok := settingUnits[last]; ok {
		if d, ok := parseAge(value); ok && d%unit == 0 {
			return strconv.FormatInt(int64(d/unit), 10)
		}
		return value
	}
	if last != "bytes" && last != "size" {
		return value
	}
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(value, u.word); ok {
			if f, err := strconv.ParseFloat(strings.TrimSpace(number), 64); err == nil && f >= 0 && f*u.bytes < math.MaxInt64 {
				return strconv.FormatInt(int64(math.Round(f*u.bytes)), 10)
			}
		}
	}
	return value
}

// parseAge reads a time like 90s, 1h30m or 7d.
func parseAge(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * float64(24*time.Hour)), err == nil && n >= 0 && n < 1e5
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes < 1<<10 {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	f, units := float64(bytes), []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := -1
	for f >= 1<<10 && i < len(units)-1 {
		f, i = f/(1<<10), i+1
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}
