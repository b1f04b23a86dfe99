import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.Properties;
import java.util.TreeSet;
import java.util.UUID;

/**
 * Postgres' JDBC driver: parameters, times, rows in pieces, the catalogue, errors, cancelling.
 *
 * <p>Ends with "all is well". Needs PLIMSOLL_POSTGRES_PORT and PLIMSOLL_SPANS.
 */
public final class Pgjdbc {
    private static final long SPANS = Long.parseLong(System.getenv("PLIMSOLL_SPANS"));

    private static Connection connect(String... settings) throws SQLException {
        Properties properties = new Properties();
        properties.put("user", "me");
        for (int at = 0; at < settings.length; at += 2) {
            properties.put(settings[at], settings[at + 1]);
        }
        String port = System.getenv("PLIMSOLL_POSTGRES_PORT");
        return DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + port + "/plimsoll", properties);
    }

    private static void same(Object told, Object wanted) {
        if (!(wanted == null ? told == null : wanted.equals(told))) {
            throw new AssertionError(told + " is not " + wanted);
        }
    }

    private static void fails(Statement statement, String code, String word, String sql) {
        try (ResultSet rows = statement.executeQuery(sql)) {
            while (rows.next()) {
                continue;
            }
        } catch (SQLException error) {
            same(error.getSQLState(), code);
            if (!error.getMessage().contains(word)) {
                throw new AssertionError("`" + word + "` is not in " + error, error);
            }
            return;
        }
        throw new AssertionError(sql + " should have failed");
    }

    private static Object one(PreparedStatement statement) throws SQLException {
        try (ResultSet rows = statement.executeQuery()) {
            same(rows.next(), true);
            Object told = rows.getObject(1);
            same(rows.next(), false);
            return told;
        }
    }

    private static void parameters(Connection connection) throws SQLException {
        OffsetDateTime moment = OffsetDateTime.of(2026, 1, 31, 12, 0, 0, 500_000_000, ZoneOffset.UTC);
        // Beyond the fifth time the driver keeps the statement, and asks for binary values.
        try (PreparedStatement statement = connection.prepareStatement("SELECT ? + 1")) {
            for (int number = 0; number < 8; number++) {
                statement.setInt(1, number);
                same(((Number) one(statement)).longValue(), number + 1L);
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT count(*) FROM spans WHERE start_time > ? AND duration_ns >= ?")) {
            for (int again = 0; again < 8; again++) {
                statement.setObject(1, moment.minusYears(20));
                statement.setLong(2, 0);
                same(one(statement), SPANS);
                statement.setTimestamp(1, Timestamp.from(moment.plusYears(100).toInstant()));
                same(one(statement), 0L);
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT ?::timestamptz, ?::date, ?::interval, ?::uuid, ?::boolean, ?::text, ?::numeric(9, 2)")) {
            UUID id = UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
            for (int again = 0; again < 8; again++) {
                statement.setObject(1, moment);
                statement.setObject(2, LocalDate.of(2026, 1, 31));
                statement.setString(3, "1 day 02:00");
                statement.setObject(4, id);
                statement.setBoolean(5, true);
                statement.setString(6, "it's");
                statement.setBigDecimal(7, new java.math.BigDecimal("1.25"));
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(rows.getObject(1, OffsetDateTime.class).toInstant(), moment.toInstant());
                    same(rows.getObject(2, LocalDate.class), LocalDate.of(2026, 1, 31));
                    same(rows.getString(3).contains("1 day"), true);
                    same(rows.getString(4), id.toString());
                    same(rows.getBoolean(5), true);
                    same(rows.getString(6), "it's");
                    same(rows.getBigDecimal(7).doubleValue(), 1.25);
                }
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT count(*) FROM spans WHERE name = ANY(?) OR name = ?")) {
            statement.setArray(1, connection.createArrayOf("text", new String[] {"no such name", "it's"}));
            statement.setNull(2, Types.VARCHAR);
            same(one(statement), 0L);
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT end_time - start_time > ? FROM spans LIMIT 1")) {
            statement.setString(1, "400 years");
            fails(connection.createStatement(), "22007", "no length of time", "SELECT end_time - start_time > 'long' FROM spans");
            same(statement.getParameterMetaData().getParameterCount(), 1);
        }
    }

    private static void pieces(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(70);
            long seen = 0;
            try (ResultSet rows = statement.executeQuery("SELECT trace_id, start_time, duration_ns, attributes FROM spans")) {
                while (rows.next()) {
                    same(rows.getString(1).length(), 32);
                    same(rows.getTimestamp(2).getTime() > 0, true);
                    same(rows.getLong(3) >= 0, true);
                    rows.getString(4);
                    seen++;
                }
            }
            same(seen, SPANS);
            // Two at once, each in pieces of its own.
            try (Statement other = connection.createStatement()) {
                other.setFetchSize(7);
                try (ResultSet some = statement.executeQuery("SELECT name FROM spans"); ResultSet others = other.executeQuery("SELECT name FROM spans")) {
                    for (int at = 0; at < 200; at++) {
                        same(some.next() && others.next(), true);
                    }
                }
            }
            connection.commit();
        }
        connection.setAutoCommit(true);
    }

    private static void catalogue(Connection connection) throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        same(about.getDatabaseProductName(), "PostgreSQL");
        TreeSet<String> tables = new TreeSet<>();
        try (ResultSet rows = about.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"})) {
            while (rows.next()) {
                tables.add(rows.getString("TABLE_NAME"));
            }
        }
        same(tables.containsAll(Arrays.asList("spans", "logs", "metrics", "exceptions")), true);
        same(tables.contains("segments"), false);
        TreeSet<String> columns = new TreeSet<>();
        try (ResultSet rows = about.getColumns(null, "public", "spans", "%")) {
            while (rows.next()) {
                columns.add(rows.getString("COLUMN_NAME") + " " + rows.getString("TYPE_NAME"));
            }
        }
        same(columns.containsAll(Arrays.asList("trace_id text", "start_time timestamptz", "duration_ns int8", "attributes jsonb")), true);
        try (ResultSet rows = about.getSchemas()) {
            TreeSet<String> schemas = new TreeSet<>();
            while (rows.next()) {
                schemas.add(rows.getString(1));
            }
            same(schemas.containsAll(Arrays.asList("public", "plimsoll")), true);
        }
        try (ResultSet rows = about.getPrimaryKeys(null, "public", "spans")) {
            same(rows.next(), false);
        }
        try (ResultSet rows = about.getIndexInfo(null, "public", "spans", false, true)) {
            same(rows.next(), false);
        }
        try (ResultSet rows = about.getTypeInfo()) {
            same(rows.next(), true);
        }
        try (ResultSet rows = about.getFunctions(null, "public", "%")) {
            same(rows.next(), true);
        }
    }

    /** What an answer will be, before there is one: the simple protocol has no word for it. */
    private static void described(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT name, duration_ns FROM spans WHERE kind = ?")) {
            same(statement.getMetaData().getColumnCount(), 2);
            same(statement.getMetaData().getColumnTypeName(2), "int8");
            same(statement.getMetaData().getColumnType(1), Types.VARCHAR);
        }
    }

    private static void errors(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            fails(statement, "42703", "did you mean `name`", "SELECT nme FROM spans");
            fails(statement, "25006", "SQL only reads here", "INSERT INTO spans VALUES (1)");
            fails(statement, "42P01", "spanz", "SELECT * FROM spanz");
            statement.setQueryTimeout(1);
            fails(statement, "57014", "cancel", HEAVY);
        }
    }

    private static final String HEAVY =
            "SELECT count(*) FROM spans a, spans b, spans c WHERE a.duration_ns + b.duration_ns + c.duration_ns < 0";

    private static void cancelling(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    // A request that comes before the statement runs cancels nothing: so it is sent until it does.
                    while (true) {
                        Thread.sleep(100);
                        statement.cancel();
                    }
                } catch (InterruptedException | SQLException ended) {
                    return;
                }
            });
            canceller.start();
            fails(statement, "57014", "cancel", HEAVY);
            canceller.interrupt();
            canceller.join();
            try (ResultSet rows = statement.executeQuery("SELECT count(*) FROM spans")) {
                rows.next();
                same(rows.getLong(1), SPANS);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (String mode : new String[] {"extended", "simple"}) {
            try (Connection connection = connect("preferQueryMode", mode)) {
                parameters(connection);
                if (mode.equals("extended")) {
                    pieces(connection);
                    described(connection);
                }
                catalogue(connection);
                errors(connection);
            }
        }
        // A request that comes late would cancel what comes next.
        try (Connection connection = connect()) {
            cancelling(connection);
        }
        System.out.println("all is well");
    }
}
