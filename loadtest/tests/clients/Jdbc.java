import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.TreeSet;

/**
 * Arrow's JDBC driver for Flight SQL: queries, parameters, the catalogue, errors, and the way an answer is broken off.
 *
 * <p>Ends with "all is well". Needs PLIMSOLL_FLIGHT, PLIMSOLL_PASSWORD and PLIMSOLL_SPANS.
 */
public final class Jdbc {
    private static final long SPANS = Long.parseLong(System.getenv("PLIMSOLL_SPANS"));

    private static Connection connect() throws SQLException {
        String password = System.getenv().getOrDefault("PLIMSOLL_PASSWORD", "");
        Properties properties = new Properties();
        properties.put("useEncryption", "false");
        if (!password.isEmpty()) {
            properties.put("user", "me");
            properties.put("password", password);
        }
        return DriverManager.getConnection("jdbc:arrow-flight-sql://" + System.getenv("PLIMSOLL_FLIGHT"), properties);
    }

    private static void same(Object told, Object wanted) {
        if (!wanted.equals(told)) {
            throw new AssertionError(told + " is not " + wanted);
        }
    }

    private static void fails(Connection connection, String word, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            while (rows.next()) {
                continue;
            }
        } catch (SQLException error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (String.valueOf(cause.getMessage()).contains(word)) {
                    return;
                }
            }
            throw new AssertionError("`" + word + "` is not in " + error, error);
        }
        throw new AssertionError(sql + " should have failed");
    }

    private static long count(PreparedStatement statement) throws SQLException {
        try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getLong(1);
        }
    }

    private static void queries(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            long seen = 0;
            String sql = "SELECT trace_id, name, kind, start_time, duration_ns, parent_span_id, service_name FROM spans";
            try (ResultSet rows = statement.executeQuery(sql)) {
                same(rows.getMetaData().getColumnCount(), 7);
                same(rows.getMetaData().getColumnName(5), "duration_ns");
                while (rows.next()) {
                    same(rows.getString("trace_id").length(), 32);
                    if (rows.getTimestamp("start_time").getTime() <= 0 || rows.getLong("duration_ns") < 0) {
                        throw new AssertionError("a span without time");
                    }
                    rows.getString("parent_span_id");
                    seen++;
                }
            }
            same(seen, SPANS);
            try (ResultSet rows = statement.executeQuery("SELECT 1 AS one, 'x' AS x, true AS yes, NULL AS nothing, 1.5 AS half")) {
                rows.next();
                same(rows.getInt("one"), 1);
                same(rows.getString("x"), "x");
                same(rows.getBoolean("yes"), true);
                same(rows.getString("nothing") == null && rows.wasNull(), true);
                same(rows.getDouble("half"), 1.5);
            }
            // Closed before its last row: the server stops, and the connection goes on.
            try (ResultSet rows = statement.executeQuery("SELECT a.name FROM spans a, spans b, spans c")) {
                rows.next();
            }
            try (ResultSet rows = statement.executeQuery("SELECT count(*) FROM spans")) {
                rows.next();
                same(rows.getLong(1), SPANS);
            }
        }
    }

    private static void parameters(Connection connection) throws SQLException {
        String name;
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT min(name) FROM spans")) {
            rows.next();
            name = rows.getString(1);
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT count(*) FROM spans WHERE name = $1 AND duration_ns >= $2")) {
            statement.setString(1, name);
            statement.setLong(2, 0);
            long found = count(statement);
            same(found > 0 && found <= SPANS, true);
            statement.setString(1, "no such name");
            same(count(statement), 0L);
        }
    }

    private static void catalogue(Connection connection) throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        same(about.getDatabaseProductName(), "Plimsoll");
        TreeSet<String> tables = new TreeSet<>();
        try (ResultSet rows = about.getTables(null, "public", "%", null)) {
            while (rows.next()) {
                tables.add(rows.getString("TABLE_NAME"));
            }
        }
        same(tables.contains("spans") && tables.contains("logs") && tables.contains("exceptions"), true);
        same(tables.contains("segments"), false);
        TreeSet<String> columns = new TreeSet<>();
        try (ResultSet rows = about.getColumns(null, "public", "spans", "%")) {
            while (rows.next()) {
                columns.add(rows.getString("COLUMN_NAME"));
            }
        }
        same(columns.contains("trace_id") && columns.contains("attributes"), true);
        try (ResultSet rows = about.getSchemas()) {
            same(rows.next(), true);
        }
        try (ResultSet rows = about.getCatalogs()) {
            rows.next();
            same(rows.getString(1), "plimsoll");
        }
        try (ResultSet rows = about.getPrimaryKeys(null, "public", "spans")) {
            same(rows.next(), false);
        }
    }

    private static void errors(Connection connection) throws SQLException {
        fails(connection, "did you mean `name`", "SELECT nme FROM spans");
        fails(connection, "SQL only reads here", "INSERT INTO spans VALUES (1)");
        fails(connection, "is not allowed", "SELECT * FROM generate_series(1, 1000000000000)");
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect()) {
            queries(connection);
            parameters(connection);
            catalogue(connection);
            errors(connection);
        }
        System.out.println("all is well");
    }
}
