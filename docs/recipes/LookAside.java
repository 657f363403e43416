import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Look-aside with leases, hints, marks and tokens, in plain meta commands. Copy it, and change what you like.
 *
 * <p>It is one connection to one node, and belongs to one thread; your usual client says which node has a key. client.md of the
 * documentation says why each step is there.
 */
public final class LookAside implements AutoCloseable {
    /** Client flags of an empty value: the database has none. */
    private static final long ABSENT = 1;
    /** The token of a write whose version could not be told. */
    public static final long PRIMARY = -1;

    private static final Pattern EPOCH =
            Pattern.compile("\"epoch\":(\\d+),\"dialect\":\"[a-z]+\",\"origin\":\"([^\"]*)\",\"server_id\":\\d+,\"first\":(\\d+)");

    private final Socket socket;
    private final InputStream in;
    private final URI epochs;
    private final int ttlS;

    /** {@code epochs} is /epochs of a `mcsqueal run` or `mcsqueal invalidator`. */
    public LookAside(String host, int port, URI epochs, int ttlS) throws IOException {
        this.socket = new Socket(host, port);
        this.socket.setSoTimeout(1000);
        this.in = new BufferedInputStream(socket.getInputStream());
        this.epochs = epochs;
        this.ttlS = ttlS;
    }

    /** Reads the database, the primary if it is told so, in a snapshot that it opens itself. Null: there is none. */
    public interface Fill {
        byte[] read(boolean primary) throws SQLException;
    }

    /** Writes and commits. */
    public interface Transaction {
        void run() throws SQLException;
    }

    private record Answer(List<String> words, byte[] value) {
        boolean has(String flag) {
            return words.subList(1, words.size()).contains(flag);
        }

        long number(char letter) {
            for (String word : words.subList(1, words.size())) {
                if (word.charAt(0) == letter && word.length() > 1) {
                    return Long.parseUnsignedLong(word.substring(1));
                }
            }
            return 0;
        }
    }

    private Answer ask(String line, byte[] data) throws IOException {
        ByteArrayOutputStream request = new ByteArrayOutputStream();
        request.writeBytes((line + "\r\n").getBytes(StandardCharsets.UTF_8));
        if (data != null) {
            request.writeBytes(data);
            request.writeBytes(new byte[] {'\r', '\n'});
        }
        socket.getOutputStream().write(request.toByteArray());
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        for (int next = in.read(); next != '\n'; next = in.read()) {
            if (next < 0) {
                throw new EOFException("the node has closed the connection");
            }
            said.write(next);
        }
        List<String> words = Arrays.asList(said.toString(StandardCharsets.UTF_8).trim().split(" +"));
        if (!words.get(0).equals("VA")) {
            return new Answer(words, null);
        }
        int length = Integer.parseInt(words.get(1));
        return new Answer(words, Arrays.copyOf(in.readNBytes(length + 2), length));
    }

    /**
     * The value, or null if there is none. {@code mayFill} must be false inside a transaction that has written or has read
     * before, and at READ UNCOMMITTED. The token comes from {@link #write}; 0 is none.
     */
    public byte[] get(String key, long token, boolean mayFill, Fill fill) throws Exception {
        if (token == PRIMARY) {
            return fill.read(true);
        }
        String ask = "mg " + key + " v c f G V" + (token == 0 ? "" : Long.toUnsignedString(token)) + (mayFill ? " N10" : "");
        long giveUp = System.nanoTime() + 3_000_000_000L;
        for (long wait = 5; ; wait = Math.min(wait * 2, 100)) {
            Answer answer = ask(ask, null);
            boolean primary = answer.has("G") || token != 0;
            if (answer.words().get(0).equals("EN")) { // Nothing, and no right to store anything.
                return fill.read(primary);
            }
            if (answer.value() == null) {
                throw new IOException(String.join(" ", answer.words()));
            }
            if (answer.has("W") && mayFill) { // Ours to read, and to store.
                return fill(key, answer.number('c'), primary, fill);
            }
            boolean none = answer.number('f') == ABSENT;
            boolean held = answer.has("Z") && answer.value().length == 0 && !none;
            if (!held && !answer.has("X")) {
                return none ? null : answer.value();
            }
            if (System.nanoTime() > giveUp) { // The replicas may be behind: only the holder of the lease is told.
                return fill.read(true);
            }
            Thread.sleep(ThreadLocalRandom.current().nextLong(wait / 2, wait + 1)); // Somebody else reads it.
        }
    }

    private byte[] fill(String key, long lease, boolean primary, Fill fill) throws Exception {
        byte[] value;
        try {
            value = fill.read(primary);
        } catch (Exception failed) {
            ask("md " + key + " C" + Long.toUnsignedString(lease), null); // Somebody else may try.
            throw failed;
        }
        String shown = " C" + Long.toUnsignedString(lease);
        if (value == null) {
            ask("ms " + key + " 0" + shown + " T30 F" + ABSENT, new byte[0]);
        } else {
            ask("ms " + key + " " + value.length + shown + " T" + ttlS, value); // NS: it has changed since. Good for us.
        }
        return value;
    }

    /**
     * Runs a transaction that writes keys and commits; returns the token for its user. Mark at the owners of each key in every
     * cluster of the region; here, that is one node.
     */
    public long write(List<String> keys, Connection connection, Transaction transaction) throws Exception {
        String mark = " m" + Long.toUnsignedString(ThreadLocalRandom.current().nextLong());
        for (String key : keys) { // NS: no mark stands there. The token is as good.
            ask("md " + key + mark, null);
        }
        // If it fails and it is sure that nothing was committed, V0 ends the marks; else they end by themselves.
        transaction.run();
        long version = version(connection);
        if (version != PRIMARY) {
            for (String key : keys) {
                ask("md " + key + mark + " V" + Long.toUnsignedString(version), null);
            }
        }
        return version;
    }

    /** The version of what was committed last on this connection, or a later one. */
    private long version(Connection connection) throws Exception {
        if (connection.getMetaData().getDatabaseProductVersion().contains("MariaDB")) {
            String gtid = ask(connection, "SELECT @@last_gtid", 1);
            int at = gtid.lastIndexOf('-');
            return versionOf(gtid.substring(0, at), Long.parseLong(gtid.substring(at + 1)));
        }
        // A session tracker can say it exactly: SET SESSION session_track_gtids = OWN_GTID.
        String uuid = ask(connection, "SELECT @@server_uuid", 1);
        for (String part : ask(connection, "SELECT @@global.gtid_executed", 1).replace("\n", "").split(",")) {
            if (part.trim().startsWith(uuid + ":")) {
                String[] numbers = part.trim().split("[:-]");
                return versionOf(uuid, Long.parseLong(numbers[numbers.length - 1]));
            }
        }
        return PRIMARY;
    }

    private static String ask(Connection connection, String select, int column) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(select)) {
            rows.next();
            return rows.getString(column);
        }
    }

    private long versionOf(String origin, long number) throws Exception {
        for (int attempt = 0; attempt < 10; attempt++) {
            Matcher listed;
            try (InputStream page = epochs.toURL().openStream()) {
                listed = EPOCH.matcher(new String(page.readAllBytes(), StandardCharsets.UTF_8));
            }
            long version = PRIMARY;
            while (listed.find()) { // The last one counts: of an epoch that has ended, the number says nothing.
                boolean ours = listed.group(2).equals(origin) && number >= Long.parseLong(listed.group(3));
                version = ours ? Long.parseLong(listed.group(1)) << 48 | number : PRIMARY;
            }
            if (version != PRIMARY) {
                return version;
            }
            Thread.sleep(50);
        }
        return PRIMARY;
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
