package image

import (
	"encoding/base64"
	"slices"
)

// UUID is a topic, directory or incarnation id.
type UUID = [16]byte

// EncodeUUID returns Kafka's text form of an id: 22 characters of unpadded base64url.
func EncodeUUID(id UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// internalTopics are the topics that only coordinators write.
var internalTopics = []string{"__consumer_offsets", "__transaction_state", "__share_group_state"}

// IsInternal reports whether only coordinators may write to a topic.
func IsInternal(topic string) bool { return slices.Contains(internalTopics, topic) }
