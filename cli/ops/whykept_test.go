package ops

import (
	"strings"
	"testing"
	"time"
)

func TestWhyKept(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ago := func(h int) time.Time { return now.Add(-time.Duration(h) * time.Hour) }
	hours := func(h int64) int64 { return h * 3600_000 }
	del := []string{"delete"}
	for want, k := range map[string]kept{
		"empty":                                      {policy: del, retentionMs: 1},
		"newest record of each":                      {policy: []string{"compact"}, records: 1},
		"cleanup.policy is empt":                     {records: 1},
		"are -1: records stay":                       {policy: del, retentionMs: -1, retentionBytes: -1, records: 1},
		"2h old, retention.ms is 3h":                 {policy: del, retentionMs: hours(3), retentionBytes: -1, records: 1, oldest: ago(2), newest: ago(1)},
		"dated 5h ahead":                             {policy: del, retentionMs: hours(3), retentionBytes: -1, records: 1, oldest: ago(9), newest: ago(-5)},
		"the newest record of the active segment":    {policy: del, retentionMs: hours(3), retentionBytes: -1, records: 1, size: 5, segmentBytes: 10, oldest: ago(9), newest: ago(1)},
		"old records share a segment with newer":     {policy: del, retentionMs: hours(3), retentionBytes: -1, records: 1, size: 50, segmentBytes: 10, oldest: ago(9), newest: ago(1)},
		"older than retention.ms: goes":              {policy: del, retentionMs: hours(3), retentionBytes: -1, records: 1, oldest: ago(9), newest: ago(8)},
		"5 bytes are not more than retention.byt":    {policy: del, retentionMs: -1, retentionBytes: 9, records: 1, size: 5},
		"exceed retention.bytes=9 by less than a se": {policy: del, retentionMs: -1, retentionBytes: 9, records: 1, size: 15, segmentBytes: 10},
		"more than retention.bytes: goes":            {policy: []string{"compact", "delete"}, retentionMs: -1, retentionBytes: 9, records: 1, size: 55, segmentBytes: 10},
	} {
		if got := strings.Join(k.why(now), "; "); !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q in it", k, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 40 * time.Second: "40s", 1000 * time.Second: "16m40s", time.Minute: "1m", 2 * time.Hour: "2h", 90 * time.Minute: "1h30m",
		47 * time.Hour: "47h", 7 * 24 * time.Hour: "7d", 53*time.Hour + 10*time.Minute: "2d5h", 20*time.Hour + time.Second: "20h0m1s"} {
		if got := short(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
