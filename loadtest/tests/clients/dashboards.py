"""What dashboards ask before and while they draw: the catalogue, and time series with their macros filled in.

Ends with "all is well". Needs PLIMSOLL_POSTGRES_PORT and PLIMSOLL_SPANS.
"""

import datetime
import os

import psycopg

PORT = os.environ["PLIMSOLL_POSTGRES_PORT"]
SPANS = int(os.environ["PLIMSOLL_SPANS"])

# Which schemas unqualified names are looked for in, as Grafana writes it.
SEARCH_PATH = """
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(
             array_lower(string_to_array(current_setting('search_path'),','),1),
             array_upper(string_to_array(current_setting('search_path'),','),1)
         ) as i,
         string_to_array(current_setting('search_path'),',') s
"""

# Each query with what its answer must hold; rows are compared as texts.
CATALOGUE = {
    "tables, Grafana": (
        f"""SELECT quote_ident(table_name) AS "table" FROM information_schema.tables
            WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache')
              AND quote_ident(table_schema) IN ({SEARCH_PATH}) ORDER BY 1""",
        "spans",
    ),
    "columns, Grafana": (
        """SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns
           WHERE quote_ident(table_name) = 'spans'""",
        "timestamp with time zone",
    ),
    "version, Grafana": ("SELECT current_setting('server_version_num')::int/100 AS version", "1500"),
    "extension, Grafana": ("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'", None),
    "tables, Metabase": (
        """SELECT n.nspname AS schema, c.relname AS name,
                  CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END AS type,
                  d.description AS description, stat.n_live_tup AS estimated_row_count
           FROM pg_catalog.pg_class AS c
           INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
           LEFT JOIN pg_catalog.pg_description AS d
                  ON c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass
           LEFT JOIN pg_stat_user_tables AS stat ON n.nspname = stat.schemaname AND c.relname = stat.relname
           WHERE c.relnamespace = n.oid AND n.nspname !~ '^information_schema|catalog_history|pg_'
             AND c.relkind IN ('r', 'p', 'v', 'f', 'm') ORDER BY type, schema, name""",
        "spans",
    ),
    "columns, Metabase": (
        """SELECT c.column_name AS name, c.udt_name AS "database-type", c.ordinal_position - 1 AS "database-position",
                  c.table_schema AS "table-schema", c.table_name AS "table-name", pk.column_name IS NOT NULL AS "pk?",
                  col_description(CAST(CAST(format('%I.%I', CAST(c.table_schema AS TEXT), CAST(c.table_name AS TEXT))
                                  AS REGCLASS) AS OID), c.ordinal_position) AS "field-comment"
           FROM information_schema.columns AS c
           LEFT JOIN (SELECT tc.table_schema, tc.table_name, kc.column_name
                      FROM information_schema.table_constraints AS tc
                      INNER JOIN information_schema.key_column_usage AS kc
                              ON tc.constraint_name = kc.constraint_name AND tc.table_schema = kc.table_schema
                      WHERE tc.constraint_type = 'PRIMARY KEY') AS pk
                  ON c.table_schema = pk.table_schema AND c.table_name = pk.table_name AND c.column_name = pk.column_name
           WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND c.table_name = 'spans'
           ORDER BY "table-schema", "table-name", "database-position" """,
        "timestamptz",
    ),
    "rights, Metabase": (
        """WITH table_privileges AS (
             SELECT NULL AS role, t.schemaname AS schema, t.objectname AS table,
                    pg_catalog.has_any_column_privilege(current_user, t.objectname, 'update') AS update,
                    pg_catalog.has_any_column_privilege(current_user, t.objectname, 'select') AS select
             FROM (SELECT schemaname, tablename AS objectname FROM pg_catalog.pg_tables
                   UNION SELECT schemaname, viewname FROM pg_catalog.pg_views
                   UNION SELECT schemaname, matviewname FROM pg_catalog.pg_matviews) t
             WHERE t.schemaname !~ '^pg_' AND t.schemaname <> 'information_schema'
               AND pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage'))
           SELECT t.* FROM table_privileges t WHERE t.select OR t.update""",
        "spans",
    ),
    "schemas, JDBC": (
        """SELECT nspname AS TABLE_SCHEM, current_database() AS TABLE_CATALOG FROM pg_catalog.pg_namespace
           WHERE nspname <> 'pg_toast' AND (nspname !~ '^pg_temp_' OR nspname = (pg_catalog.current_schemas(true))[1])
           ORDER BY TABLE_SCHEM""",
        "public",
    ),
    "tables, JDBC": (
        """SELECT current_database() AS "TABLE_CAT", n.nspname AS "TABLE_SCHEM", c.relname AS "TABLE_NAME",
                  CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema'
                    WHEN true THEN CASE WHEN n.nspname = 'pg_catalog' OR n.nspname = 'information_schema'
                      THEN CASE c.relkind WHEN 'r' THEN 'SYSTEM TABLE' WHEN 'v' THEN 'SYSTEM VIEW' ELSE NULL END
                      ELSE NULL END
                    WHEN false THEN CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END
                    ELSE NULL END AS "TABLE_TYPE", d.description AS "REMARKS", '' AS "TYPE_CAT", '' AS "TYPE_SCHEM"
           FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c
                LEFT JOIN pg_catalog.pg_description d
                       ON (c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass)
           WHERE c.relnamespace = n.oid AND c.relname LIKE 'spa%'
             AND (false OR (c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
                        OR (c.relkind = 'v' AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'))
           ORDER BY "TABLE_TYPE", "TABLE_SCHEM", "TABLE_NAME" """,
        "span_events|VIEW",
    ),
    "columns, JDBC": (
        """SELECT * FROM (SELECT current_database() AS current_database, n.nspname, c.relname, a.attname, a.atttypid,
                  a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull, a.atttypmod, a.attlen, t.typtypmod,
                  row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum,
                  nullif(a.attidentity, '') AS attidentity, nullif(a.attgenerated, '') AS attgenerated,
                  pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc, dsc.description, t.typbasetype, t.typtype
           FROM pg_catalog.pg_namespace n
           JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid)
           JOIN pg_catalog.pg_attribute a ON (a.attrelid = c.oid)
           JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid)
           LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid = def.adrelid AND a.attnum = def.adnum)
           LEFT JOIN pg_catalog.pg_description dsc ON (c.oid = dsc.objoid AND a.attnum = dsc.objsubid)
           LEFT JOIN pg_catalog.pg_class dc ON (dc.oid = dsc.classoid AND dc.relname = 'pg_class')
           LEFT JOIN pg_catalog.pg_namespace dn ON (dc.relnamespace = dn.oid AND dn.nspname = 'pg_catalog')
           WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND a.attnum > 0 AND NOT a.attisdropped
             AND c.relname LIKE 'logs') c WHERE true ORDER BY nspname, c.relname, attnum""",
        "severity_text",
    ),
    "primary keys, JDBC": (
        """SELECT result.TABLE_CAT, result.TABLE_SCHEM, result.TABLE_NAME, result.COLUMN_NAME, result.KEY_SEQ, result.PK_NAME
           FROM (SELECT current_database() AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME,
                        a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ,
                        ci.relname AS PK_NAME, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM
                 FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
                 JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid)
                 JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid)
                 JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid)
                 WHERE true AND ct.relname = 'spans' AND i.indisprimary) result
           WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_name, result.pk_name, result.key_seq""",
        None,
    ),
    "type, JDBC": ("SELECT typname FROM pg_catalog.pg_type WHERE oid = 1184", "timestamptz"),
    "name length, JDBC": (
        "SELECT t.typlen FROM pg_catalog.pg_type t, pg_catalog.pg_namespace n "
        "WHERE t.typnamespace = n.oid AND t.typname = 'name' AND n.nspname = 'pg_catalog'",
        "64",
    ),
    "index keys, JDBC": ("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'", "32"),
}


