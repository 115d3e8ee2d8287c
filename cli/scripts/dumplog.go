package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kraft/storage/inspect"
	"kraft/storage/logfile"
	"kraft/wire/record"
)

var dumpLogScript = script{
	about: "print what is in files of logs: segments, indexes, producers' state",
	options: slices.Concat(valued("files", "max-message-size", "max-bytes"),
		flags("print-data-log", "deep-iteration", "skip-record-metadata", "verify-index-only", "index-sanity-check", "offsets-decoder", "transaction-log-decoder", "cluster-metadata-decoder"),
		[]option{{name: "value-decoder-class"}, {name: "key-decoder-class"}}),
	run: dumpLog,
}

func dumpLog(c *call) error {
	files := strings.FieldsFunc(c.get("files", ""), func(r rune) bool { return r == ',' })
	if len(files) == 0 {
		return errors.New("Missing required argument \"[files]\"")
	}
	if c.has("cluster-metadata-decoder") {
		return errors.New("the cluster's metadata is in no log of Kafka's format in kraft: see kafka-metadata-quorum and kraft quorum status")
	}
	dumps := map[string]func(*call, string) error{
		logfile.LogSuffix: dumpSegment, logfile.IndexSuffix: dumpOffsets, logfile.TimeIndexSuffix: dumpTimes,
		logfile.SnapshotSuffix: dumpProducers, logfile.TxnIndexSuffix: dumpTransactions,
	}
	for _, path := range files {
		fmt.Fprintf(c.out, "Dumping %s\n", path)
		dump := dumps[filepath.Ext(path)]
		if dump == nil {
			fmt.Fprintf(c.errOut, "Ignoring unknown file %s\n", path)
			continue
		}
		if err := dump(c, path); err != nil {
			return err
		}
	}
	return nil
}

// decoder makes a record's key and value text.
type decoder func(key, value []byte) (string, string)

func plainText(key, value []byte) (string, string) {
	return strings.ToValidUTF8(string(key), "\uFFFD"), strings.ToValidUTF8(string(value), "\uFFFD")
}

func dumpSegment(c *call, path string) error {
	base, err := inspect.BaseOffset(path)
	if err != nil {
		return err
	}
	limit, err := c.number("max-bytes", 1<<62)
	if err != nil {
		return err
	}
	decode, contents := decoder(plainText), c.has("print-data-log")
	for option, d := range map[string]decoder{"offsets-decoder": groupRecordText, "transaction-log-decoder": transactionRecordText} {
		if c.has(option) {
			decode, contents = d, true
		}
	}
	if class := c.get("value-decoder-class", ""); class != "" && !strings.HasSuffix(class, "StringDecoder") {
		return fmt.Errorf("%s is a Java class, which kraft does not load", class)
	}
	fmt.Fprintf(c.out, "Log starting offset: %d\n", base)
	last := int64(-1)
	var gaps [][2]int64
	stop := errors.New("enough")
	end, size, err := inspect.WalkSegment(path, func(b record.Batch, at int64) error {
		if at+int64(b.Size()) > limit {
			return stop
		}
		c.batchLine(b, at)
		if !contents && !c.has("deep-iteration") {
			return nil
		}
		records, err := b.Records(record.MaxRecordsBytes)
		if err != nil { // the batch's line has said that it is not valid
			return nil //nolint:nilerr
		}
		for i := range records {
			r := &records[i]
			if last >= 0 && r.Offset != last+1 {
				gaps = append(gaps, [2]int64{last, r.Offset})
			}
			last = r.Offset
			c.recordLine(b, r, i, contents, decode)
		}
		return nil
	})
	if errors.Is(err, stop) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if end < size {
		fmt.Fprintf(c.out, "Found %d invalid bytes at the end of %s\n", size-end, filepath.Base(path))
	}
	if gaps != nil {
		fmt.Fprintf(c.errOut, "Non-consecutive offsets in %s\n", path)
		for _, g := range gaps {
			fmt.Fprintf(c.errOut, "  %d is followed by %d\n", g[0], g[1])
		}
	}
	return nil
}

// optional is a Java OptionalLong of what is negative if there is none.
func optional(n int64) string {
	if n < 0 {
		return "OptionalLong.empty"
	}
	return fmt.Sprintf("OptionalLong[%d]", n)
}

func timestampType(b record.Batch) string {
	if b.HasLogAppendTime() {
		return "LogAppendTime"
	}
	return "CreateTime"
}

func (c *call) batchLine(b record.Batch, at int64) {
	horizon := int64(-1)
	if b.HasDeleteHorizon() {
		horizon = b.BaseTimestamp()
	}
	fmt.Fprintf(c.out, "baseOffset: %d lastOffset: %d count: %d baseSequence: %d lastSequence: %d producerId: %d producerEpoch: %d partitionLeaderEpoch: %d isTransactional: %t isControl: %t deleteHorizonMs: %s position: %d %s: %d size: %d magic: 2 compresscodec: %s crc: %d isvalid: %t\n",
		b.BaseOffset(), b.LastOffset(), b.Count(), b.BaseSequence(), lastSequence(b), b.ProducerID(), b.ProducerEpoch(), b.LeaderEpoch(), b.IsTransactional(), b.IsControl(),
		optional(horizon), at, timestampType(b), b.MaxTimestamp(), b.Size(), b.Codec(), b.CRC(), b.Check() == nil)
}

