import java.time.Duration;
import java.util.*;
import java.util.concurrent.Callable;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Calls what web consoles call, one after the other: topics, partitions, a group's offsets, records. */
public class Console {
    /** Asks again until it is so: another broker may be asked, who hears of it later. */
    static void until(Callable<Boolean> so) throws Exception {
        for (long end = System.nanoTime() + 10_000_000_000L; !so.call(); ) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("not so within 10 s");
            }
        }
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "client.id", "console");
        String topic = args[1], group = args[2];
        try (Admin admin = Admin.create(settings)) {
            System.out.println("nodes " + admin.describeCluster().nodes().get().size());
            admin.createTopics(List.of(new NewTopic("console", 1, (short) 3))).all().get();
            until(() -> admin.listTopics().names().get().contains("console"));
            System.out.println("topics " + new TreeSet<>(admin.listTopics().names().get()));
            admin.createPartitions(Map.of("console", NewPartitions.increaseTo(3))).all().get();
            until(() -> admin.describeTopics(List.of("console")).allTopicNames().get().get("console").partitions().size() == 3);
            System.out.println("console has 3 partitions");
            admin.deleteTopics(List.of("console")).all().get();
            System.out.println("groups " + admin.listGroups().all().get().stream().map(GroupListing::groupId).collect(Collectors.toCollection(TreeSet::new)));
            System.out.println(group + " is " + admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState());
            TopicPartition partition = new TopicPartition(topic, 0);
            System.out.println(group + " is at " + admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition).offset());
            admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(0))).all().get();
            System.out.println("reset to " + admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition).offset());
        }
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, 1);
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(10))) {
                System.out.println("at " + record.offset() + " is " + record.value());
            }
        }
    }
}
