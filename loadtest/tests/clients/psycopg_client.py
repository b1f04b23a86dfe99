"""psycopg at a server: every type in both formats, parameters, cursors, transactions, errors, cancelling.

Checks what it sees itself and ends with "all is well". Needs PLIMSOLL_POSTGRES_PORT and PLIMSOLL_SPANS.
"""

import datetime
import decimal
import os
import threading
import time

import psycopg

PORT = os.environ["PLIMSOLL_POSTGRES_PORT"]
SPANS = int(os.environ["PLIMSOLL_SPANS"])


def connect(**more):
    return psycopg.connect(host="127.0.0.1", port=PORT, user="me", dbname="plimsoll", **more)


def same(told, wanted):
    assert told == wanted, f"{told!r} is not {wanted!r}"


def fails(connection, code, sql, *params):
    try:
        connection.execute(sql, params or None).fetchall()
    except psycopg.Error as error:
        same((sql, error.sqlstate), (sql, code))
        return error
    raise AssertionError(f"{sql} should have failed with {code}")


def types():
    query = """
        SELECT true AS a, CAST(7 AS SMALLINT) AS b, CAST(7 AS INT) AS c, CAST(7 AS BIGINT) AS d,
               CAST(18446744073709551615 AS BIGINT UNSIGNED) AS e, CAST(1.5 AS REAL) AS f, CAST(1e300 AS DOUBLE) AS g,
               'text' AS h, CAST(12.50 AS DECIMAL(10, 2)) AS i, DATE '2026-02-28' AS j,
               arrow_cast('2026-02-28T12:30:15.123456789Z', 'Timestamp(Nanosecond, Some("UTC"))') AS k,
               arrow_cast('abc', 'Binary') AS l, INTERVAL '1 day 2 hours' AS m, make_array(1, 2, NULL) AS n,
               make_array('a b', 'c') AS o, NULL AS p, named_struct('x', 1, 'y', 'z') AS q
    """
    wanted = (
        True, 7, 7, 7, 18446744073709551615, 1.5, 1e300, "text", decimal.Decimal("12.50"), datetime.date(2026, 2, 28),
        datetime.datetime(2026, 2, 28, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc),
        b"abc", datetime.timedelta(days=1, hours=2), [1, 2, None], ["a b", "c"], None, {"x": 1, "y": "z"},
    )
    with connect() as connection:
        for binary in (False, True):
            row = connection.cursor(binary=binary).execute(query).fetchone()
            for column, (told, expected) in enumerate(zip(row, wanted)):
                assert told == expected, f"column {column}, binary={binary}: {told!r} is not {expected!r}"


def tables():
    with connect() as connection:
        same(connection.execute("SELECT count(*) FROM spans").fetchone(), (SPANS,))
        for binary in (False, True):
            row = connection.cursor(binary=binary).execute(
                "SELECT trace_id, start_time, attributes, resource_attributes, kind, duration_ns FROM spans LIMIT 1"
            ).fetchone()
            assert len(row[0]) == 32 and row[1].tzinfo is not None, row
            assert isinstance(row[2], dict) and isinstance(row[3], dict), row
            assert isinstance(row[4], str) and row[5] >= 0, row
        for table in ("spans", "span_events", "span_links", "logs", "metrics", "operations", "exceptions", "deploys",
                      "verdicts", "findings", "decisions", "plimsoll.segments", "plimsoll.queries"):
            for binary in (False, True):
                connection.cursor(binary=binary).execute(f"SELECT * FROM {table} LIMIT 20").fetchall()