def catalogue(connection):
    wrong = []
    for name, (sql, wanted) in CATALOGUE.items():
        try:
            rows = connection.execute(sql).fetchall()
        except psycopg.Error as error:
            wrong.append(f"{name}: {error}")
            continue
        told = "\n".join("|".join(map(str, row)) for row in rows)
        if wanted is None:
            if rows:
                wrong.append(f"{name}: there should be no rows:\n{told}")
        elif wanted not in told:
            wrong.append(f"{name}: `{wanted}` is not in\n{told}")
    assert not wrong, "\n\n".join(wrong)


def panels(connection):
    now = datetime.datetime.now(datetime.timezone.utc)
    span = datetime.timedelta(days=7)
    since, until = ((now + d).isoformat(timespec="milliseconds").replace("+00:00", "Z") for d in (-span, span))
    # $__timeFilter(start_time), $__timeGroup(start_time, '1m') and $__interval as Grafana fills them in.
    series = connection.execute(f"""
        SELECT floor(extract(epoch from start_time)/60)*60 AS "time", service_name AS metric, count(*) AS value
        FROM spans WHERE start_time BETWEEN '{since}' AND '{until}' GROUP BY 1, 2 ORDER BY 1, 2
    """).fetchall()
    assert series and sum(row[2] for row in series) == SPANS, series[:5]
    assert all(float(row[0]) % 60 == 0 for row in series), series[:5]
    aliased = connection.execute(f"""
        SELECT to_timestamp(floor(extract(epoch from start_time)/300)*300) AS "time", avg(duration_ns) / 1e6 AS "mean, ms"
        FROM spans WHERE start_time >= '{since}' AND start_time <= '{until}' GROUP BY 1 ORDER BY 1
    """).fetchall()
    assert aliased and isinstance(aliased[0][0], datetime.datetime), aliased[:3]
    # Metabase: grouped by a part of the time, filtered by a date.
    days = connection.execute(f"""
        SELECT DATE_TRUNC('day', "public"."spans"."start_time") AS "start_time", COUNT(*) AS "count"
        FROM "public"."spans" WHERE "public"."spans"."start_time" >= timestamp with time zone '{since[:10]} 00:00:00.000Z'
        GROUP BY DATE_TRUNC('day', "public"."spans"."start_time")
        ORDER BY DATE_TRUNC('day', "public"."spans"."start_time") ASC
    """).fetchall()
    assert sum(row[1] for row in days) == SPANS, days


if __name__ == "__main__":
    with psycopg.connect(host="127.0.0.1", port=PORT, user="grafana", dbname="plimsoll", autocommit=True) as connection:
        # As these programs do on each new connection.
        connection.execute("SET extra_float_digits = 3")
        connection.execute("SET application_name = 'PostgreSQL JDBC Driver'")
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
        catalogue(connection)
        panels(connection)
    print("all is well")
