"""Statements that cannot be answered, over HTTP, the Postgres protocol and Flight SQL: each face says the same sentence.

The server's `query.timeout` is short, its `query.concurrency` small, and it flushes often. Ends with "all is well". Needs PLIMSOLL_API,
PLIMSOLL_POSTGRES_PORT, PLIMSOLL_FLIGHT, PLIMSOLL_DATA (the data directory) and PLIMSOLL_SPANS.
"""

import concurrent.futures
import glob
import json
import os
import sqlite3
import time
import urllib.error
import urllib.request

import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import psycopg

API = os.environ["PLIMSOLL_API"]
PORT = os.environ["PLIMSOLL_POSTGRES_PORT"]
URI = "grpc://" + os.environ["PLIMSOLL_FLIGHT"]
DATA = os.environ["PLIMSOLL_DATA"]
SPANS = int(os.environ["PLIMSOLL_SPANS"])

ENDLESS = "SELECT count(*) FROM spans a, spans b, spans c, spans d WHERE a.duration_ns + b.duration_ns + c.duration_ns + d.duration_ns < 0"
DEEP = "SELECT " + "(" * 60 + "1" + ")" * 60
CHAINED = "SELECT " + " + ".join(["1"] * 600)
# What is asked, and a part of the sentence that is told.
MISTAKES = [
    (ENDLESS, "raise `query.timeout`"),
    ("SELECT * FROM generate_series(1, 1000000000000)", "`generate_series` is not allowed"),
    ("SELECT * FROM range(1, 1000000000000)", "`range` is not allowed"),
    (DEEP, "nested 60 deep, at most 48"),
    (CHAINED, "has 599 operators, at most 500"),
    ("WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n) SELECT * FROM n", "`WITH RECURSIVE` is not allowed"),
    ("SELECT nme FROM spans", "unknown column `nme`: did you mean `name`?"),
    ("SELECT s.servce_name FROM spans s", "did you mean `service_name`?"),
    ("SELECT * FROM spnas", "unknown table `spnas`: did you mean `spans`?"),
    ("SELECT conut(*) FROM spans", "did you mean `count`?"),
    ("SELECT duration_ns + name FROM spans", "cast one side, for instance `x::double`"),
    ("SELECT sum(name) FROM spans", "cast the argument"),
    ("SELECT CAST(name AS INT) FROM spans", "`TRY_CAST(x AS ..)` gives null instead"),
    ("SELECT count(*) FROM spans WHERE start_time > 'yesterday'", "write a time like"),
    ("SELECT 1 / 0", "divide by zero"),
    ("INSERT INTO spans VALUES (1)", "SQL only reads here"),
    ("SELECT * FROM '/etc/passwd'", "unknown table"),
    ("SELEC 1", "SELEC"),
]


def http(sql, **more):
    """Returns the status and the sentence, or the rows."""
    body = json.dumps({"query": sql, **more}).encode()
    request = urllib.request.Request(f"{API}/api/v1/sql", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)["rows"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["detail"]


def postgres(sql):
    with psycopg.connect(host="127.0.0.1", port=PORT, user="me", dbname="plimsoll", autocommit=True) as connection:
        try:
            # Not taken for a copy by the driver, and without parameters not prepared.
            return connection.execute(sql).fetchall()
        except psycopg.Error as error:
            told = error.diag.message_primary or str(error)
            return told + (f": {error.diag.message_hint}" if error.diag.message_hint else "")


def over_flight(sql):
    with flight.connect(URI, autocommit=True) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(sql)
            return cursor.fetchall()
        except (adbc_driver_manager.Error, OSError) as error:
            return str(error)


def sentences():
    for sql, wanted in MISTAKES:
        status, told = http(sql)
        assert 400 <= status < 500 or status == 504, (sql[:80], status, told)
        assert wanted in told, (sql[:80], told)
        for other in (postgres(sql), over_flight(sql)):
            assert isinstance(other, str) and wanted in other, (sql[:80], wanted, other)


def long_text():
    long = "SELECT '" + "x" * (10 << 20) + "'"
    status, told = http(long)
    assert status in (413, 422) and "10485769 bytes, at most 1048576" in told, (status, told)
    for told in (postgres(long), over_flight(long)):
        assert isinstance(told, str), "ten megabytes of text were answered"


def many_at_once():
    """A hundred at once: each is answered or told to come again, and then the server answers as before."""
    asks = [lambda: http(ENDLESS)[1]] * 40 + [lambda: postgres(ENDLESS)] * 30 + [lambda: over_flight(ENDLESS)] * 30
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        told = list(pool.map(lambda ask: ask(), asks))
    for one in told:
        assert isinstance(one, str) and ("`query.timeout`" in one or "`query.concurrency`" in one), one
    same_count()


def same_count():
    for told in (http("SELECT count(*) FROM spans")[1], postgres("SELECT count(*) FROM spans"), over_flight("SELECT count(*) FROM spans")):
        assert [list(row) for row in told] == [[SPANS]], told


def locked_catalog():
    """Another process that writes to the catalog and does not end: reading goes on, or says what is in the way."""
    blocker = sqlite3.connect(os.path.join(DATA, "catalog.db"), timeout=30, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        for told in (http("SELECT count(*) FROM deploys")[1], postgres("SELECT count(*) FROM deploys")):
            assert isinstance(told, list) or "catalog" in told, told
        same_count()
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    same_count()


def damaged_segment():
    """The same sentence, with the path, over each face; the rest only for who asks for it."""
    written = "SELECT coalesce(sum(rows), 0)::bigint FROM plimsoll.segments WHERE table_name = 'spans'"
    give_up = time.monotonic() + 60
    while http(written)[1] != [[SPANS]]:
        assert time.monotonic() < give_up, "spans are in no segment yet"
        time.sleep(0.2)
    segments = glob.glob(os.path.join(DATA, "segments/spans/*/*.parquet"))
    for path in segments:
        with open(path, "r+b") as file:
            file.seek(4)
            file.write(b"\x55" * (os.path.getsize(path) // 2))
    sql = "SELECT name, attributes FROM spans"
    status, told = http(sql)
    assert status >= 500, (status, told)
    for one in (told, postgres(sql), over_flight(sql)):
        assert isinstance(one, str) and "cannot be read" in one and any(os.path.basename(path) in one for path in segments), one
    status, rows = http(sql, allow_missing_segments=True)
    assert status == 200 and len(rows) < SPANS, (status, len(rows))


if __name__ == "__main__":
    for check in (sentences, long_text, many_at_once, locked_catalog, damaged_segment):
        check()
        print(check.__name__)
    print("all is well")
