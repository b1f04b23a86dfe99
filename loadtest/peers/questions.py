"""Asks another engine the questions that `plimsoll-loadtest questions` asks Plimsoll, and prints how long each answer took.

Takes one JSON object on standard input: engine, segments (directory), state (directory to keep tables in), threads, rounds,
setup (statements), questions (name, sql); prints one: for each question its rows, the first of them, its times and its processor time in
milliseconds, and the seconds that setting up took.
"""

import json
import os
import sys
import time


def duckdb_runner(order):
    import duckdb

    connection = duckdb.connect(config={"threads": order["threads"]})
    connection.execute("SET TimeZone = 'UTC'")
    return connection.execute, lambda sql: connection.execute(sql).fetchall()


def clickhouse_runner(order):
    from chdb import session

    os.makedirs(order["state"], exist_ok=True)
    connection = session.Session(order["state"])
    limits = f" SETTINGS max_threads = {order['threads']}"

    def ask(sql):
        answer = connection.query(sql + limits, "JSONCompactEachRow")
        return [json.loads(line) for line in str(answer).splitlines() if line]

    return lambda sql: connection.query(sql), ask


def main():
    order = json.load(sys.stdin)
    run, ask = {"duckdb": duckdb_runner, "clickhouse": clickhouse_runner}[order["engine"]](order)
    began = time.perf_counter()
    for statement in order["setup"]:
        run(statement)
    report = {"setup_seconds": time.perf_counter() - began, "answers": []}
    for question in order["questions"]:
        times, rows = [], []
        for at in range(order["rounds"] + 1):
            began = time.perf_counter()
            rows = ask(question["sql"])
            # The first round warms, unless it is the only one.
            if at > 0 or order["rounds"] == 0:
                times.append((time.perf_counter() - began) * 1000)
            if at == 0:
                used = time.process_time()
        cpu = (time.process_time() - used) * 1000 / max(order["rounds"], 1)
        report["answers"].append({"name": question["name"], "rows": len(rows), "first": str(rows[:1]), "times_ms": times, "cpu_ms": cpu})
        print(f"{order['engine']} {question['name']}: {min(times):.1f} ms, {cpu:.1f} of processor time", file=sys.stderr)
    json.dump(report, sys.stdout)


main()
