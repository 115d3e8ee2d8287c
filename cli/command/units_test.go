package command

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"retention.ms", "1h", "3600000"}, {"retention.ms", "7d", "604800000"}, {"retention.ms", "1h30m", "5400000"}, {"retention.ms", "-1", "-1"}, {"retention.ms", "3600000", "3600000"},
		{"log.retention.hours", "2h", "2"}, {"log.retention.hours", "90m", "90m"}, {"log.retention.minutes", "1.5d", "2160"}, {"segment.bytes", "1GiB", "1073741824"}, {"segment.bytes", "1.5 MiB", "1572864"},
		{"retention.bytes", "1GB", "1000000000"}, {"retention.bytes", "-1", "-1"}, {"cleanup.policy", "1h", "1h"}, {"max.message.bytes", "1XiB", "1XiB"}, {"log.dirs", "/a/1GiB", "/a/1GiB"},
	} {
		if got := inUnits(c.key, c.value); got != c.want {
			t.Errorf("%s=%s: %s, want %s", c.key, c.value, got, c.want)
		}
	}
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 15543: "15.2 KiB", 1 << 30: "1.0 GiB", 1<<63 - 1: "8.0 EiB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}

// TestFit: lines of a table are not wider than the terminal, if that is possible; the first column is whole, and the last may wrap.
func TestFit(t *testing.T) {
	width := func(rows [][]string) (n int) {
		for i := range rows[0] {
			column := 0
			for _, row := range rows {
				column = max(column, utf8.RuneCountInString(row[i]))
			}
			if i == len(rows[0])-1 { // which wraps
				column = min(column, 12)
			}
			n += column + 2
		}
		return n - 2
	}
	for columns := 1; columns < 6; columns++ {
		for size := 1; size < 120; size += 7 {
			for terminal := 20; terminal < 200; terminal += 9 {
				rows := [][]string{nil, nil}
				for i := range columns {
					rows[0] = append(rows[0], strings.Repeat("ä", 1+i))
					rows[1] = append(rows[1], strings.Repeat("x", 1+size*(i+1)/columns))
				}
				whole, first, last := width(rows), rows[1][0], rows[1][columns-1]
				fit(rows, terminal)
				least := utf8.RuneCountInString(first) + (columns-1)*(2+12)
				if got := width(rows); rows[1][0] != first || rows[1][columns-1] != last || got > max(terminal, least) || whole <= terminal && got != whole {
					t.Fatalf("%d columns of %d in %d: %d, before %d: %q", columns, size, terminal, got, whole, rows)
				}
			}
		}
	}
}
