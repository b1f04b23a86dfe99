//! Text that is held by number is text like any other: every function gives what it gives for text.

use arrow::datatypes::DataType;
use plimsoll_otlp::Table;

use crate::fixture::Shop;

/// Expressions over all rows.
const AGGREGATES: &[&str] = &[
    "count(c)",
    "count(DISTINCT c)",
    "approx_distinct(c)",
    "min(c)",
    "max(c)",
    "array_agg(c ORDER BY c)",
    "array_sort(array_agg(DISTINCT c))",
    "string_agg(c, ',' ORDER BY c)",
    "string_agg(DISTINCT c, ',' ORDER BY c)",
    "first_value(c ORDER BY c)",
    "last_value(c ORDER BY c)",
    "nth_value(c, 2 ORDER BY c)",
    "any_value(c) IS NULL",
    "bool_and(c <> 'x')",
    "approx_percentile_cont(length(c), 0.5)",
    "approx_median(length(c))",
    "median(length(c))",
    "sum(TRY_CAST(c AS DOUBLE))",
    "count(*) FILTER (WHERE c <> '')",
    "count(DISTINCT upper(c))",
    "approx_distinct(c) FILTER (WHERE c > 'a')",
    "min(c) || max(c)",
];

/// Expressions over each row.
const SCALARS: &[&str] = &[
    "c",
    "upper(c)",
    "lower(c)",
    "initcap(c)",
    "length(c)",
    "char_length(c)",
    "octet_length(c)",
    "bit_length(c)",
    "ascii(c)",
    "reverse(c)",
    "substr(c, 2, 3)",
    "substring(c FROM 2 FOR 2)",
    "substr_index(c, 'a', 1)",
    "left(c, 2)",
    "right(c, 2)",
    "concat(c, 'x', c)",
    "concat_ws('-', c, c)",
    "c || 'x'",
    "'x' || c",
    "trim(c)",
    "ltrim(c)",
    "rtrim(c, 't')",
    "btrim(c, 'p')",
    "replace(c, 'a', 'b')",
    "translate(c, 'ab', 'xy')",
    "overlay(c PLACING 'zz' FROM 2)",
    "split_part(c, '.', 1)",
    "string_to_array(c, 'a')",
    "starts_with(c, 'p')",
    "ends_with(c, 't')",
    "contains(c, 'a')",
    "strpos(c, 'a')",
    "position('a' IN c)",
    "find_in_set(c, 'payment,other')",
    "levenshtein(c, 'payment')",
    "md5(c)",
    "sha256(c)",
    "encode(c, 'hex')",
    "regexp_like(c, '^p.*t$')",
    "regexp_match(c, 'a(.)')",
    "regexp_replace(c, '[aeiou]', '_', 'g')",
    "regexp_count(c, 'a')",
    "regexp_instr(c, 'a')",
    "c LIKE 'p%'",
    "c NOT LIKE '%a_'",
    "c ILIKE 'P%'",
    "c SIMILAR TO 'p.*'",
    "c ~ 'a'",
    "c ~* 'A'",
    "c !~ 'a'",
    "c = 'payment'",
    "c <> 'payment'",
    "c > 'a'",
    "c IN ('payment', '', 'prod')",
    "c NOT IN ('payment', 'x')",
    "c BETWEEN 'a' AND 'q'",
    "c IS NULL",
    "c IS DISTINCT FROM 'payment'",
    "coalesce(c, 'none')",
    "nullif(c, '')",
    "CASE c WHEN 'payment' THEN 1 ELSE 2 END",
    "CASE WHEN c = '' THEN 'empty' ELSE c END",
    "greatest(c, 'm')",
    "least(c, 'm')",
    "TRY_CAST(c AS BIGINT)",
    "c::text",
    "make_array(c, 'x')",
    "log_template(c)",
];

