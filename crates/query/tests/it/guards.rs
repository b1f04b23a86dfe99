//! Statements that must not run.

use std::time::{Duration, Instant};

use plimsoll_query::{QueryError, QueryRequest, SqlEngine};

use crate::fixture::Shop;

const REFUSED: &[&str] = &[
    "CREATE TABLE t (a INT)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "DROP TABLE spans",
    "DROP VIEW spans",
    "ALTER TABLE spans ADD COLUMN a INT",
    "INSERT INTO spans VALUES (1)",
    "INSERT INTO deploys SELECT * FROM deploys",
    "UPDATE spans SET name = 'x'",
    "DELETE FROM spans",
    "TRUNCATE TABLE spans",
    "COPY spans TO '/tmp/stolen.parquet'",
    "COPY (SELECT * FROM spans) TO '/tmp/stolen.csv' STORED AS CSV",
    "SET datafusion.execution.batch_size = 1",
    "RESET datafusion.execution.batch_size",
    "SHOW ALL",
    "SELECT * INTO t FROM spans",
    "WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n) SELECT * FROM n",
    "SELECT * FROM generate_series(1, 1000000000000)",
    "SELECT * FROM range(1, 1000000000000)",
    "SELECT generate_series(1, 1000000000)",
    "SELECT unnest(range(1, 1000000000))",
    "SELECT repeat('x', 2000000000)",
    "SELECT lpad('x', 2000000000, 'y')",
    "SELECT array_repeat(1, 1000000000)",
    "EXPLAIN ANALYZE INSERT INTO spans VALUES (1)",
    "EXPLAIN COPY spans TO '/tmp/stolen.csv'",
    "BEGIN",
    "COMMIT",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SELECT * FROM spans FOR UPDATE",
    "GRANT ALL ON spans TO everyone",
    "KILL 1",
    "SET TIME ZONE 'UTC'",
    "ANALYZE spans",
    "LOAD 'library'",
    "CALL f()",
    "DECLARE c CURSOR FOR SELECT 1",
    "MERGE INTO spans USING logs ON true WHEN MATCHED THEN DELETE",
    "ATTACH DATABASE 'x' AS y",
    "EXPLAIN SET datafusion.execution.batch_size = 1",
    "SELECT * FROM unnest(generate_series(1, 1000000000000))",
    "USE other",
    "VACUUM",
];

const INVALID: &[&str] = &[
    "",
    ";",
    "SELECT",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE spans",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'segments/spans.parquet'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM other.public.spans",
    "SELECT pg_sleep(100)",
    "SELECT ?",
    "SELECT '",
    "SELECT \u{0} FROM spans",
];

#[tokio::test]
async fn statements_that_write_or_never_end_are_refused_in_words() {
    let shop = Shop::open().await;
    for sql in REFUSED {
        let error = shop.error(sql).await;
        let text = error.to_string();
        assert!(matches!(error, QueryError::Refused(_) | QueryError::Invalid(_)), "{sql}: {error:?}");
        assert!(!text.ends_with('.') && !text.is_empty(), "{sql}: {text}");
    }
    let refused = REFUSED.iter().take(30);
    for sql in refused {
        assert!(matches!(shop.error(sql).await, QueryError::Refused(_)), "{sql}: {:?}", shop.error(sql).await);
    }
    assert_eq!(shop.rows("SELECT * FROM spans").await, Ok(20), "nothing was changed");
}

