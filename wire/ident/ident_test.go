package ident

import (
	"slices"
	"testing"
)

func TestParseTopicPartition(t *testing.T) {
	for name, want := range map[string]TopicPartition{
		"t-0": {"t", 0}, "my-topic-12": {"my-topic", 12}, "a--1": {"a-", 1},
		"": {}, "t": {}, "-1": {}, "t-": {}, "t-x": {}, "t-3000000000": {}, "t-0.5f-delete": {},
	} {
		got, ok := ParseTopicPartition(name)
		if got != want || ok != (want.Topic != "") {
			t.Errorf("%q is %v, %v", name, got, ok)
		}
		if ok && got.String() != name {
			t.Errorf("%q is written %q", name, got)
		}
	}
}

func TestCompare(t *testing.T) {
	sorted := []TopicPartition{{"a", 9}, {"a", 10}, {"a-b", 0}, {"b", 0}}
	for i, a := range sorted {
		for j, b := range sorted {
			if (a.Compare(b) < 0) != (i < j) || (a.Compare(b) == 0) != (i == j) {
				t.Errorf("%v compared to %v is %d", a, b, a.Compare(b))
			}
		}
	}
	if !slices.IsSortedFunc(sorted, TopicPartition.Compare) {
		t.Error("not sorted")
	}
}
