package controller

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// entityOf reads user=alice,client-id=app; a name that is left out is the default.
func entityOf(text string) (out []*image.QuotaEntity) {
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		kind, name, named := strings.Cut(part, "=")
		e := &image.QuotaEntity{Type: kind}
		if named {
			e.Name = &name
		}
		out = append(out, e)
	}
	return out
}

func quotaText(list []*image.Quota) string {
	var out []string
	for _, q := range list {
		var who []string
		for _, e := range q.Entity {
			if e.Name == nil {
				who = append(who, e.Type)
			} else {
				who = append(who, e.Type+"="+*e.Name)
			}
		}
		out = append(out, fmt.Sprint(strings.Join(who, ","), q.Values))
	}
	return strings.Join(out, " ")
}

func TestQuotas(t *testing.T) {
	m := image.Empty()
	for _, c := range []struct {
		entity string
		change QuotaChange
	}{
		{"user=alice", QuotaChange{Key: "producer_byte_rate", Value: 1000}},
		{"user=alice", QuotaChange{Key: "request_percentage", Value: 12.5}},
		{"client-id=app,user=alice", QuotaChange{Key: "consumer_byte_rate", Value: 5}},
		{"user", QuotaChange{Key: "producer_byte_rate", Value: 1}},
		{"ip=10.0.0.1", QuotaChange{Key: "connection_creation_rate", Value: 3}},
		{"user=bob", QuotaChange{Key: "producer_byte_rate", Value: 1}},
		{"user=bob", QuotaChange{Key: "producer_byte_rate", Remove: true}},
		{"user=carol", QuotaChange{Key: "producer_byte_rate", Remove: true}}, // nothing to remove
	} {
		records, err := AlterQuotas(m, entityOf(c.entity), []QuotaChange{c.change})
		if err != nil {
			t.Fatal(err)
		}
		apply(m, records)
	}
	data, err := m.Snapshot()
	if err == nil {
		m, err = image.FromSnapshot(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := "alice"
	for want, found := range map[string]struct {
		filters []QuotaFilter
		strict  bool
	}{
		"user=alice map[producer_byte_rate:1000 request_percentage:12.5]":                                {[]QuotaFilter{{"user", 0, &name}}, true},
		"user map[producer_byte_rate:1]":                                                                 {[]QuotaFilter{{"user", 1, nil}}, true},
		"client-id=app,user=alice map[consumer_byte_rate:5]":                                             {[]QuotaFilter{{"user", 2, nil}, {"client-id", 2, nil}}, false},
		"user map[producer_byte_rate:1] user=alice map[producer_byte_rate:1000 request_percentage:12.5]": {[]QuotaFilter{{"user", 2, nil}}, true},
		"ip=10.0.0.1 map[connection_creation_rate:3]":                                                    {[]QuotaFilter{{"ip", 2, nil}}, true},
	} {
		list, err := MatchQuotas(m, found.filters, found.strict)
		if got := strings.ReplaceAll(quotaText(list), "map[", " map["); err != nil || got != strings.ReplaceAll(want, " map[", " map[") {
			t.Errorf("%v: %q, %v; want %q", found, got, err, want)
		}
	}
}

func TestQuotaRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		entity string
		change QuotaChange
		says   string
	}{
		"nobody":      {"", QuotaChange{Key: "producer_byte_rate", Value: 1}, "empty client quota entity"},
		"a type":      {"host=a", QuotaChange{Key: "producer_byte_rate", Value: 1}, "Unhandled client quota entity type: host"},
		"a mixture":   {"ip=10.0.0.1,user=a", QuotaChange{Key: "connection_creation_rate", Value: 1}, "should not be combined"},
		"twice":       {"user=a,user=b", QuotaChange{Key: "producer_byte_rate", Value: 1}, "twice"},
		"no name":     {"user=", QuotaChange{Key: "producer_byte_rate", Value: 1}, "Empty user not supported"},
		"no address":  {"ip=a b", QuotaChange{Key: "connection_creation_rate", Value: 1}, "not a valid IP"},
		"a key":       {"user=a", QuotaChange{Key: "speed", Value: 1}, "Invalid configuration key speed"},
		"another key": {"ip=10.0.0.1", QuotaChange{Key: "producer_byte_rate", Value: 1}, "Invalid configuration key"},
		"zero":        {"user=a", QuotaChange{Key: "producer_byte_rate"}, "must be greater than 0"},
		"no number":   {"user=a", QuotaChange{Key: "producer_byte_rate", Value: math.NaN()}, "must be greater than 0"},
		"a fraction":  {"user=a", QuotaChange{Key: "producer_byte_rate", Value: 1.5}, "cannot be a fractional value"},
		"too large":   {"ip=10.0.0.1", QuotaChange{Key: "connection_creation_rate", Value: 1e12}, "too large for a INT"},
	} {
		if _, err := AlterQuotas(image.Empty(), entityOf(tc.entity), []QuotaChange{tc.change}); !errors.Is(err, kerr.InvalidRequest) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", name, err, tc.says)
		}
	}
	for name, filters := range map[string][]QuotaFilter{"a type": {{"host", 2, nil}}, "twice": {{"user", 2, nil}, {"user", 1, nil}}, "a mixture": {{"ip", 2, nil}, {"user", 2, nil}}, "no match": {{"user", 0, nil}}, "a kind": {{"user", 3, nil}}} {
		if list, err := MatchQuotas(image.Empty(), filters, false); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
}

func TestUpdateFeatures(t *testing.T) {
	begin := func() *image.Image {
		m := image.Empty()
		apply(m, FirstRecords(Features, "c", 1))
		apply(m, []*image.Record{image.Register(&image.Broker{ID: 3, Epoch: 1, Features: map[string][2]int16{"metadata.version": {7, 28}}})})
		return m
	}
	for name, tc := range map[string]struct {
		changes []FeatureChange
		says    string // "" is done
	}{
		"down":           {[]FeatureChange{{"metadata.version", 20, true}}, ""},
		"down, unasked":  {[]FeatureChange{{"metadata.version", 20, false}}, "without setting the upgrade type"},
		"too new":        {[]FeatureChange{{"metadata.version", 31, false}}, "Local controller 1 only supports versions 7-30"},
		"too new for it": {[]FeatureChange{{"metadata.version", 29, true}}, "Broker 3 only supports versions 7-28"},
		"unknown":        {[]FeatureChange{{"no.such", 1, false}}, "Local controller 1 does not support this feature."},
		"below zero":     {[]FeatureChange{{"metadata.version", -1, true}}, "cannot be less than 0"},
		"twice":          {[]FeatureChange{{"metadata.version", 20, true}, {"metadata.version", 21, true}}, "twice"},
		"all or none":    {[]FeatureChange{{"metadata.version", 20, true}, {"no.such", 1, false}}, "does not support"},
	} {
		m := begin()
		before := m.FeaturesEpoch
		records, err := UpdateFeatures(m, 1, Features, tc.changes)
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), tc.says) || records != nil {
				t.Errorf("%s: %v, want %q", name, err, tc.says)
			}
			continue
		}
		apply(m, records)
		if err != nil || m.Features["metadata.version"] != 20 || m.FeaturesEpoch != before+1 {
			t.Errorf("%s: %v, %v in epoch %d", name, err, m.Features, m.FeaturesEpoch)
		}
	}
}