def parameters():
    with connect() as connection:
        trace, start, name, long = connection.execute(
            "SELECT trace_id, start_time, name, max(duration_ns) FROM spans GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 1"
        ).fetchone()
        found = connection.execute("SELECT count(*) FROM spans WHERE trace_id = %s AND name = %s", (trace, name)).fetchone()
        assert found[0] >= 1, found
        longest = connection.execute("SELECT count(*) FROM spans WHERE duration_ns >= %s", (long,)).fetchone()[0]
        assert 1 <= longest < SPANS, longest
        # The same number as a text of no type compares as a number too.
        text = connection.execute("SELECT count(*) FROM spans WHERE duration_ns >= %s", (str(long),)).fetchone()[0]
        same(text, longest)
        same(connection.execute("SELECT count(*) FROM spans WHERE start_time = %s AND trace_id = %s AND name = %s",
                                (start.replace(microsecond=start.microsecond), trace, name)).fetchone()[0] in (0, 1), True)
        week = datetime.timedelta(days=7)
        same(connection.execute("SELECT count(*) FROM spans WHERE start_time BETWEEN %s AND %s",
                                (start - week, start + week)).fetchone(), (SPANS,))
        same(len(connection.execute("SELECT name FROM spans LIMIT %s", (7,)).fetchall()), 7)
        same(connection.execute("SELECT %s, %s, %s", (True, "it's", None)).fetchone(), (True, "it's", None))
        same(connection.execute("SELECT %s, %s", (1.5, decimal.Decimal("1.50"))).fetchone(), (1.5, 1.5))
        for value in (1, 1 << 40, 1.25, decimal.Decimal("3.75"), datetime.date(2026, 1, 1)):
            for binary in (False, True):
                told = connection.cursor(binary=binary).execute("SELECT %b" if binary else "SELECT %s", (value,)).fetchone()[0]
                assert told == value or str(told) == str(value), (told, value)
        # Lists, quoted as need be, named by the client or found out from the statement.
        for binary in (False, True):
            for prepare in (False, True):
                cursor = connection.cursor(binary=binary)
                count = lambda sql, value: cursor.execute(f"SELECT count(*) FROM spans WHERE {sql}", (value,), prepare=prepare).fetchone()[0]
                same(count("name = ANY(%s)", ["it's, {x}", 'a "b"', None, name]) > 0, True)
                same(count("name <> ALL(%s)", [name]) + count("name = ANY(%s)", [name]), SPANS)
                same(count("trace_id = ANY(%s)", [trace.upper(), "x"]) >= 1, True)
                same(count("duration_ns = ANY(%s)", [long, long + 1]) >= 1, True)
                same(count("start_time >= ALL(%s)", [start - week, start - 2 * week]), SPANS)
                same(count("name = ANY(%s)", []), 0)
        same(connection.execute("SELECT %s::text[]", (["a", 'b "c"'],)).fetchone()[0], ["a", 'b "c"'])
        # Prepared once and run often.
        for n in range(8):
            told = connection.execute("SELECT %s + 1", (n,), prepare=True).fetchone()[0]
            same(told, n + 1)


def cursors():
    with connect() as connection:
        with connection.cursor(name="server_side") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT name FROM spans")
            same(len(cursor.fetchmany(10)), 10)
            same(sum(1 for _ in cursor), SPANS - 10)
        same(connection.execute("SELECT 1").fetchone(), (1,))
        with connection.cursor() as cursor:
            rows = 0
            for _ in cursor.stream("SELECT name FROM spans"):
                rows += 1
            same(rows, SPANS)
        # Behind the last row there is none, however often one asks.
        connection.execute("DECLARE short CURSOR FOR SELECT 1")
        same([len(connection.execute("FETCH 5 FROM short").fetchall()) for _ in range(4)], [1, 0, 0, 0])
        with connection.cursor(name="held", withhold=True) as cursor:
            cursor.execute("SELECT name FROM spans WHERE duration_ns >= %s", (0,))
            connection.commit()
            same(len(cursor.fetchall()), SPANS)
        connection.execute("DECLARE gone CURSOR FOR SELECT 1")
        connection.commit()
        fails(connection, "34000", "FETCH 1 FROM gone")


def idle_cursors():
    """What nobody fetches holds no slot beyond the time limit, and what was sent of it before stays readable."""
    with connect() as idle, connect(autocommit=True) as other:
        idle.execute("SET statement_timeout = '2s'")
        idle.execute("DECLARE short CURSOR FOR SELECT 1")
        # As many as there are slots.
        for name in ("a", "b", "c", "d"):
            idle.execute(f"DECLARE {name} CURSOR FOR SELECT x.name FROM spans x, spans y, spans z")
        same(other.execute("SELECT count(*) FROM spans").fetchone(), (SPANS,))
        same(idle.execute("FETCH ALL FROM short").fetchall(), [(1,)])
        error = fails(idle, "57014", "FETCH ALL FROM a")
        assert "statement_timeout" in error.diag.message_hint, error.diag.message_hint


