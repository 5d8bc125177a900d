// Everything that pgjdbc does, against the server of the PG* variables. It is run
// from its source, by java -cp postgresql.jar Script.java.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Script {
    static final String SCHEMA = System.getenv("DRIVER_SCHEMA");
    static final boolean GATEWAY = System.getenv("DRIVER_GATEWAY").equals("true");
    static final String[] AWKWARD = {"", "it's", "back\\slash", "\"double\"", "línea\nd'été", "日本語 🐘", "$1 ? :x --c /* */ ;", "{\"a\",NULL}", "\\N"};
    static long nextKey = 1;
    static String mode = ""; // the one under way

    /** The ways in which pgjdbc prepares and sends statements. */
    static final String[][] MODES = {
        {}, {"prepareThreshold", "1"}, {"prepareThreshold", "0"}, {"prepareThreshold", "-1"},
        {"preferQueryMode", "simple"}, {"preferQueryMode", "extendedForPrepared"}, {"preferQueryMode", "extendedCacheEverything"},
        {"preparedStatementCacheQueries", "2", "prepareThreshold", "1"}, {"autosave", "always"},
    };

    /** n keys that nobody has used. */
    static synchronized long[] keys(int n) {
        long[] out = new long[n];
        for (int i = 0; i < n; i++) out[i] = nextKey++;
        return out;
    }

    static Connection connect(String... properties) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("currentSchema", SCHEMA);
        for (int i = 0; i < properties.length; i += 2) p.setProperty(properties[i], properties[i + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static void equal(String what, Object got, Object want) {
        if (!Objects.deepEquals(got, want)) {
            throw new AssertionError(what + ": got " + show(got) + ", want " + show(want));
        }
    }

    static String show(Object o) {
        return o instanceof Object[] a ? Arrays.deepToString(a) : o instanceof long[] l ? Arrays.toString(l) : o instanceof int[] n ? Arrays.toString(n) : String.valueOf(o);
    }

    interface Work {
        void run() throws Exception;
    }

    static ServerErrorMessage fails(String state, Work work) throws Exception {
        try {
            work.run();
        } catch (SQLException e) {
            SQLException last = e;
            while (last.getNextException() != null) last = last.getNextException();
            if (!state.equals(last.getSQLState())) throw e;
            return last instanceof PSQLException p ? p.getServerErrorMessage() : null;
        }
        throw new AssertionError("no error, where " + state + " was expected");
    }

    static PreparedStatement prepare(Connection c, String sql, Object... args) throws SQLException {
        PreparedStatement s = c.prepareStatement(sql);
        for (int i = 0; i < args.length; i++) s.setObject(i + 1, args[i]);
        return s;
    }

    static int change(Connection c, String sql, Object... args) throws SQLException {
        try (PreparedStatement s = prepare(c, sql, args)) {
            return s.executeUpdate();
        }
    }

    static List<Object> column(Connection c, String sql, Object... args) throws SQLException {
        try (PreparedStatement s = prepare(c, sql, args); ResultSet r = s.executeQuery()) {
            List<Object> out = new ArrayList<>();
            while (r.next()) out.add(r.getObject(1));
            return out;
        }
    }

    static Object one(Connection c, String sql, Object... args) throws SQLException {
        return column(c, sql, args).get(0);
    }

    static Array array(Connection c, long[] keys) throws SQLException {
        return c.createArrayOf("bigint", Arrays.stream(keys).boxed().toArray());
    }

    static void connecting() throws Exception {
        fails("22023", () -> connect("options", "-c work_mem=nonsense").close());
        try (Connection c = connect("ApplicationName", "a name", "options", "-c work_mem=7MB")) {
            equal("application_name", one(c, "SHOW application_name"), "a name");
            equal("work_mem", one(c, "SHOW work_mem"), "7MB");
            equal("search_path", one(c, "SHOW search_path"), SCHEMA);
            equal("schema", c.getSchema(), SCHEMA);
            equal("valid", c.isValid(5), true);
            c.setClientInfo("ApplicationName", "another");
            equal("application_name", one(c, "SHOW application_name"), "another");
            equal("version", c.getMetaData().getDatabaseProductVersion(), one(c, "SHOW server_version"));
        }
    }

    static void types() throws Exception {
        for (String[] m : MODES) {
            mode = String.join(" ", m);
            try (Connection c = connect(m)) {
                long[] ids = keys(AWKWARD.length);
                for (int i = 0; i < ids.length; i++) {
                    OffsetDateTime at = OffsetDateTime.of(2024, 2, 29, 12, 0, i, 123456000, ZoneOffset.UTC);
                    PGobject json = new PGobject();
                    json.setType("jsonb");
                    json.setValue("{\"n\": 1.5}");
                    BigDecimal number = new BigDecimal("-" + ((1L << 40) + i) + ".0001");
                    byte[] bytes = {0, 1, (byte) 255, 39, 92};
                    UUID uuid = new UUID(5, i);
                    if (mode.equals("preferQueryMode simple")) bytes = null; // pgjdbc can't write bytea there
                    equal("inserted", change(c, "INSERT INTO items(id, i, n, t, b, ts, u, ok, a, ta, j) VALUES (?,?,?,?,?,?,?,?,?,?,?)", ids[i], -i, number,
                        AWKWARD[i], bytes, at, uuid, i % 2 == 0, c.createArrayOf("int4", new Integer[] {1, -2, null}),
                        c.createArrayOf("text", new String[] {AWKWARD[i], null}), json), 1);
                    try (PreparedStatement s = prepare(c, "SELECT id, i, n, t, b, ts, u, ok, a, ta, j FROM items WHERE id = ?", ids[i]); ResultSet r = s.executeQuery()) {
                        equal("a row", r.next(), true);
                        Object[] got = {r.getLong(1), r.getInt(2), r.getBigDecimal(3), r.getString(4), r.getBytes(5), r.getObject(6, OffsetDateTime.class).toInstant(),
                            r.getObject(7), r.getBoolean(8), r.getArray(9).getArray(), r.getArray(10).getArray(), r.getString(11)};
                        equal("the row", got, new Object[] {ids[i], -i, number, AWKWARD[i], bytes, at.toInstant(), uuid, i % 2 == 0,
                            new Integer[] {1, -2, null}, new String[] {AWKWARD[i], null}, "{\"n\": 1.5}"});
                    }
                }
                long key = keys(1)[0];
                change(c, "INSERT INTO items(id, i, n, t, b, ts, u, ok, a, ta, j) VALUES (?,?,?,?,?,?,?,?,?,?,?)", key, null, null, null, null, null, null, null, null, null, null);
                equal("nulls", one(c, "SELECT (i,n,t,b,ts,u,ok,a,ta,j) IS NULL FROM items WHERE id = ?", key), true);
            }
        }
    }

    static void rows() throws Exception {
        int round = 0;
        for (String[] m : MODES) {
            mode = String.join(" ", m);
            round++;
            try (Connection c = connect(m)) {
                long[] ids = keys(20);
                List<Object> args = new ArrayList<>();
                List<Object> want = new ArrayList<>();
                for (long k : ids) {
                    args.add(k);
                    args.add("row " + k);
                    want.add(k);
                }
                String values = String.join(", ", Collections.nCopies(20, "(?, ?)"));
                equal("RETURNING", column(c, "INSERT INTO items(id, t) VALUES " + values + " RETURNING id", args.toArray()), want);
                for (int i = 0; i < 8; i++) {
                    List<Object> got = column(c, "SELECT id FROM items WHERE id = ANY(?)", array(c, ids));
                    equal("rows", new TreeSet<>(got), new TreeSet<>(want));
                }
                equal("updated", change(c, "UPDATE items SET t = ? WHERE id = ANY(?)", "new", array(c, Arrays.copyOf(ids, 15))), 15);
                equal("deleted", change(c, "DELETE FROM items WHERE id BETWEEN ? AND ?", ids[0], ids[4]), 5);
                equal("states", change(c, "INSERT INTO states VALUES (?, ?), (?, ?)", "a" + round, "A", "b" + round, "B"), 2);
                for (int i = 0; i < 8; i++) equal("a state", one(c, "SELECT name FROM states WHERE code = ?", "b" + round), "B");
                // The keys that the server made.
                try (PreparedStatement s = c.prepareStatement("INSERT INTO items(id, t) VALUES (?, ?)", new String[] {"id", "t"})) {
                    long key = keys(1)[0];
                    s.setLong(1, key);
                    s.setString(2, "generated");
                    s.executeUpdate();
                    ResultSet r = s.getGeneratedKeys();
                    equal("a row", r.next(), true);
                    equal("generated", r.getLong(1), key);
                }
                try (Statement s = c.createStatement()) {
                    boolean result = s.execute("SELECT 1; UPDATE items SET i = 1 WHERE id = " + ids[10] + "; SELECT 2");
                    equal("a result", result, true);
                    if (!mode.equals("prepareThreshold -1")) { // where pgjdbc miscounts
                        equal("next", s.getMoreResults(), false);
                        equal("count", s.getUpdateCount(), 1);
                        equal("next", s.getMoreResults(), true);
                    }
                    s.setMaxRows(7);
                    int n = 0;
                    for (ResultSet r = s.executeQuery("SELECT id FROM items"); r.next();) n++;
                    if (!mode.startsWith("preferQueryMode")) equal("rows within the limit", n, 7); // else it is a simple Query, which has none
                }
            }
        }
    }

    static void batches() throws Exception {
        for (String rewrite : new String[] {"false", "true"}) {
            for (String threshold : new String[] {"1", "5"}) {
                try (Connection c = connect("reWriteBatchedInserts", rewrite, "prepareThreshold", threshold)) {
                    long[] ids = keys(300);
                    for (boolean block : new boolean[] {true, false}) {
                        c.setAutoCommit(!block);
                        try (PreparedStatement s = c.prepareStatement("INSERT INTO items(id, t, i) VALUES (?, ?, ?)")) {
                            for (int i = 0; i < 150; i++) {
                                s.setLong(1, ids[block ? i : 150 + i]);
                                s.setString(2, "batch");
                                s.setInt(3, i);
                                s.addBatch();
                            }
                            int[] counts = s.executeBatch();
                            equal("counts", counts.length, 150);
                            equal("count", counts[77], rewrite.equals("true") ? Statement.SUCCESS_NO_INFO : 1);
                        }
                        if (block) c.commit();
                    }
                    equal("rows", column(c, "SELECT 1 FROM items WHERE id = ANY(?) AND t = 'batch'", array(c, ids)).size(), 300);
                    try (PreparedStatement s = c.prepareStatement("UPDATE items SET t = ? WHERE id = ?")) {
                        for (long k : ids) {
                            s.setString(1, "updated");
                            s.setLong(2, k);
                            s.addBatch();
                        }
                        equal("counts", Arrays.stream(s.executeBatch()).sum(), 300);
                    }
                    // One that fails undoes the batch, in a transaction or not.
                    long[] more = keys(10);
                    for (boolean block : new boolean[] {true, false}) {
                        c.setAutoCommit(!block);
                        try (PreparedStatement s = c.prepareStatement("INSERT INTO items(id, t, i) VALUES (?, 'bad', 0)")) {
                            for (int i = 0; i <= 10; i++) {
                                s.setLong(1, i == 10 ? ids[0] : more[i]);
                                s.addBatch();
                            }
                            fails("23505", s::executeBatch);
                        }
                        if (block) c.rollback();
                    }
                    c.setAutoCommit(true);
                    equal("rows", column(c, "SELECT 1 FROM items WHERE t = 'bad'").size(), 0);
                    try (Statement s = c.createStatement()) {
                        for (int i = 0; i < 10; i++) s.addBatch("INSERT INTO items(id) VALUES (" + more[i] + ")");
                        s.addBatch("UPDATE items SET i = 3 WHERE id <= " + more[9] + " AND id >= " + more[0]);
                        equal("counts", s.executeBatch()[10], 10);
                    }
                }
            }
        }
    }

    static void transactions() throws Exception {
        for (String[] m : MODES) {
            mode = String.join(" ", m);
            try (Connection c = connect(m); Connection other = connect()) {
                boolean autosave = m.length > 0 && m[0].equals("autosave");
                long[] ids = keys(12);
                Callable<Integer> present = () -> column(other, "SELECT 1 FROM items WHERE id = ANY(?)", array(other, ids)).size();
                c.setAutoCommit(false);
                for (long k : ids) change(c, "INSERT INTO items(id) VALUES (?)", k);
                equal("what another sees", present.call(), 0);
                c.rollback();
                equal("after ROLLBACK", present.call(), 0);
                for (int i = 0; i < 6; i++) change(c, "INSERT INTO items(id) VALUES (?)", ids[i]);
                Savepoint a = c.setSavepoint("a");
                change(c, "INSERT INTO items(id) VALUES (?)", ids[6]);
                fails("23505", () -> change(c, "INSERT INTO items(id) VALUES (?)", ids[0]));
                if (autosave) equal("autosave", column(c, "SELECT 1 FROM items WHERE id = ?", ids[6]).size(), 1);
                else fails("25P02", () -> column(c, "SELECT 1 FROM items WHERE id = ?", ids[0]));
                c.rollback(a);
                change(c, "INSERT INTO items(id) VALUES (?)", ids[8]);
                c.releaseSavepoint(c.setSavepoint());
                c.commit();
                equal("after COMMIT", present.call(), 7);
                change(c, "DELETE FROM items WHERE id = ANY(?)", array(c, ids));
                if (!autosave) {
                    fails("22012", () -> column(c, "SELECT 1/0"));
                    c.commit(); // in fact a ROLLBACK
                }
                c.rollback();
                equal("after COMMIT of a failed transaction", present.call(), 7);
                c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
                c.setReadOnly(true);
                equal("level", one(c, "SHOW transaction_isolation"), "serializable");
                fails("25006", () -> change(c, "DELETE FROM items WHERE id = ?", ids[0]));
                c.rollback();
            }
        }
    }

    static void errors() throws Exception {
        for (String[] m : MODES) {
            mode = String.join(" ", m);
            try (Connection c = connect(m)) {
                long key = keys(1)[0];
                change(c, "INSERT INTO items(id) VALUES (?)", key);
                ServerErrorMessage message = fails("23505", () -> change(c, "INSERT INTO items(id) VALUES (?)", key));
                equal("fields", new Object[] {message.getSeverity(), message.getSchema(), message.getTable(), message.getConstraint(), message.getDetail()},
                    new Object[] {"ERROR", SCHEMA, "items", "items_pkey", "Key (id)=(" + key + ") already exists."});
                equal("position", fails("42601", () -> change(c, "SELEC 1")).getPosition(), 1);
                equal("position", fails("42P01", () -> column(c, "SELECT 1 FROM nosuch")).getPosition(), 15);
                fails("42703", () -> column(c, "SELECT nosuch FROM items WHERE id = ?", key));
                fails("23503", () -> change(c, "INSERT INTO lines VALUES (?, 1)", key + 1_000_000));
                fails("23502", () -> change(c, "INSERT INTO states VALUES (?, NULL)", "x"));
                if (GATEWAY) {
                    message = fails("0A000", () -> change(c, "UPDATE items SET i = 1 WHERE ctid IN (SELECT ctid FROM items WHERE id <> ?)", key));
                    equal("a hint", message.getHint() != null, true);
                }
                equal("the connection goes on", one(c, "SELECT 1"), 1);
                try (Statement s = c.createStatement()) {
                    s.execute("DROP TABLE IF EXISTS nosuch");
                    equal("a warning", s.getWarnings().getMessage(), "table \"nosuch\" does not exist, skipping");
                }
            }
        }
    }

    static void cancel() throws Exception {
        try (Connection c = connect()) {
            change(c, "INSERT INTO items(id) VALUES (?)", keys(1)[0]);
            for (String sql : new String[] {"SELECT pg_sleep(20)", "SELECT pg_sleep(20) FROM items"}) {
                try (Statement s = c.createStatement()) {
                    Timer timer = new Timer(true);
                    timer.schedule(new TimerTask() {
                        public void run() {
                            try {
                                s.cancel();
                            } catch (SQLException e) {
                                e.printStackTrace(System.out);
                            }
                        }
                    }, 150);
                    long begun = System.nanoTime();
                    fails("57014", () -> s.executeQuery(sql));
                    equal("in time", System.nanoTime() - begun < 10_000_000_000L, true);
                    timer.cancel();
                }
                equal("the connection goes on", one(c, "SELECT 1"), 1);
            }
            try (Statement s = c.createStatement()) {
                s.setQueryTimeout(1);
                fails("57014", () -> s.executeQuery("SELECT pg_sleep(20) FROM items"));
            }
            equal("the connection goes on", one(c, "SELECT 1"), 1);
        }
    }

    static void copy() throws Exception {
        try (Connection c = connect()) {
            CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
            long[] ids = keys(200);
            StringBuilder text = new StringBuilder();
            StringBuilder csv = new StringBuilder();
            for (int i = 0; i < 100; i++) {
                text.append(ids[i]).append('\t').append(AWKWARD[i % AWKWARD.length].replace("\\", "\\\\").replace("\n", "\\n")).append('\n');
                csv.append(ids[100 + i]).append(",\"").append(AWKWARD[i % AWKWARD.length].replace("\"", "\"\"")).append("\"\n");
            }
            equal("copied", copy.copyIn("COPY items(id, t) FROM STDIN", new StringReader(text.toString()), 7), 100L);
            equal("copied", copy.copyIn("COPY items(id, t) FROM STDIN (FORMAT csv)", new StringReader(csv.toString())), 100L);
            for (int i = 0; i < 200; i += 7) equal("a text", one(c, "SELECT t FROM items WHERE id = ?", ids[i]), AWKWARD[i % 100 % AWKWARD.length]);
            StringWriter out = new StringWriter();
            equal("rows", copy.copyOut("COPY (SELECT id FROM items WHERE id BETWEEN " + ids[0] + " AND " + ids[199] + ") TO STDOUT", out), 200L);
            equal("lines", out.toString().lines().count(), 200L);
            out = new StringWriter();
            copy.copyOut("COPY lines TO STDOUT (FORMAT csv, HEADER)", out);
            equal("header", out.toString(), "item,line,note\n");
            c.setAutoCommit(false);
            long[] more = keys(20);
            text.setLength(0);
            for (long k : more) text.append(k).append('\n');
            copy.copyIn("COPY items(id) FROM STDIN", new StringReader(text.toString()));
            c.rollback();
            equal("rows", column(c, "SELECT 1 FROM items WHERE id = ANY(?)", array(c, more)).size(), 0);
            text.append(ids[0]).append('\n');
            fails("23505", () -> copy.copyIn("COPY items(id) FROM STDIN", new StringReader(text.toString())));
            c.rollback();
            var all = new ByteArrayOutputStream();
            long sent = copy.copyOut("COPY items TO STDOUT (FORMAT binary)", all);
            change(c, "CREATE TEMP TABLE back (LIKE items)");
            equal("copied in binary", copy.copyIn("COPY back FROM STDIN (FORMAT binary)", new ByteArrayInputStream(all.toByteArray())), sent);
            c.rollback();
            var in = copy.copyIn("COPY items(id) FROM STDIN");
            byte[] row = (more[0] + "\n").getBytes(StandardCharsets.UTF_8);
            in.writeToCopy(row, 0, row.length);
            in.cancelCopy();
            c.rollback();
            equal("the connection goes on", one(c, "SELECT 1"), 1);
        }
    }

    static void notifications() throws Exception {
        try (Connection c = connect(); Connection sender = connect()) {
            change(c, "LISTEN jdbc_news");
            change(sender, "NOTIFY jdbc_news, 'hello'");
            column(sender, "SELECT pg_notify(?, ?)", "jdbc_news", "bye");
            List<String> got = new ArrayList<>();
            for (int i = 0; i < 20 && got.size() < 2; i++) {
                PGNotification[] ns = c.unwrap(PGConnection.class).getNotifications(500);
                if (ns != null) for (PGNotification n : ns) got.add(n.getName() + " " + n.getParameter());
            }
            equal("notifications", got, List.of("jdbc_news hello", "jdbc_news bye"));
        }
    }

    static void cursors() throws Exception {
        for (String[] m : MODES) {
            mode = String.join(" ", m);
            try (Connection c = connect(m)) {
                long key = keys(1)[0];
                change(c, "INSERT INTO items(id) VALUES (?)", key);
                for (int i = 1; i <= 50; i++) change(c, "INSERT INTO lines VALUES (?, ?, 'x')", key, i);
                c.setAutoCommit(false);
                // pgjdbc executes a portal with a row limit, over one shard and over all.
                for (String sql : new String[] {"SELECT line FROM lines WHERE item = ? ORDER BY line", "SELECT i + 1 FROM items WHERE id <> ?",
                        "SELECT item, count(*), array_agg(line) FROM lines WHERE item <> ? GROUP BY item ORDER BY item DESC", "SELECT a, i FROM items WHERE id <> ? ORDER BY id"}) {
                    int all = column(c, sql, key).size();
                    for (int size : new int[] {7, 1, 1000}) {
                        if (all > 100 && size == 1) continue;
                        try (PreparedStatement s = prepare(c, sql, key)) {
                            s.setFetchSize(size);
                            ResultSet r = s.executeQuery();
                            int n = 0;
                            while (r.next()) {
                                n++;
                                // Another statement while the portal is open.
                                if (n % 10 == 1 && n < 40) equal("amid", one(c, "SELECT id FROM items WHERE id = ?", key), key);
                            }
                            equal("rows of " + sql, n, all);
                        }
                    }
                }
                // A portal that is left before its end.
                try (PreparedStatement s = prepare(c, "SELECT id FROM items WHERE id <> ?", key)) {
                    s.setFetchSize(5);
                    ResultSet r = s.executeQuery();
                    r.next();
                }
                c.commit();
                equal("the connection goes on", one(c, "SELECT 1"), 1);
                try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)) {
                    ResultSet r = s.executeQuery("SELECT line FROM lines WHERE item = " + key + " ORDER BY line");
                    equal("the last", r.last() ? r.getInt(1) : 0, 50);
                    equal("the first", r.first() ? r.getInt(1) : 0, 1);
                }
                c.rollback();
            }
        }
    }

    static void userTypes() throws Exception {
        for (String[] m : MODES) {
            mode = String.join(" ", m);
            try (Connection c = connect(m)) {
                long[] ids = keys(12);
                for (int i = 0; i < ids.length; i++) {
                    PGobject mood = new PGobject();
                    mood.setType("mood");
                    mood.setValue(new String[] {"sad", "ok", "happy"}[i % 3]);
                    PGobject place = new PGobject();
                    place.setType("place");
                    place.setValue("(" + i + ",y)");
                    change(c, "INSERT INTO moods VALUES (?, ?, ?, ?)", ids[i], mood, place, c.createArrayOf("mood", new String[] {"ok", "sad"}));
                    try (PreparedStatement s = prepare(c, "SELECT m, p, ms FROM moods WHERE id = ? AND m = ?", ids[i], mood); ResultSet r = s.executeQuery()) {
                        equal("a row", r.next(), true);
                        ResultSetMetaData meta = r.getMetaData();
                        equal("types", List.of(meta.getColumnTypeName(1), unqualified(meta.getColumnTypeName(2)), meta.getColumnTypeName(3)), List.of("mood", "place", "_mood"));
                        equal("the row", new Object[] {r.getString(1), r.getString(2), r.getArray(3).getArray()},
                            new Object[] {mood.getValue(), place.getValue(), new String[] {"ok", "sad"}});
                    }
                }
                fails("22P02", () -> change(c, "INSERT INTO moods(id, m) VALUES (?, ?::mood)", keys(1)[0], "bored"));
            }
        }
    }

    static String unqualified(String name) {
        return name.substring(name.lastIndexOf('.') + 1).replace("\"", "");
    }

    static void metadata() throws Exception {
        try (Connection c = connect()) {
            for (String sql : new String[] {"SELECT id, t AS name, n FROM items WHERE id = 3", "SELECT id, t AS name, n FROM items"}) {
                try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
                    ResultSetMetaData meta = r.getMetaData();
                    equal("columns", List.of(meta.getColumnLabel(1), meta.getColumnLabel(2), meta.getColumnTypeName(3), meta.getPrecision(3), meta.getScale(3)),
                        List.of("id", "name", "numeric", 20, 4));
                    equal("base", List.of(((org.postgresql.PGResultSetMetaData) meta).getBaseColumnName(2), ((org.postgresql.PGResultSetMetaData) meta).getBaseTableName(2)), List.of("t", "items"));
                }
            }
            try (PreparedStatement s = c.prepareStatement("INSERT INTO items(id, t, u) VALUES (?, ?, ?)")) {
                ParameterMetaData m = s.getParameterMetaData();
                equal("parameters", List.of(m.getParameterTypeName(1), m.getParameterTypeName(2), m.getParameterTypeName(3)), List.of("int8", "text", "uuid"));
            }
            DatabaseMetaData d = c.getMetaData();
            List<String> names = new ArrayList<>();
            for (ResultSet r = d.getTables(null, SCHEMA, "%", new String[] {"TABLE"}); r.next();) names.add(r.getString("TABLE_NAME"));
            equal("tables", names, List.of("items", "lines", "moods", "notes", "states"));
            names.clear();
            for (ResultSet r = d.getColumns(null, SCHEMA, "lines", "%"); r.next();) names.add(r.getString("COLUMN_NAME") + " " + r.getString("TYPE_NAME"));
            equal("columns", names, List.of("item int8", "line int4", "note text"));
            names.clear();
            for (ResultSet r = d.getPrimaryKeys(null, SCHEMA, "lines"); r.next();) names.add(r.getString("COLUMN_NAME"));
            equal("primary key", new TreeSet<>(names), new TreeSet<>(List.of("item", "line")));
            int n = 0;
            for (ResultSet r = d.getImportedKeys(null, SCHEMA, "lines"); r.next();) n++;
            equal("foreign keys", n, 1);
            for (ResultSet r = d.getIndexInfo(null, SCHEMA, "items", true, false); r.next();) equal("index", r.getString("INDEX_NAME"), "items_pkey");
        }
    }

    static void threads() throws Exception {
        int workers = 12, rounds = 12;
        long[] ids = keys(workers * rounds);
        ExecutorService threads = Executors.newFixedThreadPool(workers);
        List<Future<?>> all = new ArrayList<>();
        for (int w = 0; w < workers; w++) {
            int first = w * rounds;
            all.add(threads.submit(() -> {
                try (Connection c = connect("prepareThreshold", first % 2 == 0 ? "1" : "3")) {
                    c.setAutoCommit(false);
                    for (int r = 0; r < rounds; r++) {
                        long k = ids[first + r];
                        change(c, "INSERT INTO items(id, i) VALUES (?, ?), (?, ?)", k, r, -k, r);
                        change(c, "INSERT INTO lines VALUES (?, ?, 'thread')", k, r);
                        c.commit();
                        equal("line", one(c, "SELECT l.line FROM items i JOIN lines l ON l.item = i.id WHERE i.id = ?", k), r);
                        if (r % 4 == 0) fails("23505", () -> change(c, "INSERT INTO items(id) VALUES (?)", k));
                        c.rollback();
                    }
                }
                return null;
            }));
        }
        for (Future<?> f : all) f.get();
        threads.shutdown();
        try (Connection c = connect()) {
            equal("rows", column(c, "SELECT 1 FROM lines WHERE note = 'thread'").size(), workers * rounds);
        }
    }

    public static void main(String[] args) throws Exception {
        System.out.println("pgjdbc " + org.postgresql.util.DriverInfo.DRIVER_VERSION + ", Java " + Runtime.version());
        Map<String, Work> tests = new LinkedHashMap<>();
        tests.put("connecting", Script::connecting);
        tests.put("types", Script::types);
        tests.put("rows", Script::rows);
        tests.put("batches", Script::batches);
        tests.put("transactions", Script::transactions);
        tests.put("errors", Script::errors);
        tests.put("cancel", Script::cancel);
        tests.put("copy", Script::copy);
        tests.put("notifications", Script::notifications);
        tests.put("cursors", Script::cursors);
        tests.put("userTypes", Script::userTypes);
        tests.put("metadata", Script::metadata);
        tests.put("threads", Script::threads);
        int failures = 0;
        for (var t : tests.entrySet()) {
            try {
                long begun = System.nanoTime();
                mode = "";
                t.getValue().run();
                System.out.printf("%s: %d ms%n", t.getKey(), (System.nanoTime() - begun) / 1_000_000);
            } catch (Throwable e) {
                failures++;
                System.out.println(t.getKey() + " failed, in the mode \"" + mode + "\":");
                e.printStackTrace(System.out);
            }
        }
        System.exit(failures);
    }
}