func lastSequence(b record.Batch) int32 {
	if b.BaseSequence() < 0 {
		return -1
	}
	return b.LastSequence()
}

func (c *call) recordLine(b record.Batch, r *record.Record, nth int, contents bool, decode decoder) {
	line := "|"
	size := func(v []byte) int {
		if v == nil {
			return -1
		}
		return len(v)
	}
	if !c.has("skip-record-metadata") {
		sequence := b.BaseSequence()
		if sequence >= 0 {
			sequence = record.AddSequence(sequence, int32(r.Offset-b.BaseOffset()))
		}
		var keys []string
		for _, h := range r.Headers {
			keys = append(keys, h.Key)
		}
		line += fmt.Sprintf(" offset: %d %s: %d keySize: %d valueSize: %d sequence: %d headerKeys: [%s]", r.Offset, timestampType(b), r.Timestamp, size(r.Key), size(r.Value), sequence, strings.Join(keys, ","))
		if kind, epoch, ok := b.Marker(); ok && nth == 0 {
			line += fmt.Sprintf(" endTxnMarker: %s coordinatorEpoch: %d", map[int16]string{0: "ABORT", 1: "COMMIT"}[kind], epoch)
		}
	}
	if contents && !b.IsControl() {
		key, value := decode(r.Key, r.Value)
		if r.Key != nil {
			line += " key: " + key
		}
		if r.Value != nil {
			line += " payload: " + value
		}
	}
	if line == "|" { // a marker, of which nothing else is wanted
		line = ""
	}
	fmt.Fprintln(c.out, line)
}

// dumpOffsets prints an offset index, unless it is only to be checked: each entry has to point to the batch that has its offset.
func dumpOffsets(c *call, path string) error {
	entries, err := inspect.ReadOffsetIndex(path)
	if err != nil {
		return err
	}
	if c.has("index-sanity-check") {
		fmt.Fprintf(c.out, "%s passed sanity check.\n", path)
		return nil
	}
	lasts := map[int64]int64{}
	segment := strings.TrimSuffix(path, logfile.IndexSuffix) + logfile.LogSuffix
	if _, _, err := inspect.WalkSegment(segment, func(b record.Batch, at int64) error { lasts[at] = b.LastOffset(); return nil }); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var wrong []string
	for _, e := range entries {
		last, ok := lasts[e.Position]
		if !ok {
			last = -1
		}
		if last != e.Offset {
			wrong = append(wrong, fmt.Sprintf("  Index offset: %d, log offset: %d", e.Offset, last))
		}
		if !c.has("verify-index-only") {
			fmt.Fprintf(c.out, "offset: %d position: %d\n", e.Offset, e.Position)
		}
	}
	if wrong != nil {
		fmt.Fprintf(c.errOut, "Mismatches in :%s\n%s\n", path, strings.Join(wrong, "\n"))
	}
	return nil
}

func dumpTimes(c *call, path string) error {
	entries, err := inspect.ReadTimeIndex(path)
	if err != nil {
		return err
	}
	if c.has("index-sanity-check") {
		fmt.Fprintf(c.out, "%s passed sanity check.\n", path)
		return nil
	}
	times := map[int64]int64{} // of batches, by their last offsets
	segment := strings.TrimSuffix(path, logfile.TimeIndexSuffix) + logfile.LogSuffix
	if _, _, err := inspect.WalkSegment(segment, func(b record.Batch, _ int64) error { times[b.LastOffset()] = b.MaxTimestamp(); return nil }); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var wrong []string
	for _, e := range entries {
		if ms, ok := times[e.Offset]; ok && ms != e.Timestamp {
			wrong = append(wrong, fmt.Sprintf("  Index timestamp: %d, log timestamp: %d", e.Timestamp, ms))
		}
		if !c.has("verify-index-only") {
			fmt.Fprintf(c.out, "timestamp: %d offset: %d\n", e.Timestamp, e.Offset)
		}
	}
	if wrong != nil {
		fmt.Fprintf(c.errOut, "Found timestamp mismatch in :%s\n%s\n", path, strings.Join(wrong, "\n"))
	}
	return nil
}

func dumpProducers(c *call, path string) error {
	states, err := inspect.ReadProducers(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range states {
		fmt.Fprintf(c.out, "producerId: %d producerEpoch: %d coordinatorEpoch: %d currentTxnFirstOffset: %s lastTimestamp: %d ", s.ID, s.Epoch, s.CoordinatorEpoch, optional(s.TxnFirst), s.Timestamp)
		if s.LastOffset >= 0 {
			fmt.Fprintf(c.out, "firstSequence: %d lastSequence: %d lastOffset: %d offsetDelta: %d timestamp: %d", s.FirstSequence, s.LastSequence, s.LastOffset, s.OffsetDelta, s.Timestamp)
		}
		fmt.Fprintln(c.out)
	}
	return nil
}

func dumpTransactions(c *call, path string) error {
	list, err := inspect.ReadTransactionIndex(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, t := range list {
		fmt.Fprintf(c.out, "version: 0 producerId: %d firstOffset: %d lastOffset: %d lastStableOffset: %d\n", t.ProducerID, t.First, t.Last, t.LastStable)
	}
	return err
}