def executed():
    """Literals that `EXECUTE` gives are of the types that `PREPARE` declared."""
    moment = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
    with connect(autocommit=True) as connection:
        for number, (declared, literal, wanted) in enumerate([
            ("timestamptz", "'2026-01-31 14:00+02'", moment),
            ("timestamp", "'2026-01-31 12:00'", moment.replace(tzinfo=None)),
            ("date", "'2026-01-31'", moment.date()),
            ("time", "'12:00'", datetime.time(12)),
            ("interval", "'1 day 02:00'", datetime.timedelta(days=1, hours=2)),
            ("boolean", "'yes'", True),
            ("uuid", "'{A0EEBC999C0B4EF8BB6D6BB9BD380A11}'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("bigint", "-5", -5),
            ("text", "E'a\\tb'", "a\tb"),
        ]):
            connection.execute(f"PREPARE typed_{number} ({declared}) AS SELECT $1")
            same(connection.execute(f"EXECUTE typed_{number} ({literal})").fetchone(), (wanted,))
            fails(connection, "42601", f"EXECUTE typed_{number} ({literal}, {literal})")
            fails(connection, "42601", f"EXECUTE typed_{number}")
            if declared not in ("text", "bigint"):
                fails(connection, "22P02", f"EXECUTE typed_{number} ('soon')")
        for value in (moment, moment.replace(tzinfo=None), moment.date(), moment.time(), datetime.timedelta(hours=3)):
            for binary in (False, True):
                told = connection.cursor(binary=binary).execute("SELECT %b" if binary else "SELECT %t", (value,)).fetchone()[0]
                same(told, value)


def copies():
    with connect() as connection, connection.cursor() as cursor:
        def rows(options, types=None):
            with cursor.copy(f"COPY (SELECT name, duration_ns, start_time FROM spans) TO STDOUT {options}") as copy:
                if types:
                    copy.set_types(types)
                return list(copy.rows())

        def text(sql):
            with cursor.copy(sql) as copy:
                return b"".join(copy).decode()

        wanted = cursor.execute("SELECT name, duration_ns, start_time FROM spans").fetchall()
        same(sorted(rows("(FORMAT binary)", ["text", "int8", "timestamptz"])), sorted(wanted))
        same(sorted(row[:2] for row in rows("")), sorted((name, str(long)) for name, long, _ in wanted))
        same(text("COPY (SELECT 'a;b' AS x, NULL AS y, 'n' AS z) TO STDOUT (FORMAT csv, HEADER, DELIMITER ';', NULL 'n')"),
             'x;y;z\n"a;b";n;"n"\n')
        same(text("COPY (SELECT 1 AS x, 'b' AS y) TO STDOUT CSV FORCE QUOTE y DELIMITER AS E'\\t'"), '1\t"b"\n')
        fails(connection, "22023", "COPY (SELECT 1) TO STDOUT (DELIMITER 'xx')")


def described():
    """What asyncpg, pgx and other drivers of the binary form are told of parameters."""
    names = {16: "bool", 17: "bytea", 20: "int8", 23: "int4", 25: "text", 701: "float8", 1016: "int8[]", 1009: "text[]",
             1184: "timestamptz", 1186: "interval"}
    with connect(autocommit=True) as connection:
        for sql, wanted in [
            ("SELECT 1 = ANY($1), NOT $2, $3 * INTERVAL '1 s'", "int8[] bool float8"),
            ("SELECT count(*) FROM spans WHERE $1 OR name = ANY($2)", "bool text[]"),
            ("SELECT now() - $1 > INTERVAL '1 h', $2 IN (1, 2), $3 BETWEEN 1 AND 2", "timestamptz int8 int8"),
            ("SELECT coalesce($1, 1), CASE WHEN $2 THEN $3 ELSE 1.5 END", "int8 bool float8"),
            ("SELECT name FROM spans WHERE start_time > now() - $1 LIMIT $2", "interval int8"),
            ("SELECT coalesce(http_response_status_code, $1), substr(name, $2) FROM spans", "int4 int4"),
            ("SELECT encode($1, 'hex'), date_bin($2, $3, now())", "bytea interval timestamptz"),
        ]:
            same(connection.pgconn.prepare(b"d", sql.encode()).error_message, b"")
            told = connection.pgconn.describe_prepared(b"d")
            same((sql, " ".join(names[told.param_type(at)] for at in range(told.nparams))), (sql, wanted))
            connection.execute("DEALLOCATE d")
        # asyncpg asks so about every list but of text and object ids, and takes kinds and delimiters as bytes.
        connection.pgconn.prepare(b"a", b"WITH RECURSIVE typeinfo_tree(\n oid, depth) AS (SELECT 1, 0) SELECT * FROM typeinfo_tree")
        same(connection.pgconn.describe_prepared(b"a").param_type(0), 1028)
        answer = connection.pgconn.exec_prepared(b"a", [b"{1016,1005}"])
        told = [[answer.get_value(row, at) for at in (0, 2, 3, 5)] for row in range(answer.ntuples)]
        same(sorted(told), [[b"1005", b"_int2", b"\\x62", b"21"], [b"1016", b"_int8", b"\\x62", b"20"],
                            [b"20", b"int8", b"\\x62", b"0"], [b"21", b"int2", b"\\x62", b"0"]])
        # A value is sent as what was told, and the answer has the types that were announced.
        connection.pgconn.prepare(b"d", b"SELECT coalesce(http_response_status_code, $1), $1 + 0.5 FROM spans LIMIT 1")
        told = [connection.pgconn.describe_prepared(b"d").ftype(at) for at in range(2)]
        answer = connection.pgconn.exec_prepared(b"d", [(7).to_bytes(4, "big")], [1], 1)
        same([answer.ftype(at) for at in range(2)], told)
        same(len(answer.get_value(0, 0)), 4)
        same(connection.execute("SELECT -%s, 5-%s", (-2, -3)).fetchone(), (2, 8))
        connection.execute("PREPARE p (int, text[]) AS SELECT $1 + 1, $2")
        same(connection.execute("EXECUTE p (-3, '{a}')").fetchone(), (-2, ["a"]))
        same(connection.pgconn.prepare(b"e", b"SELECT 1 FROM spans WHERE duration_ns > $1 AND name = $1").error_message, b"")
        refused = connection.pgconn.describe_prepared(b"e").error_message.decode()
        assert "`$1` is used as" in refused and "`$1::" in refused, refused
        for text in ("1 hour 1 hour", "1 day 1:00 2 hours", "p1d", "1:60"):
            fails(connection, "22P02", "SELECT %s::interval", text)
        same(connection.execute("SELECT %s::interval", ("2h30m",)).fetchone()[0], datetime.timedelta(hours=2.5))


def transactions():
    with connect() as connection:
        same(connection.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
        connection.execute("SELECT 1")
        same(connection.info.transaction_status, psycopg.pq.TransactionStatus.INTRANS)
        fails(connection, "42703", "SELECT no_such_column FROM spans")
        same(connection.info.transaction_status, psycopg.pq.TransactionStatus.INERROR)
        fails(connection, "25P02", "SELECT 1")
        connection.rollback()
        same(connection.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
        with connection.transaction():
            try:
                with connection.transaction():
                    connection.execute("SELECT no_such_column FROM spans")
            except psycopg.Error:
                pass
            same(connection.execute("SELECT 2").fetchone(), (2,))


def errors():
    with connect(autocommit=True) as connection:
        error = fails(connection, "42703", "SELECT 1, nme FROM spans")
        same(error.diag.statement_position, "11")
        assert "name" in error.diag.message_hint, error.diag.message_hint
        for code, sql in [
            ("42P01", "SELECT * FROM spanz"),
            ("42601", "SELECT 1 +"),
            ("25006", "INSERT INTO spans VALUES (1)"),
            ("25006", "CREATE TABLE a (b INT)"),
            ("0A000", "COPY spans FROM STDIN"),
            ("0A000", "SELECT * FROM generate_series(1, 1000000000000)"),
            ("0A000", "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 1 FROM a) SELECT * FROM a"),
            ("42704", "SET no_such_setting = 1"),
            ("22023", "SET client_encoding = 'LATIN1'"),
            ("26000", "EXECUTE nothing"),
            ("34000", "FETCH 1 FROM nothing"),
        ]:
            fails(connection, code, sql)
        fails(connection, "22P02", "SELECT count(*) FROM spans WHERE duration_ns > %s", "not a number")
        connection.execute("SET TIME ZONE 'Europe/Berlin'")
        same(connection.execute("SHOW timezone").fetchone(), ("UTC",))
        connection.execute("SET statement_timeout = '250ms'")
        began = time.monotonic()
        error = fails(connection, "57014", HEAVY)
        assert "statement_timeout" in error.diag.message_hint, error.diag.message_hint
        assert time.monotonic() - began < 10, "the limit is kept"
        connection.execute("RESET statement_timeout")
        connection.execute("DISCARD ALL")


HEAVY = "SELECT count(*) FROM spans a, spans b, spans c WHERE a.duration_ns + b.duration_ns + c.duration_ns < 0"


def cancelling():
    with connect(autocommit=True) as connection:
        done = threading.Event()

        def cancel():
            # A request that comes before the statement runs cancels nothing: so it is sent until it does.
            while not done.wait(0.1):
                connection.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            fails(connection, "57014", HEAVY)
        finally:
            done.set()
            canceller.join()
        same(connection.execute("SELECT 1").fetchone(), (1,))


def first_row():
    """Told, not asserted: how fast a row comes is for a quiet machine to say."""
    took = []
    for _ in range(50):
        began = time.perf_counter()
        connection = connect(autocommit=True)
        connected = time.perf_counter()
        connection.execute("SELECT name FROM spans LIMIT 1").fetchone()
        took.append((connected - began, time.perf_counter() - connected))
        connection.close()
    connects, rows = sorted(t[0] for t in took), sorted(t[1] for t in took)
    print(f"connect p50 {connects[25] * 1e3:.1f} ms, first row after it p50 {rows[25] * 1e3:.1f} ms p90 {rows[45] * 1e3:.1f} ms")


if __name__ == "__main__":
    for check in (types, tables, parameters, executed, cursors, idle_cursors, copies, described, transactions, errors, cancelling, first_row):
        check()
        print(check.__name__)
    print("all is well")
