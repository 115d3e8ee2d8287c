package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"kraft/raftmeta/configs"
)

// kept is what decides how long a partition's records stay.
type kept struct {
	policy         []string // cleanup.policy
	retentionMs    int64
	retentionBytes int64
	segmentBytes   int64

	records        int64 // offsets between start and end
	size           int64 // bytes
	oldest, newest time.Time
}

// why says in sentences why records are still there.
func (k kept) why(now time.Time) []string {
	if k.records == 0 {
		return []string{"empty"}
	}
	if !slices.Contains(k.policy, "delete") {
		if slices.Contains(k.policy, "compact") {
			return []string{"cleanup.policy=compact: the newest record of each key stays"}
		}
		return []string{"cleanup.policy is empty: records stay for ever"}
	}
	if k.retentionMs < 0 && k.retentionBytes < 0 {
		return []string{"retention.ms and retention.bytes are -1: records stay for ever"}
	}
	var out []string
	if k.retentionBytes >= 0 {
		switch over := k.size - k.retentionBytes; {
		case over <= 0:
			out = append(out, fmt.Sprintf("%d bytes are not more than retention.bytes=%d", k.size, k.retentionBytes))
		case over < k.segmentBytes:
			out = append(out, fmt.Sprintf("%d bytes exceed retention.bytes=%d by less than a segment, and only whole segments are deleted", k.size, k.retentionBytes))
		default:
			out = append(out, "more than retention.bytes: goes at the next check")
		}
	}
	if k.retentionMs < 0 {
		return out
	}
	retention := time.Duration(min(k.retentionMs, 1<<53)) * time.Millisecond
	switch age := now.Sub(k.oldest); {
	case age <= retention:
		out = append(out, fmt.Sprintf("the oldest record is %s old, retention.ms is %s", short(age), short(retention)))
	case k.newest.After(now):
		out = append(out, fmt.Sprintf("a record is dated %s ahead: its segment stays until retention.ms after that", short(k.newest.Sub(now))))
	case now.Sub(k.newest) <= retention && k.size <= k.segmentBytes:
		out = append(out, fmt.Sprintf("the newest record of the active segment is %s old: only whole segments are deleted, after segment.ms or segment.bytes has rolled them", short(now.Sub(k.newest))))
	case now.Sub(k.newest) <= retention:
		out = append(out, "old records share a segment with newer ones: segments go as a whole")
	default:
		out = append(out, "older than retention.ms: goes at the next check")
	}
	return out
}

// short prints a duration to the second; one of two days and more in days, to the hour.
func short(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 2*day {
		text := d.Round(time.Second).String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		return text
	}
	d = d.Round(time.Hour)
	if rest := d % day; rest > 0 {
		return fmt.Sprintf("%dd%dh", d/day, rest/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// KeptPartition is a partition with the reasons why its records are still there.
type KeptPartition struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Records   int64    `json:"records"`
	Bytes     int64    `json:"bytes"`
	Why       []string `json:"why"`
}

// WhyKept says for each partition of a topic why its records are still there. It lacks partitions whose leaders do not answer.
func WhyKept(ctx context.Context, admin *kadm.Client, name string) (out []KeptPartition, err error) {
	var lacking Lacking
	settings, err := admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(settings) == 0 {
		return nil, errors.New("the broker returned no settings")
	}
	if settings[0].Err != nil {
		return nil, ofTopic(ctx, admin, name, settings[0].Err, settings[0].ErrMessage)
	}
	var base kept
	for _, kv := range settings[0].Configs {
		n, _ := strconv.ParseInt(kv.MaybeValue(), 10, 64)
		switch kv.Key {
		case "cleanup.policy":
			base.policy = configs.SplitList(kv.MaybeValue())
		case "retention.ms":
			base.retentionMs = n
		case "retention.bytes":
			base.retentionBytes = n
		case "segment.bytes":
			base.segmentBytes = n
		}
	}
	start, end, err := extent(ctx, admin, name)
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	first, err := admin.ListOffsetsAfterMilli(ctx, 0, name)
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	last, err := admin.ListMaxTimestampOffsets(ctx, name)
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	sizes := map[int32]int64{}
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == name {
				sizes[p.Partition] = max(sizes[p.Partition], p.Size) // replicas
			}
		})
	})
	now := time.Now()
	topics, err := admin.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, partition := range topics[name].Partitions.Sorted() {
		p := partition.Partition
		s, known1 := start.Lookup(name, p)
		e, known2 := end.Lookup(name, p)
		f, known3 := first.Lookup(name, p)
		l, known4 := last.Lookup(name, p)
		if !known1 || !known2 || !known3 || !known4 || errors.Join(s.Err, e.Err, f.Err, l.Err) != nil {
			lacking.Add("%s:%d has no reachable leader: the reason why its records are kept is unknown", name, p)
			continue
		}
		k := base
		k.records, k.size = e.Offset-s.Offset, sizes[p]
		k.oldest, k.newest = time.UnixMilli(f.Timestamp), time.UnixMilli(l.Timestamp)
		out = append(out, KeptPartition{name, p, k.records, k.size, k.why(now)})
	}
	return out, lacking.Err()
}
