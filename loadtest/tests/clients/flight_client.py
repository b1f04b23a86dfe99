"""ADBC's Flight SQL driver, and what reads the Arrow that it brings: pyarrow and DuckDB.

Ends with "all is well". Needs PLIMSOLL_FLIGHT and PLIMSOLL_SPANS.
"""

import datetime
import os
import threading
import time

import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import duckdb
import pyarrow

URI = "grpc://" + os.environ["PLIMSOLL_FLIGHT"]
SPANS = int(os.environ["PLIMSOLL_SPANS"])
HEAVY = "SELECT count(*) FROM spans a, spans b, spans c WHERE a.duration_ns + b.duration_ns + c.duration_ns < 0"


def same(told, wanted):
    assert told == wanted, f"{told!r} is not {wanted!r}"


def fails(cursor, word, sql, parameters=None):
    try:
        cursor.execute(sql, parameters)
        cursor.fetchall()
    except (adbc_driver_manager.Error, OSError, pyarrow.ArrowException) as error:
        assert word in str(error), f"`{word}` is not in {error}"
        return
    raise AssertionError(f"{sql} should have failed")


def queries(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM spans")
        same(cursor.fetchone(), (SPANS,))
        cursor.execute("SELECT * FROM spans")
        rows = cursor.fetch_arrow_table()
        same(rows.num_rows, SPANS)
        same(rows.schema.field("start_time").type, pyarrow.timestamp("ns", "UTC"))
        for name in ("span_events", "span_links", "logs", "metrics", "operations", "deploys", "plimsoll.segments"):
            cursor.execute(f"SELECT * FROM {name} LIMIT 100")
            cursor.fetch_arrow_table().validate(full=True)
        told = duckdb.sql("SELECT count(*), count(DISTINCT trace_id), max(duration_ns) FROM rows").fetchall()[0]
        cursor.execute("SELECT count(*), count(DISTINCT trace_id), max(duration_ns) FROM spans")
        same(told, cursor.fetchone())
        # As a stream, without the whole of it in memory.
        cursor.execute("SELECT name, duration_ns FROM spans")
        reader = cursor.fetch_record_batch()
        same(duckdb.sql("SELECT count(*) FROM reader").fetchall()[0], (SPANS,))


def parameters(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, min(duration_ns), max(duration_ns) FROM spans GROUP BY 1 ORDER BY 1 LIMIT 1")
        name, low, high = cursor.fetchone()
        for sql, values in [
            ("SELECT count(*) FROM spans WHERE name = $1", (name,)),
            ("SELECT count(*) FROM spans WHERE name = $1 AND duration_ns BETWEEN $2 AND $3", (name, low, high)),
        ]:
            cursor.execute(sql, values)
            found = cursor.fetchone()[0]
            assert 0 < found <= SPANS, (sql, found)
        week = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=7)
        cursor.execute("SELECT count(*) FROM spans WHERE start_time > $1", (week,))
        same(cursor.fetchone(), (SPANS,))
        cursor.execute("SELECT $1 + 1, $2", (41, "x"))
        same(cursor.fetchone(), (42, "x"))
        # Prepared once, run with several values.
        for value in (name, "no such name"):
            cursor.execute("SELECT count(*) FROM spans WHERE name = $1", (value,))
            same(cursor.fetchone()[0] > 0, value == name)


def catalogue(connection):
    objects = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
    same([catalog["catalog_name"] for catalog in objects], ["plimsoll"])
    schemas = {schema["db_schema_name"]: schema["db_schema_tables"] for schema in objects[0]["catalog_db_schemas"]}
    tables = {table["table_name"]: table for table in schemas["public"]}
    assert {"spans", "logs", "metrics", "deploys"} <= set(tables), sorted(tables)
    same(tables["spans"]["table_type"], "TABLE")
    assert "trace_id" in {column["column_name"] for column in tables["spans"]["table_columns"]}
    assert "TABLE" in connection.adbc_get_table_types()
    schema = connection.adbc_get_table_schema("logs", db_schema_filter="public")
    assert "severity_text" in schema.names, schema
    with connection.cursor() as cursor:
        # The schema of an answer, without the answer.
        told = cursor.adbc_execute_schema("SELECT name, duration_ns FROM spans")
        same([(field.name, str(field.type)) for field in told], [("name", "string"), ("duration_ns", "int64")])
    info = connection.adbc_get_info()
    same(info["vendor_name"], "Plimsoll")


def errors(connection):
    with connection.cursor() as cursor:
        fails(cursor, "did you mean `name`", "SELECT nme FROM spans")
        fails(cursor, "SQL only reads here", "INSERT INTO spans VALUES (1)")
        fails(cursor, "is not allowed", "SELECT * FROM generate_series(1, 1000000000000)")
        # None of these did harm.
        cursor.execute("SELECT 1")
        same(cursor.fetchone(), (1,))


def cancelling(connection):
    with connection.cursor() as cursor:
        ended = threading.Event()
        told = []

        def run():
            try:
                cursor.execute(HEAVY)
                cursor.fetchall()
            except Exception as error:
                told.append(str(error))
            ended.set()

        threading.Thread(target=run).start()
        while not ended.wait(0.2):
            cursor.adbc_cancel()
        assert told and "ancel" in told[0], told


def first_row():
    """Told, not asserted: how fast a row comes is for a quiet machine to say."""
    took = []
    for _ in range(20):
        with flight.connect(URI) as connection, connection.cursor() as cursor:
            began = time.perf_counter()
            cursor.execute("SELECT name FROM spans LIMIT 1")
            cursor.fetchone()
            took.append(time.perf_counter() - began)
    took.sort()
    print(f"first row after connect p50 {took[10] * 1e3:.1f} ms p90 {took[18] * 1e3:.1f} ms")


if __name__ == "__main__":
    with flight.connect(URI, autocommit=True) as connection:
        for check in (queries, parameters, catalogue, errors, cancelling):
            check(connection)
            print(check.__name__)
    first_row()
    print("all is well")
