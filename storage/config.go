package storage

import (
	"time"

	"kraft/wire/record"
)

// LogConfig is what a log needs to know of its topic's configuration. It is immutable; SetConfig
// replaces it whole. A limit of -1 means none.
type LogConfig struct {
	SegmentBytes       int64         // segment.bytes
	SegmentAge         time.Duration // segment.ms
	SegmentJitter      time.Duration // segment.jitter.ms
	IndexInterval      int64         // index.interval.bytes
	IndexBytes         int64         // segment.index.bytes
	RetentionBytes     int64         // retention.bytes
	RetentionAge       time.Duration // retention.ms
	DeleteDelay        time.Duration // file.delete.delay.ms
	MaxMessageBytes    int           // max.message.bytes
	MaxDecompressed    int           // bytes a batch may decompress to where it must be opened
	Delete, Compact    bool          // cleanup.policy
	LogAppendTime      bool          // message.timestamp.type
	TimestampBefore    time.Duration // message.timestamp.before.max.ms
	TimestampAfter     time.Duration // message.timestamp.after.max.ms
	KeepCodec          bool          // compression.type=producer
	Codec              record.Codec  // compression.type otherwise
	CodecLevel         int           // compression.*.level
	ProducerExpiration time.Duration // producer.id.expiration.ms
	MinDirtyRatio      float64       // min.cleanable.dirty.ratio
	MinCompactionLag   time.Duration // min.compaction.lag.ms
	MaxCompactionLag   time.Duration // max.compaction.lag.ms
	DeleteRetention    time.Duration // delete.retention.ms
	FlushMessages      int64         // flush.messages
	FlushAge           time.Duration // flush.ms
	TrustCompressed    bool          // log.check.compressed.records=false
}

// DefaultLogConfig holds Apache Kafka's defaults.
func DefaultLogConfig() *LogConfig {
	return &LogConfig{
		SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour, IndexInterval: 4096, IndexBytes: 10 << 20,
		RetentionBytes: -1, RetentionAge: 7 * 24 * time.Hour, DeleteDelay: time.Minute,
		MaxMessageBytes: 1048588, MaxDecompressed: record.MaxRecordsBytes, Delete: true,
		TimestampBefore: 1<<63 - 1, TimestampAfter: time.Hour, KeepCodec: true, ProducerExpiration: 24 * time.Hour,
		MinDirtyRatio: 0.5, MaxCompactionLag: 1<<63 - 1, DeleteRetention: 24 * time.Hour, FlushMessages: 1<<63 - 1, FlushAge: 1<<63 - 1,
	}
}
