package replication

import (
	"slices"
	"strconv"
	"time"

	"kraft/raftmeta/configs"
	"kraft/storage"
	"kraft/wire/record"
)

// logConfig reads a topic's settings in force. All values were checked when they were set.
func logConfig(l configs.Layers) *storage.LogConfig {
	integer := func(key string) int64 { return parseInt(l.Effective(key)) }
	duration := func(key string) time.Duration { return configs.Millis(integer(key)) }
	policy := configs.SplitList(l.Effective("cleanup.policy"))
	c := &storage.LogConfig{
		SegmentBytes: integer("segment.bytes"), SegmentAge: duration("segment.ms"), SegmentJitter: duration("segment.jitter.ms"),
		IndexInterval: integer("index.interval.bytes"), IndexBytes: integer("segment.index.bytes"),
		RetentionBytes: integer("retention.bytes"), RetentionAge: duration("retention.ms"), DeleteDelay: duration("file.delete.delay.ms"),
		MaxMessageBytes: int(integer("max.message.bytes")),
		MaxDecompressed: int(min(integer("max.decompressed.message.bytes"), record.MaxRecordsBytes)),
		Delete:          slices.Contains(policy, "delete"), Compact: slices.Contains(policy, "compact"),
		LogAppendTime:   l.Effective("message.timestamp.type") == "LogAppendTime",
		TimestampBefore: duration("message.timestamp.before.max.ms"), TimestampAfter: duration("message.timestamp.after.max.ms"),
		ProducerExpiration: configs.Millis(l.EffectiveInt("producer.id.expiration.ms")),
		CodecLevel:         record.DefaultLevel,
		MinCompactionLag:   duration("min.compaction.lag.ms"), MaxCompactionLag: duration("max.compaction.lag.ms"),
		DeleteRetention: duration("delete.retention.ms"), FlushMessages: integer("flush.messages"), FlushAge: duration("flush.ms"),
		TrustCompressed: l.EffectiveBroker("log.check.compressed.records") == "false",
	}
	c.MinDirtyRatio, _ = strconv.ParseFloat(l.Effective("min.cleanable.dirty.ratio"), 64)
	name := l.Effective("compression.type")
	if c.KeepCodec = name == "producer"; !c.KeepCodec {
		c.Codec, _ = record.ParseCodec(name)
		if level := "compression." + name + ".level"; configs.Topic[level] != nil {
			c.CodecLevel = int(integer(level))
		}
	}
	return c
}

// BackgroundConfig reads the broker's settings for compaction and for moves between directories.
func BackgroundConfig(l configs.Layers) (c storage.CleanerConfig, moveBytes int64) {
	c = storage.CleanerConfig{
		Threads: int(l.EffectiveInt("log.cleaner.threads")), Memory: l.EffectiveInt("log.cleaner.dedupe.buffer.size"),
		Backoff: configs.Millis(l.EffectiveInt("log.cleaner.backoff.ms")),
	}
	c.ReadWrite, _ = strconv.ParseFloat(l.EffectiveBroker("log.cleaner.io.max.bytes.per.second"), 64)
	return c, l.EffectiveInt("replica.alter.log.dirs.io.max.bytes.per.second")
}

func parseInt(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
