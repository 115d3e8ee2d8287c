import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.source.ExactlyOnceSupport;
import org.apache.kafka.connect.source.SourceConnector;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;

/** A source of numbers: task i writes 0, 1, 2, ... up to "count", with the key i, and remembers as its offset what comes next. */
public class Numbers extends SourceConnector {
    private Map<String, String> config;

    @Override public void start(Map<String, String> props) { config = props; }
    @Override public void stop() { }
    @Override public Class<? extends Task> taskClass() { return Source.class; }
    @Override public ConfigDef config() { return new ConfigDef(); }
    @Override public String version() { return "1"; }
    @Override public ExactlyOnceSupport exactlyOnceSupport(Map<String, String> props) { return ExactlyOnceSupport.SUPPORTED; }

    @Override public List<Map<String, String>> taskConfigs(int tasks) {
        List<Map<String, String>> all = new ArrayList<>();
        for (int i = 0; i < tasks; i++)
            all.add(Map.of("task", "" + i, "topic", config.get("topic"), "count", config.get("count")));
        return all;
    }

    public static class Source extends SourceTask {
        private String task, topic;
        private long count, next;

        @Override public String version() { return "1"; }
        @Override public void stop() { }

        @Override public void start(Map<String, String> props) {
            task = props.get("task");
            topic = props.get("topic");
            count = Long.parseLong(props.get("count"));
            Map<String, Object> offset = context.offsetStorageReader().offset(Map.of("task", task));
            next = offset == null ? 0 : (Long) offset.get("next");
        }

        @Override public List<SourceRecord> poll() throws InterruptedException {
            Thread.sleep(10); // the pace of its source
            List<SourceRecord> out = new ArrayList<>();
            for (; next < count && out.size() < 20; next++)
                out.add(new SourceRecord(Map.of("task", task), Map.of("next", next + 1), topic, null, Schema.STRING_SCHEMA, task, Schema.STRING_SCHEMA, "" + next));
            return out;
        }
    }
}
