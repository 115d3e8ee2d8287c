// Package ident has the identities by which Kafka's protocol, directories and tools tell partitions apart.
package ident

import (
	"cmp"
	"strconv"
	"strings"
)

// TopicPartition is a partition by its topic's name (Kafka's class of the same name).
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is the name of the partition's directory, such as my-topic-3.
func (tp TopicPartition) String() string { return tp.Topic + "-" + strconv.Itoa(int(tp.Partition)) }

// Compare orders partitions by topic, then by number.
func (tp TopicPartition) Compare(other TopicPartition) int {
	return cmp.Or(strings.Compare(tp.Topic, other.Topic), cmp.Compare(tp.Partition, other.Partition))
}

// ParseTopicPartition reads what String wrote. Topics' names may have hyphens, too.
func ParseTopicPartition(name string) (tp TopicPartition, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 1 {
		return TopicPartition{}, false
	}
	p, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || p < 0 {
		return TopicPartition{}, false
	}
	return TopicPartition{name[:i], int32(p)}, true
}

// TopicIDPartition is a partition by its topic's id, which no other topic ever has (Kafka's TopicIdPartition).
type TopicIDPartition struct {
	ID        [16]byte
	Partition int32
}