#[tokio::test]
async fn statements_that_make_no_sense_are_invalid_and_nothing_reads_a_file() {
    let shop = Shop::open().await;
    for sql in INVALID {
        let error = shop.error(sql).await;
        assert!(matches!(error, QueryError::Invalid(_)), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn words_that_chain_are_counted_and_so_are_calls_in_disguise() {
    let shop = Shop::open().await;
    for (link, times) in [
        (" IN (1)", 1_500),
        (" AT TIME ZONE 'UTC'", 1_500),
        (" XOR true", 1_500),
        (" MINUS SELECT 1", 1_500),
        (" REGEXP 'a'", 1_500),
        (" SIMILAR TO 'a'", 1_500),
        (" COLLATE a", 1_500),
        ("^1", 400),
        (" AT TIME ZONE 'UTC'", 100),
        ("::varchar(3)", 200),
        ("::uuid", 200),
    ] {
        let error = shop.error(&format!("SELECT 1{}", link.repeat(times))).await;
        assert!(matches!(error, QueryError::Refused(_)), "{link}: {error:?}");
    }
    let hidden =
        format!(r#"WITH t AS (SELECT 1 AS "case", 1 AS "when") SELECT t.case{} FROM t"#, "+t.when".repeat(1_900));
    assert!(matches!(shop.error(&hidden).await, QueryError::Refused(_)), "names are not words of the language");
    let nested =
        format!(r#"WITH t AS (SELECT 1 AS "end") SELECT {}1{} FROM t"#, "power(t.end, ".repeat(60), ")".repeat(60));
    assert!(matches!(shop.error(&nested).await, QueryError::Refused(_)), "nor do they close anything");
    let within = |depth: usize| {
        (0..depth).fold("7".to_owned(), |set, n| {
            format!("SELECT n FROM (VALUES (1), (2)) a{n}(n) WHERE nullif(n, 1) NOT IN ({set}) OR n = 100")
                .replace("(7)", "(SELECT 7)")
        })
    };
    let error = shop.error(&within(7)).await;
    assert!(
        matches!(error, QueryError::Refused(_)),
        "a subquery that is asked for null is planned three times: {error:?}"
    );
    shop.rows(&within(2)).await.expect("two of them are no matter");
    for fine in [
        format!("SELECT {} FROM spans LIMIT 1", vec!["duration_ns::double ^ 2"; 100].join(" + ")),
        format!(
            "SELECT {} FROM spans LIMIT 1",
            (0..100).map(|n| format!("name::varchar(3) AS c{n}")).collect::<Vec<_>>().join(", ")
        ),
        format!("SELECT count(*) FROM spans WHERE {}", vec!["duration_ns::double ^ 2 > 1"; 60].join(" AND ")),
        "SELECT start_time AT TIME ZONE 'Europe/Oslo' AT TIME ZONE 'UTC' FROM spans LIMIT 1".to_owned(),
    ] {
        shop.rows(&fine).await.unwrap_or_else(|error| panic!("{}: {error}", &fine[..60]));
    }
}

#[tokio::test]
async fn deep_and_long_statements_are_refused_before_they_are_parsed() {
    let shop = Shop::open().await;
    let deep = [
        format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT -1{}", " - -1".repeat(9_000)),
        format!("SELECT {}true", "NOT ".repeat(9_000)),
        format!("SELECT 1{}", " + 1".repeat(9_000)),
        format!("SELECT {}1{}", "[".repeat(5_000), "]".repeat(5_000)),
        format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(500), " END".repeat(500)),
        format!("SELECT * FROM {}spans{}", "(SELECT * FROM ".repeat(200), ")".repeat(200)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(3_000)),
    ];
    for sql in &deep {
        let error = shop.error(sql).await;
        assert!(matches!(error, QueryError::Refused(_) | QueryError::Invalid(_)), "{}: {error:?}", &sql[..40]);
    }
    for length in [70_000, 10 << 20] {
        let long = format!("SELECT '{}'", "x".repeat(length));
        let began = Instant::now();
        assert!(matches!(shop.error(&long).await, QueryError::Exceeded(_)));
        assert!(began.elapsed() < Duration::from_secs(1), "not even read: {:?}", began.elapsed());
    }
    let wide = format!("SELECT count(*) FROM spans WHERE duration_ns IN ({})", vec!["7"; 10_000].join(","));
    assert_eq!(shop.csv(&wide).await.as_deref(), Ok("0\n"), "a long list is fine");
    let chain = format!("SELECT 1{}", " + 1".repeat(400));
    assert_eq!(shop.csv(&chain).await.as_deref(), Ok("401\n"), "so is a chain within bounds");
}

#[tokio::test]
async fn allowed_forms_run() {
    let shop = Shop::open().await;
    for sql in [
        "SELECT 1",
        "VALUES (1), (2)",
        "WITH a AS (SELECT * FROM spans) SELECT count(*) FROM a",
        "SHOW TABLES",
        "DESCRIBE spans",
        "SHOW COLUMNS FROM spans",
        "EXPLAIN FORMAT TREE SELECT 1",
        "SELECT * FROM plimsoll.queries",
        "SELECT md5('x'), sha256('x')",
        "EXPLAIN SELECT * FROM spans",
        "EXPLAIN ANALYZE SELECT * FROM spans",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM spans s JOIN logs l ON s.trace_id = l.trace_id",
        "SELECT 1;",
    ] {
        assert!(shop.rows(sql).await.is_ok_and(|rows| rows > 0), "{sql}: {:?}", shop.rows(sql).await);
    }
}

#[tokio::test]
async fn arbitrary_text_is_answered_and_never_fells_the_engine() {
    let shop = Shop::open().await;
    let words = [
        "SELECT",
        "FROM",
        "spans",
        "(",
        ")",
        "'",
        "$1",
        "[",
        "]",
        ",",
        "*",
        "WHERE",
        "=",
        "1",
        "\"",
        "--",
        "/*",
        "UNION",
        "attributes",
    ];
    let mut state = 7_u64;
    for _ in 0..400 {
        let mut sql = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sql.push_str(words[(state >> 33) as usize % words.len()]);
            sql.push(' ');
        }
        if let Err(error) = shop.engine.query(QueryRequest::new(sql.clone())).await {
            assert!(!matches!(error, QueryError::Unreadable(_)), "{sql}: {error:?}");
        }
    }
    assert_eq!(shop.rows("SELECT * FROM spans").await, Ok(20));
}

/// `levels` queries, each of which uses a column of the one inside it twice.
fn doubled(levels: usize, innermost: &str) -> String {
    let names: String =
        (1..levels).map(|level| format!(", a{level} AS (SELECT x + x AS x FROM a{})", level - 1)).collect();
    format!("WITH a0 AS ({innermost}){names} SELECT x FROM a{} WHERE x > 5", levels - 1)
}

#[tokio::test]
async fn statements_that_become_too_large_are_refused_before_they_are_planned() {
    let shop = Shop::open().await;
    let tables = |count: usize| (0..count).map(|at| format!("deploys d{at}")).collect::<Vec<_>>().join(", ");
    let again: String =
        (1..30).map(|at| format!(", a{at} AS (SELECT * FROM a{0} UNION ALL SELECT * FROM a{0})", at - 1)).collect();
    let nested =
        format!("{}spans{}", "(SELECT duration_ns + duration_ns AS duration_ns FROM ".repeat(40), ") t".repeat(40));
    let columns = |count: usize| (0..count).map(|at| format!("1 AS c{at}")).collect::<Vec<_>>().join(", ");
    let refused = [
        ("tables", format!("WITH a0 AS (SELECT name FROM spans){again} SELECT count(*) FROM a29")),
        ("tables", format!("WITH a0 AS (SELECT 1 AS x){again} SELECT count(*) FROM a29")),
        ("tables", format!("WITH a0 AS (VALUES (1)){again} SELECT count(*) FROM a29")),
        ("tables", format!("SELECT (WITH a0 AS (SELECT name FROM spans){again} SELECT count(*) FROM a29)")),
        ("tables", format!("SELECT count(*) FROM {}", tables(101))),
        ("tables", format!("SELECT name FROM spans ORDER BY (SELECT count(*) FROM {})", tables(101))),
        ("terms", doubled(40, "SELECT duration_ns AS x FROM spans")),
        ("terms", format!("SELECT duration_ns FROM {nested} WHERE duration_ns > 5")),
        ("terms", format!("EXPLAIN SELECT duration_ns FROM {nested} WHERE duration_ns > 5")),
        ("columns", format!("SELECT {}", columns(1_601))),
        ("ways", "SELECT count(*) FROM spans GROUP BY CUBE(name, kind, service_name, status_code, trace_id, span_id, flags, environment, duration_ns)".to_owned()),
        ("ways", "SELECT count(*) FROM spans GROUP BY CUBE(name, kind, status_code), CUBE(flags, trace_id, span_id), ROLLUP(environment, duration_ns, start_time, end_time)".to_owned()),
    ];
    for (named, sql) in refused {
        let began = Instant::now();
        match shop.rows(&sql).await {
            Err(QueryError::Refused(text)) => assert!(text.contains(named), "{sql}: {text}"),
            other => panic!("{sql}: {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{sql}");
    }
    let allowed = [
        (1, format!("SELECT count(*) FROM {}", tables(40))),
        (1, doubled(8, "SELECT 1 AS x")),
        (1, format!("SELECT {}", columns(1_600))),
        (1, "WITH a AS (SELECT name FROM spans), b AS (SELECT * FROM a UNION ALL SELECT * FROM a) SELECT count(*) FROM b, b AS c".to_owned()),
        (8, "SELECT name, kind, status_code, count(*) FROM (SELECT * FROM spans LIMIT 1) GROUP BY CUBE(name, kind, status_code)".to_owned()),
    ];
    for (rows, sql) in allowed {
        assert_eq!(shop.rows(&sql).await, Ok(rows), "{sql}");
    }
}

#[tokio::test]
async fn what_would_be_taken_for_something_else_is_refused_before_it_runs() {
    let shop = Shop::open().await;
    let long = |part: &str, times: usize| part.repeat(times);
    let said = [
        ("TABLESAMPLE", "SELECT count(*) FROM spans TABLESAMPLE SYSTEM (0)".to_owned()),
        ("unknown time zone `Mars/X`", "SELECT start_time AT TIME ZONE 'Mars/X' FROM spans LIMIT 1".to_owned()),
        ("`%`", format!("SELECT count(*) FROM logs WHERE body LIKE '{}'", long("%a", 60))),
        ("regular expression", "SELECT count(*) FROM logs WHERE body ~ '(a{1000}){1000}'".to_owned()),
        ("regular expression", "SELECT regexp_replace(body, '(a{1000}){1000}', '') FROM logs".to_owned()),
        ("regular expression", format!("SELECT count(*) FROM logs WHERE body ~ '{}'", long("a?", 600))),
        ("is none", "SELECT error_rate(kind) FROM spans".to_owned()),
        ("is none", "SELECT error_rate(upper(status_code)) FROM spans".to_owned()),
        ("does not know", "SELECT to_char(start_time, 'YYYY Q') FROM spans".to_owned()),
        ("SIMILAR TO", "SELECT 1 FROM spans WHERE name SIMILAR TO kind".to_owned()),
        ("cannot cast string", "SELECT name FROM spans WHERE name = 5".to_owned()),
    ];
    shop.store.flush().await.expect("flushes");
    for (named, sql) in said {
        match shop.rows(&sql).await {
            Err(QueryError::Refused(text) | QueryError::Invalid(text)) => {
                assert!(text.contains(named), "{sql}: {text}")
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn constants_count_for_less_than_tables_and_columns_around_a_subquery_for_what_they_are() {
    let shop = Shop::open().await;
    let constants = (0..200).map(|number| format!("SELECT {number} AS n")).collect::<Vec<_>>().join(" UNION ALL ");
    assert_eq!(shop.csv(&format!("SELECT count(*), sum(n) FROM ({constants})")).await.expect("answers"), "200,19900\n");
    let tables = ["SELECT name FROM deploys"; 101].join(" UNION ALL ");
    assert!(matches!(shop.error(&tables).await, QueryError::Refused(_)));
    // Each level uses the column of the one inside eight times; the subquery at the end names it from without.
    let mut from = "spans".to_owned();
    for _ in 0..4 {
        from = format!("(SELECT {} AS duration_ns FROM {from})", ["duration_ns"; 8].join(" + "));
    }
    let sum = ["t.duration_ns"; 8].join(" + ");
    let sql = format!("SELECT (SELECT count(*) FROM deploys d WHERE {sum} > 0) FROM {from} AS t");
    assert!(matches!(shop.error(&sql).await, QueryError::Refused(_)), "32,768 terms");
}
