import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/**
 * A Kafka Streams application with exactly_once_v2: it counts the words of topic lines into topic counts, and joins topic orders with the
 * table in topic users into topic joined. Arguments: bootstrap servers, directory of the state stores.
 */
public class Application {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("application.id", "application");
        p.put("bootstrap.servers", args[0]);
        p.put("state.dir", args[1]);
        p.put("processing.guarantee", "exactly_once_v2");
        p.put("commit.interval.ms", "100");
        p.put("replication.factor", "3");
        p.put("num.standby.replicas", "0");
        p.put("default.key.serde", Serdes.StringSerde.class);
        p.put("default.value.serde", Serdes.StringSerde.class);
        p.put("consumer.session.timeout.ms", "6000");
        p.put("consumer.heartbeat.interval.ms", "300");
        p.put("consumer.auto.offset.reset", "earliest");
        StreamsBuilder b = new StreamsBuilder();
        b.<String, String>stream("lines").groupBy((k, v) -> v).count().toStream().mapValues(n -> n.toString()).to("counts");
        KTable<String, String> users = b.table("users");
        b.<String, String>stream("orders").join(users, (order, user) -> order + " of " + user).to("joined");
        KafkaStreams streams = new KafkaStreams(b.build(), p);
        streams.setUncaughtExceptionHandler(e -> StreamsUncaughtExceptionHandlerResponse());
        streams.setStateListener((now, before) -> System.out.println("state " + now));
        streams.start();
        System.in.read(); // the test sends a line to end it
        streams.close(Duration.ofSeconds(20));
    }

    static org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse StreamsUncaughtExceptionHandlerResponse() {
        return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
    }
}
