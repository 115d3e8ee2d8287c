import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/** The Java client of Kafka 0.10.0.1: message format 1, no ApiVersions, no headers. */
public class Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("produce")) produce(args[1], args[2], args[3], Integer.parseInt(args[4]), Integer.parseInt(args[5]));
        else consume(args[1], args[2], args[3]);
    }

    static void produce(String addr, String topic, String codec, int from, int to) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("compression.type", codec);
        p.put("acks", "all");
        p.put("linger.ms", "5");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            for (int i = from; i < to; i++)
                sent.add(producer.send(new ProducerRecord<>(topic, "key-" + i, "value-" + i + "-" + "x".repeat(50))));
            for (Future<RecordMetadata> f : sent) f.get();
        }
    }

    static void consume(String addr, String topic, String group) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("heartbeat.interval.ms", "300");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(Arrays.asList(topic), new ConsumerRebalanceListener() {
                public void onPartitionsRevoked(Collection<TopicPartition> tps) { consumer.commitSync(); }
                public void onPartitionsAssigned(Collection<TopicPartition> tps) {
                    StringJoiner s = new StringJoiner(",");
                    for (TopicPartition tp : tps) s.add("" + tp.partition());
                    System.out.println("assigned " + s);
                }
            });
            while (System.in.available() == 0)
                for (ConsumerRecord<String, String> r : consumer.poll(100))
                    System.out.println("record " + r.partition() + " " + r.offset() + " " + r.key() + " " + r.value() + " -");
            consumer.commitSync();
        }
        System.out.println("closed");
    }
}
