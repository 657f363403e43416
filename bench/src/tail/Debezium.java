import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Reads database "bench" of a MySQL server with Debezium's engine, and drops what it says. Arguments: host, port, a folder for what
 * it remembers. A number on standard input runs it until so many changes of rows came, and stops it; the answer is the seconds from
 * the first to the last of them.
 */
public class Debezium {
    private long rows, begin, end;

    public static void main(String[] args) throws Exception {
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = questions.readLine()) != null;) {
            System.out.println(new Debezium().run(args, Long.parseLong(line)));
        }
        System.exit(0);
    }

    private double run(String[] args, long wanted) throws Exception {
        ExecutorService executor = Executors.newSingleThreadExecutor();
        var engine = DebeziumEngine.create(Json.class).using(properties(args)).notifying(this::take).build();
        executor.execute(engine);
        synchronized (this) {
            while (rows < wanted) wait();
        }
        engine.close();
        executor.shutdown();
        return (end - begin) / 1e9;
    }

    private void take(
            List<ChangeEvent<String, String>> records,
            DebeziumEngine.RecordCommitter<ChangeEvent<String, String>> committer) throws InterruptedException {
        long now = System.nanoTime(), more = 0;
        for (ChangeEvent<String, String> record : records) {
            if (record.destination().startsWith("bench.bench.")) more++;
            committer.markProcessed(record);
        }
        committer.markBatchFinished();
        synchronized (this) {
            if (rows == 0 && more > 0) begin = now;
            rows += more;
            end = System.nanoTime();
            notifyAll();
        }
    }

    private static Properties properties(String[] args) {
        Properties properties = new Properties();
        String[][] all = {
            {"name", "bench"},
            {"connector.class", "io.debezium.connector.mysql.MySqlConnector"},
            {"database.hostname", args[0]},
            {"database.port", args[1]},
            {"database.user", "root"},
            {"database.password", ""},
            {"database.server.id", "4009"},
            {"database.include.list", "bench"},
            {"topic.prefix", "bench"},
            {"snapshot.mode", "no_data"},
            {"offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore"},
            {"offset.storage.file.filename", args[2] + "/offsets"},
            {"offset.flush.interval.ms", "1000"},
            {"schema.history.internal", "io.debezium.storage.file.history.FileSchemaHistory"},
            {"schema.history.internal.file.filename", args[2] + "/history"},
            // Larger than its defaults, which are for little memory.
            {"max.queue.size", "65536"},
            {"max.batch.size", "16384"},
        };
        for (String[] pair : all) properties.setProperty(pair[0], pair[1]);
        return properties;
    }
}