/// Whole questions over `r`, which has the one column.
const QUESTIONS: &[&str] = &[
    "SELECT c, count(*) FROM r GROUP BY c ORDER BY c",
    "SELECT c, approx_distinct(c), count(DISTINCT c) FROM r GROUP BY c ORDER BY c",
    "SELECT upper(c), count(*) FROM r GROUP BY 1 ORDER BY 1",
    "SELECT c FROM r GROUP BY c HAVING count(*) > 1 ORDER BY c DESC",
    "SELECT c, length(c), count(*) FROM r GROUP BY ROLLUP (c, length(c)) ORDER BY 1, 2, 3",
    "SELECT DISTINCT c FROM r ORDER BY c",
    "SELECT DISTINCT ON (c) c FROM r ORDER BY c",
    "SELECT c FROM r ORDER BY c DESC NULLS LAST LIMIT 3",
    "SELECT c, row_number() OVER (PARTITION BY c ORDER BY c) FROM r ORDER BY 1, 2",
    "SELECT c, rank() OVER (ORDER BY c), dense_rank() OVER (ORDER BY c) FROM r ORDER BY 1, 2",
    "SELECT lag(c) OVER (ORDER BY c), lead(c, 1, 'none') OVER (ORDER BY c) FROM r ORDER BY 1, 2",
    "SELECT first_value(c) OVER (ORDER BY c), nth_value(c, 2) OVER (ORDER BY c) FROM r ORDER BY 1, 2",
    "SELECT min(c) OVER (ORDER BY c ROWS 2 PRECEDING), count(c) OVER (PARTITION BY c) FROM r ORDER BY 1, 2",
    "SELECT approx_distinct(c) OVER () FROM r",
    "SELECT ntile(2) OVER (ORDER BY c), c FROM r ORDER BY 1, 2",
    "SELECT count(*) FROM r a JOIN r b ON a.c = b.c",
    "SELECT count(*) FROM r JOIN logs ON r.c = logs.service_name",
    "SELECT count(*) FROM r JOIN deploys d ON r.c = d.service_name",
    "SELECT count(*) FROM r JOIN (VALUES ('payment'), ('')) v (c) ON r.c = v.c",
    "SELECT count(*) FROM r JOIN (VALUES ('payment'), ('')) v (c) USING (c)",
    "SELECT count(*) FROM r a LEFT JOIN r b ON a.c = b.c || 'x' WHERE b.c IS NULL",
    "SELECT count(*) FROM r a FULL JOIN (VALUES ('zzz')) v (c) ON a.c = v.c",
    "SELECT count(*) FROM r a JOIN r b ON a.c < b.c",
    "SELECT count(*) FROM r WHERE c IN (SELECT service_name FROM logs)",
    "SELECT count(*) FROM r WHERE c NOT IN (SELECT service_name FROM logs)",
    "SELECT count(*) FROM r WHERE EXISTS (SELECT 1 FROM logs WHERE logs.service_name = r.c)",
    "SELECT count(*) FROM r WHERE c = (SELECT max(service_name) FROM logs)",
    "SELECT c FROM r UNION SELECT 'x' ORDER BY 1",
    "SELECT c FROM r UNION ALL SELECT 'x' ORDER BY 1",
    "SELECT c FROM r EXCEPT SELECT 'payment' ORDER BY 1",
    "SELECT c FROM r INTERSECT SELECT service_name FROM logs ORDER BY 1",
    "SELECT unnest(array_agg(c)) AS one FROM r ORDER BY 1",
    "SELECT count(*) FROM r WHERE c LIKE '%a%' AND c <> '' OR c ~ '^$'",
];

async fn compare(shop: &Shop, table: &str, column: &str, questions: &[String], problems: &mut Vec<String>) {
    for question in questions {
        let over = |source: &str| format!("WITH r AS (SELECT {source} AS c FROM {table}) {question}");
        let by_number = shop.csv(&over(&format!("\"{column}\""))).await;
        let as_text = shop.csv(&over(&format!("arrow_cast(\"{column}\", 'Utf8')"))).await;
        if by_number.is_err() || by_number != as_text {
            problems.push(format!("{table}.{column}: {question}\n  by number {by_number:?}\n  as text {as_text:?}"));
        }
    }
}

#[tokio::test]
async fn every_function_takes_text_that_is_held_by_number() {
    let shop = Shop::open().await;
    let mut questions: Vec<String> = AGGREGATES.iter().map(|aggregate| format!("SELECT {aggregate} FROM r")).collect();
    questions.extend(SCALARS.iter().map(|scalar| format!("SELECT {scalar} AS x FROM r ORDER BY 1")));
    questions.extend(QUESTIONS.iter().map(|question| (*question).to_owned()));
    let mut problems = Vec::new();
    // Everything over one column of each table, from the tail and from segments; aggregates over every column.
    for _ in 0..2 {
        for table in Table::ALL {
            let shared: Vec<&str> = (table.schema().fields().iter())
                .filter(|field| matches!(field.data_type(), DataType::Dictionary(_, value) if value.as_ref() == &DataType::Utf8))
                .map(|field| field.name().as_str())
                .collect();
            assert!(
                shared.contains(&"service_name") || !matches!(table, Table::Spans | Table::Logs),
                "{}",
                table.name()
            );
            for column in shared {
                let some = if column == "service_name" && matches!(table, Table::Spans | Table::Logs) {
                    &questions[..]
                } else {
                    &questions[..AGGREGATES.len()]
                };
                compare(&shop, table.name(), column, some, &mut problems).await;
            }
        }
        shop.store.flush().await.expect("flushes");
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}
