package replication

import (
	"slices"
	"time"

	"kraft/raftmeta"
	"kraft/raftmeta/configs"
	"kraft/storage"
	"kraft/wire/record"
)

// replicationSettings are the settings of a topic that replication reads.
type replicationSettings struct {
	MinInSync   int      `kafka:"min.insync.replicas"`
	SlowSending []string `kafka:"leader.replication.throttled.replicas"`
	SlowTaking  []string `kafka:"follower.replication.throttled.replicas"`
}

// logSettings are the settings of a topic that its logs go by.
type logSettings struct {
	SegmentBytes    int64         `kafka:"segment.bytes"`
	SegmentAge      time.Duration `kafka:"segment.ms"`
	SegmentJitter   time.Duration `kafka:"segment.jitter.ms"`
	IndexInterval   int64         `kafka:"index.interval.bytes"`
	IndexBytes      int64         `kafka:"segment.index.bytes"`
	RetentionBytes  int64         `kafka:"retention.bytes"`
	RetentionAge    time.Duration `kafka:"retention.ms"`
	DeleteDelay     time.Duration `kafka:"file.delete.delay.ms"`
	MaxMessage      int           `kafka:"max.message.bytes"`
	MaxDecompressed int64         `kafka:"max.decompressed.message.bytes"`
	Policy          []string      `kafka:"cleanup.policy"`
	TimestampType   string        `kafka:"message.timestamp.type"`
	TimestampBefore time.Duration `kafka:"message.timestamp.before.max.ms"`
	TimestampAfter  time.Duration `kafka:"message.timestamp.after.max.ms"`
	MinLag          time.Duration `kafka:"min.compaction.lag.ms"`
	MaxLag          time.Duration `kafka:"max.compaction.lag.ms"`
	DeleteRetention time.Duration `kafka:"delete.retention.ms"`
	MinDirtyRatio   float64       `kafka:"min.cleanable.dirty.ratio"`
	FlushMessages   int64         `kafka:"flush.messages"`
	FlushAge        time.Duration `kafka:"flush.ms"`
	Compression     string        `kafka:"compression.type"`
	GzipLevel       int           `kafka:"compression.gzip.level"`
	LZ4Level        int           `kafka:"compression.lz4.level"`
	ZstdLevel       int           `kafka:"compression.zstd.level"`
}

// brokerLogSettings are the settings of a broker that all its logs go by.
type brokerLogSettings struct {
	ProducerExpiration time.Duration `kafka:"producer.id.expiration.ms"`
	CheckCompressed    bool          `kafka:"log.check.compressed.records"`
}

// logConfig reads a topic's settings in force. All values were checked when they were set.
func logConfig(l configs.Layers) *storage.LogConfig {
	var s logSettings
	l.ReadTopic(&s)
	var of brokerLogSettings
	l.ReadBroker(&of)
	c := &storage.LogConfig{
		SegmentBytes: s.SegmentBytes, SegmentAge: s.SegmentAge, SegmentJitter: s.SegmentJitter, IndexInterval: s.IndexInterval, IndexBytes: s.IndexBytes,
		RetentionBytes: s.RetentionBytes, RetentionAge: s.RetentionAge, DeleteDelay: s.DeleteDelay,
		MaxMessageBytes: s.MaxMessage, MaxDecompressed: int(min(s.MaxDecompressed, record.MaxRecordsBytes)),
		Delete: slices.Contains(s.Policy, "delete"), Compact: slices.Contains(s.Policy, "compact"),
		LogAppendTime: s.TimestampType == "LogAppendTime", TimestampBefore: s.TimestampBefore, TimestampAfter: s.TimestampAfter,
		ProducerExpiration: of.ProducerExpiration, CodecLevel: record.DefaultLevel,
		MinCompactionLag: s.MinLag, MaxCompactionLag: s.MaxLag, DeleteRetention: s.DeleteRetention, MinDirtyRatio: s.MinDirtyRatio,
		FlushMessages: s.FlushMessages, FlushAge: s.FlushAge, TrustCompressed: !of.CheckCompressed,
	}
	if c.KeepCodec = s.Compression == "producer"; !c.KeepCodec {
		c.Codec, _ = record.ParseCodec(s.Compression)
		if level, ok := map[string]int{"gzip": s.GzipLevel, "lz4": s.LZ4Level, "zstd": s.ZstdLevel}[s.Compression]; ok {
			c.CodecLevel = level
		}
	}
	return c
}

// BackgroundConfig returns the settings for compaction and for moves between directories.
func BackgroundConfig(s *raftmeta.Settings) (c storage.CleanerConfig, moveBytes int64) {
	return storage.CleanerConfig{Threads: s.CleanerThreads, Memory: s.CleanerMemory, Backoff: s.CleanerBackoff, ReadWrite: s.CleanerIOBytes}, s.MoveBytes
}
