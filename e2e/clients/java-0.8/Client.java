import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.*;
import kafka.api.FetchRequest;
import kafka.api.FetchRequestBuilder;
import kafka.api.PartitionOffsetRequestInfo;
import kafka.common.OffsetAndMetadata;
import kafka.common.OffsetMetadataAndError;
import kafka.common.TopicAndPartition;
import kafka.javaapi.*;
import kafka.javaapi.consumer.SimpleConsumer;
import kafka.javaapi.producer.Producer;
import kafka.message.MessageAndOffset;
import kafka.producer.KeyedMessage;
import kafka.producer.ProducerConfig;

/** The Scala client of Kafka 0.8.2.2: message format 0, SyncProducer and SimpleConsumer. */
public class Client {
    static final String ID = "old";

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "produce": produce(args[1], args[2], args[3], Integer.parseInt(args[4]), Integer.parseInt(args[5])); break;
            case "read": read(args[1], args[2], Integer.parseInt(args[3]), args[4]); break;
            default: throw new IllegalArgumentException(args[0]);
        }
        System.exit(0);
    }

    static void produce(String addr, String topic, String codec, int from, int to) {
        Properties p = new Properties();
        p.put("metadata.broker.list", addr);
        p.put("compression.codec", codec);
        p.put("request.required.acks", "-1");
        p.put("serializer.class", "kafka.serializer.StringEncoder");
        Producer<String, String> producer = new Producer<>(new ProducerConfig(p));
        for (int i = from; i < to; ) {
            List<KeyedMessage<String, String>> batch = new ArrayList<>();
            for (int end = Math.min(to, i + 100); i < end; i++)
                batch.add(new KeyedMessage<>(topic, "key-" + i, "value-" + i + "-" + "x".repeat(50)));
            producer.send(batch);
        }
        producer.close();
    }

    /** Prints every record of all partitions, and commits and reads back an offset for each. */
    static void read(String addr, String topic, int partitions, String group) throws Exception {
        String[] hp = addr.split(":");
        SimpleConsumer c = new SimpleConsumer(hp[0], Integer.parseInt(hp[1]), 10_000, 64 * 1024, ID);
        for (int partition = 0; partition < partitions; partition++) {
            TopicAndPartition tp = new TopicAndPartition(topic, partition);
            long offset = offset(c, tp, kafka.api.OffsetRequest.EarliestTime());
            long end = offset(c, tp, kafka.api.OffsetRequest.LatestTime());
            int size = 100; // less than a message: the client must be able to learn that it has to ask for more
            while (offset < end) {
                FetchRequest req = new FetchRequestBuilder().clientId(ID).addFetch(topic, partition, offset, size).maxWait(100).minBytes(1).build();
                FetchResponse resp = c.fetch(req);
                if (resp.hasError()) throw new RuntimeException("fetch: error " + resp.errorCode(topic, partition));
                boolean any = false;
                for (MessageAndOffset m : resp.messageSet(topic, partition)) {
                    if (m.offset() < offset) continue;
                    System.out.println("record " + partition + " " + m.offset() + " " + text(m.message().key()) + " " + text(m.message().payload()) + " -");
                    offset = m.nextOffset();
                    any = true;
                }
                if (!any) size *= 2;
            }
            Map<TopicAndPartition, OffsetAndMetadata> commit = new HashMap<>();
            commit.put(tp, new OffsetAndMetadata(end, "by " + ID, -1));
            OffsetCommitResponse done = c.commitOffsets(new OffsetCommitRequest(group, commit, 1, ID, (short) 0));
            if (done.hasError()) throw new RuntimeException("commit: " + done.errors());
            OffsetFetchResponse fetched = c.fetchOffsets(new OffsetFetchRequest(group, Arrays.asList(tp), (short) 0, 2, ID));
            OffsetMetadataAndError o = fetched.offsets().get(tp);
            System.out.println("committed " + partition + " " + o.offset() + " " + o.metadata());
        }
        c.close();
    }

    static long offset(SimpleConsumer c, TopicAndPartition tp, long time) {
        Map<TopicAndPartition, PartitionOffsetRequestInfo> ask = new HashMap<>();
        ask.put(tp, new PartitionOffsetRequestInfo(time, 1));
        return c.getOffsetsBefore(new OffsetRequest(ask, kafka.api.OffsetRequest.CurrentVersion(), ID)).offsets(tp.topic(), tp.partition())[0];
    }

    static String text(ByteBuffer b) {
        byte[] bytes = new byte[b.remaining()];
        b.get(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
