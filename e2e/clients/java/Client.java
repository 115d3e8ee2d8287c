import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/** Apache Kafka's own Java client, driven by the tests. The commands are described in drivers.go. */
public class Client {
    static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "produce" -> produce(args[1], args[2], args[3], Integer.parseInt(args[4]), Integer.parseInt(args[5]));
            case "stream" -> stream(args[1], args[2], Integer.parseInt(args[3]), args[4], args.length > 5 ? args[5] : null);
            case "consume" -> consume(args[1], args[2], args[3]);
            case "copy" -> copy(args[1], args[2], args[3], args[4], args[5]);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static void produce(String addr, String topic, String codec, int from, int to) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
        try (Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            for (int i = from; i < to; i++) {
                ProducerRecord<String, String> r = new ProducerRecord<>(topic, "key-" + i, "value-" + i + "-" + "x".repeat(50));
                r.headers().add("i", Integer.toString(i).getBytes(StandardCharsets.UTF_8));
                sent.add(producer.send(r));
            }
            for (var f : sent) f.get();
        }
    }

    static void stream(String addr, String topic, int partitions, String name, String plainAcks) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        if (plainAcks != null) {
            p.put("enable.idempotence", "false");
            p.put("acks", plainAcks);
            p.put("max.in.flight.requests.per.connection", "1");
        }
        try (Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; System.in.available() == 0; i++) { // the test sends a line to end it
                String value = name + "-" + i;
                out.println("sent " + value + " " + i % partitions);
                producer.send(new ProducerRecord<>(topic, i % partitions, "key-" + i, value), (at, e) ->
                    out.println(e == null ? "ack " + value + " " + at.offset() : "error " + value + " " + e));
                Thread.sleep(5);
            }
        }
        out.println("closed");
    }

    static void consume(String addr, String topic, String group) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("heartbeat.interval.ms", "300");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                public void onPartitionsRevoked(Collection<TopicPartition> tps) { consumer.commitSync(); }
                public void onPartitionsAssigned(Collection<TopicPartition> tps) {
                    out.println("assigned " + tps.stream().map(t -> "" + t.partition()).collect(Collectors.joining(",")));
                }
            });
            while (System.in.available() == 0) { // the test sends a line to end it
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100))) {
                    Header h = r.headers().lastHeader("i");
                    out.println("record " + r.partition() + " " + r.offset() + " " + r.key() + " " + r.value() + " "
                        + (h == null ? "-" : new String(h.value(), StandardCharsets.UTF_8)));
                }
            }
            consumer.commitSync();
        }
        out.println("closed");
    }

    static void copy(String addr, String in, String to, String group, String id) throws Exception {
        Properties c = new Properties();
        c.put("bootstrap.servers", addr);
        c.put("group.id", group);
        c.put("auto.offset.reset", "earliest");
        c.put("enable.auto.commit", "false");
        c.put("isolation.level", "read_committed");
        c.put("session.timeout.ms", "6000");
        c.put("heartbeat.interval.ms", "300");
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("transactional.id", id);
        p.put("transaction.timeout.ms", "10000");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer());
             Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            consumer.subscribe(List.of(in));
            while (System.in.available() == 0) { // the test sends a line to end it
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty()) continue;
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> r : records) {
                    producer.send(new ProducerRecord<>(to, r.key(), r.value()));
                    offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                producer.commitTransaction(); // an error ends the program, and the test starts the next one
                out.println("copied " + records.count());
            }
        }
        out.println("closed");
    }
}
