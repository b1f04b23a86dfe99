//! Parameters as clients write them, `$1` and `?`, and what their types mean where they meet ids, words and attributes.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use futures::TryStreamExt;
use plimsoll_query::{Parameter, QueryError, QueryRequest, SqlEngine};

use crate::fixture::Shop;

/// Runs `sql` with `params` of the types that a client named, and returns its rows.
async fn ask(
    shop: &Shop,
    sql: &str,
    params: Vec<Parameter>,
    types: Vec<Option<DataType>>,
) -> Result<Vec<Vec<String>>, QueryError> {
    let result = shop.engine.query(QueryRequest { params, types, ..QueryRequest::new(sql) }).await?;
    let batches: Vec<_> = result.rows.try_collect().await?;
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |column| arrow::util::display::array_value_to_string(column, row).expect("values have a form");
            rows.push(batch.columns().iter().map(|column| cell(column)).collect());
        }
    }
    Ok(rows)
}

async fn count(shop: &Shop, filter: &str, param: Parameter, data_type: Option<DataType>) -> u64 {
    let sql = format!("SELECT count(*) FROM spans WHERE {filter}");
    let rows = ask(shop, &sql, vec![param], vec![data_type]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows[0][0].parse().expect("a count")
}

fn text(text: &str) -> Parameter {
    Parameter::Text(text.to_owned())
}

#[tokio::test]
async fn question_marks_are_parameters_in_their_order() {
    let shop = Shop::open().await;
    let rows = ask(
        &shop,
        "SELECT '?' AS \"?\", ?, count(*) FROM spans -- ?\nWHERE name = ? AND duration_ns >= ? /* ? */ LIMIT ?",
        vec![text("first"), text("POST /charge"), Parameter::Integer(0), Parameter::Integer(1)],
        vec![],
    )
    .await;
    assert_eq!(rows, Ok(vec![vec!["?".to_owned(), "first".to_owned(), "20".to_owned()]]));
    let described = shop.engine.describe("SELECT ? + 1 FROM spans WHERE name = ? LIMIT ?", &[]).await.expect("plans");
    assert_eq!(described.params, [DataType::Int64, DataType::Utf8, DataType::Int64]);
    let catalogue = "SELECT table_name FROM information_schema.columns WHERE table_name = ? AND column_name = ?";
    let rows = ask(&shop, catalogue, vec![text("spans"), text("trace_id")], vec![]).await;
    assert_eq!(rows, Ok(vec![vec!["spans".to_owned()]]));
    for (sql, params, word) in [
        ("SELECT ?", vec![], "1 `?`"),
        ("SELECT ?, ?", vec![Parameter::Null], "2 `?` and 1 parameter was given"),
        ("SELECT ?", vec![Parameter::Null, Parameter::Null], "2 parameters were given"),
        ("SELECT ?, $1", vec![Parameter::Null], "not both"),
        ("SELECT ?2", vec![Parameter::Null], "`?2` is not a parameter"),
        ("SELECT attributes ? 'retries' FROM spans", vec![], "IS NOT NULL"),
    ] {
        match ask(&shop, sql, params, vec![]).await {
            Err(QueryError::Invalid(told)) => assert!(told.contains(word), "{sql}: {told}"),
            other => panic!("{sql} should be invalid: {other:?}"),
        }
    }
}

#[tokio::test]
async fn typed_parameters_mean_what_literals_mean_beside_words_ids_and_attributes() {
    let shop = Shop::open().await;
    let (small, int, long) = (Some(DataType::Int16), Some(DataType::Int32), Some(DataType::Int64));
    let servers = count(&shop, "kind = $1", text("server"), None).await;
    assert!(servers > 0);
    for data_type in [None, small.clone(), int.clone(), long.clone()] {
        assert_eq!(count(&shop, "kind = $1", Parameter::Integer(2), data_type.clone()).await, servers);
        assert_eq!(count(&shop, "kind IN ($1)", Parameter::Integer(2), data_type.clone()).await, servers);
        assert_eq!(count(&shop, "kind = ANY($1)", Parameter::List(vec![Parameter::Integer(2)]), None).await, servers);
        assert_eq!(count(&shop, "NOT kind <> $1", Parameter::Integer(2), data_type).await, servers);
    }
    let failed = count(&shop, "status_code = $1", text("error"), None).await;
    assert!(failed > 0);
    assert_eq!(count(&shop, "status_code = $1", Parameter::Integer(2), int.clone()).await, failed);

    let id = shop.csv("SELECT min(trace_id) FROM spans").await.expect("answers").trim().to_owned();
    let bytes: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).expect("digits")).collect();
    let dashed = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-").to_uppercase();
    let wanted = count(&shop, "trace_id = $1", text(&id), None).await;
    assert!(wanted > 0);
    assert_eq!(count(&shop, "trace_id = $1", text(&dashed), None).await, wanted, "as a UUID");
    assert_eq!(count(&shop, "trace_id = $1", Parameter::Bytes(bytes), Some(DataType::Binary)).await, wanted);

    for (param, data_type) in [
        (Parameter::Integer(9), int.clone()),
        (Parameter::Integer(9), long.clone()),
        (Parameter::Float(9.0), Some(DataType::Float64)),
        (Parameter::Number("9".to_owned()), None),
        (Parameter::Number("9.00".to_owned()), Some(DataType::Decimal128(10, 2))),
    ] {
        let told = count(&shop, "attributes['retries'] > $1", param.clone(), data_type).await;
        let literal = shop.csv("SELECT count(*) FROM spans WHERE attributes['retries'] > 9").await.expect("answers");
        assert_eq!(told.to_string(), literal.trim(), "{param:?}");
        assert!(told > 0);
    }
}

#[tokio::test]
async fn what_a_parameter_is_follows_from_its_cast_and_from_what_it_meets() {
    let shop = Shop::open().await;
    let nanos = TimeUnit::Nanosecond;
    for (sql, wanted) in [
        ("SELECT $1::int, $2::text, $3::bool", vec![DataType::Int32, DataType::Utf8, DataType::Boolean]),
        (
            "SELECT $1::interval, CAST($2 AS date), $3::timestamptz",
            vec![
                DataType::Interval(IntervalUnit::MonthDayNano),
                DataType::Date32,
                DataType::Timestamp(nanos, Some("UTC".into())),
            ],
        ),
        ("SELECT 1 FROM spans WHERE kind = ANY($1::int[])", vec![DataType::new_list(DataType::Int32, true)]),
        ("SELECT 1 FROM spans WHERE attributes['a'] = $1", vec![DataType::Utf8]),
        ("SELECT 1 FROM spans WHERE attributes['a'] > $1", vec![DataType::Float64]),
        ("SELECT 1 FROM spans WHERE attributes['a'] BETWEEN ? AND ?", vec![DataType::Float64, DataType::Float64]),
        ("SELECT attributes['a'] + $1 FROM spans", vec![DataType::Float64]),
        ("SELECT 1 FROM spans WHERE start_time > now() - $1", vec![DataType::Interval(IntervalUnit::MonthDayNano)]),
        ("SELECT 1 FROM spans WHERE attributes['a'] = $1::bool", vec![DataType::Boolean]),
        ("SELECT 1 FROM spans WHERE kind = $1::int", vec![DataType::Int32]),
        ("SELECT 1 FROM spans WHERE trace_id = $1::bytea", vec![DataType::Binary]),
        (
            "SELECT 1 FROM spans WHERE start_time BETWEEN $1 AND $2",
            vec![DataType::Timestamp(nanos, Some("UTC".into())); 2],
        ),
        ("SELECT name FROM spans FETCH FIRST $1 ROWS ONLY", vec![DataType::Int64]),
    ] {
        let described = shop.engine.describe(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(described.params, wanted, "{sql}");
    }
}

#[tokio::test]
async fn times_dates_and_lengths_of_time_come_back_as_they_went_in() {
    let shop = Shop::open().await;
    let nanos = TimeUnit::Nanosecond;
    let (zoned, wall) = (DataType::Timestamp(nanos, Some("UTC".into())), DataType::Timestamp(nanos, None));
    let length = DataType::Interval(IntervalUnit::MonthDayNano);
    for (param, data_type, shown) in [
        (Parameter::Time { nanos: -1, zoned: true }, zoned, "1969-12-31T23:59:59.999999999Z"),
        (Parameter::Time { nanos: 1_000, zoned: false }, wall, "1970-01-01T00:00:00.000001"),
        (Parameter::Date(-1), DataType::Date32, "1969-12-31"),
        (Parameter::Clock(3_723_000_004_000), DataType::Time64(nanos), "01:02:03.000004"),
        (
            Parameter::Interval { months: 1, days: -2, nanos: -3_000_000_500 },
            length,
            "1 mons -2 days -3.000000500 secs",
        ),
    ] {
        let told = ask(&shop, "SELECT $1", vec![param.clone()], vec![Some(data_type.clone())]).await;
        assert_eq!(told, Ok(vec![vec![shown.to_owned()]]), "{param:?}");
        let described = shop.engine.describe("SELECT $1", &[Some(data_type.clone())]).await.expect("plans");
        assert_eq!(described.schema.field(0).data_type(), &data_type);
    }
    let week = Parameter::Interval { months: 0, days: 7, nanos: 0 };
    let since = "start_time > TIMESTAMP '2023-11-14T22:13:20Z' - $1";
    assert_eq!(count(&shop, since, week, None).await, 20);
    let precise = Parameter::Number("12345678901234567890.123456789".to_owned());
    let told = ask(&shop, "SELECT $1", vec![precise], vec![]).await;
    assert_eq!(told, Ok(vec![vec!["12345678901234567890.123456789".to_owned()]]));
}

#[tokio::test]
async fn a_parameter_has_the_type_that_its_place_implies() {
    let shop = Shop::open().await;
    let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let length = DataType::Interval(IntervalUnit::MonthDayNano);
    let (long, real, yes) = (DataType::Int64, DataType::Float64, DataType::Boolean);
    let list = |of: &DataType| DataType::new_list(of.clone(), true);
    for (sql, wanted) in [
        ("SELECT 1 = ANY($1)", vec![list(&long)]),
        ("SELECT 'a' = ANY($1)", vec![list(&DataType::Utf8)]),
        ("SELECT $1 = ANY(ARRAY[1, 2])", vec![long.clone()]),
        ("SELECT 1 FROM spans WHERE duration_ns = ANY($1)", vec![list(&long)]),
        ("SELECT NOT $1", vec![yes.clone()]),
        ("SELECT 1 WHERE $1", vec![yes.clone()]),
        ("SELECT 1 FROM spans WHERE $1 OR name = $2", vec![yes.clone(), DataType::Utf8]),
        ("SELECT $1 IS NOT TRUE", vec![yes.clone()]),
        ("SELECT count(*) FILTER (WHERE $1) FROM spans", vec![yes.clone()]),
        ("SELECT bool_or($1) FROM spans", vec![yes.clone()]),
        ("SELECT $1 * INTERVAL '1 s'", vec![real.clone()]),
        ("SELECT INTERVAL '1 s' / $1", vec![real.clone()]),
        ("SELECT INTERVAL $1", vec![length.clone()]),
        ("SELECT now() - INTERVAL $1 MINUTE", vec![real.clone()]),
        ("SELECT now() - $1 > INTERVAL '1 h'", vec![instant.clone()]),
        ("SELECT 1 FROM spans WHERE start_time > now() - $1", vec![length.clone()]),
        ("SELECT 1 FROM spans WHERE start_time > $1 - INTERVAL '1 h'", vec![instant.clone()]),
        ("SELECT 1 FROM spans WHERE $1 BETWEEN start_time AND now()", vec![instant.clone()]),
        ("SELECT $1 IN (1, 2), $2 BETWEEN 1 AND 2, 1 IN ($3)", vec![long.clone(); 3]),
        (
            "SELECT coalesce($1, 1), nullif(duration_ns, $2), greatest($3, 1.5) FROM spans",
            vec![long.clone(), long.clone(), real.clone()],
        ),
        ("SELECT coalesce($1, now())", vec![instant.clone()]),
        ("SELECT coalesce(nullif($1, ''), name) FROM spans", vec![DataType::Utf8]),
        ("SELECT CASE WHEN $1 THEN 1 ELSE $2 END", vec![yes.clone(), long.clone()]),
        ("SELECT CASE duration_ns WHEN $1 THEN 1 END FROM spans", vec![long.clone()]),
        ("SELECT CASE WHEN true THEN $1 END = 1", vec![long.clone()]),
        (
            "SELECT abs($1), round($2, $3), power(2, $4)",
            vec![real.clone(), real.clone(), DataType::Int32, real.clone()],
        ),
        ("SELECT -$1, +$2, duration_ns > -$3 FROM spans", vec![real.clone(), real.clone(), long.clone()]),
        ("SELECT substr(name, $1), left(name, $2) FROM spans", vec![DataType::Int32; 2]),
        ("SELECT date_bin($1, start_time, $2) FROM spans", vec![length.clone(), instant.clone()]),
        ("SELECT percentile_cont($1) WITHIN GROUP (ORDER BY duration_ns) FROM spans", vec![real.clone()]),
        ("SELECT $1 || $2", vec![DataType::Utf8; 2]),
        ("SELECT (ARRAY[1, 2])[$1], ARRAY[$2, 2]", vec![long.clone(); 2]),
        ("SELECT * FROM (VALUES (1, $1), ($2, 'a')) AS t", vec![DataType::Utf8, long.clone()]),
        ("SELECT $1 UNION ALL SELECT 1", vec![long.clone()]),
        ("SELECT encode($1, 'hex')", vec![DataType::Binary]),
        ("SELECT 1 FROM spans WHERE attributes['a'] = $1 OR kind = $1", vec![DataType::Utf8]),
        ("SELECT 1 FROM spans WHERE attributes['a'] = $1 OR duration_ns = $1", vec![long.clone()]),
        ("SELECT 1 FROM spans WHERE http_response_status_code = $1 OR duration_ns = $1", vec![DataType::Int32]),
    ] {
        let described = shop.engine.describe(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(described.params, wanted, "{sql}");
    }
}

#[tokio::test]
async fn a_parameter_of_two_minds_is_told_with_the_cast_to_write() {
    let shop = Shop::open().await;
    let sql = "SELECT 1 FROM spans WHERE duration_ns > $1 AND name = $1";
    match shop.engine.describe(sql, &[]).await {
        Err(QueryError::Invalid(told)) => {
            assert!(told.contains("`$1` is used as `bigint` and as `text`") && told.contains("`$1::bigint`"), "{told}");
        }
        other => panic!("{sql} should be invalid: {other:?}"),
    }
}

#[tokio::test]
async fn values_mean_the_same_wherever_their_parameter_stands() {
    let shop = Shop::open().await;
    let minus = || vec![Parameter::Integer(-2)];
    for (sql, params, wanted) in [
        ("SELECT -$1", minus(), "2"),
        ("SELECT 5-$1", minus(), "7"),
        ("SELECT - $1 - $1", minus(), "4"),
        ("SELECT $1::text", minus(), "-2"),
        ("SELECT abs($1)", minus(), "2"),
        ("SELECT -$1", vec![Parameter::Float(-0.5)], "0.5"),
        ("SELECT -$1", vec![Parameter::Number("-7".to_owned())], "7"),
        ("SELECT ($1)[1]", vec![Parameter::List(vec![Parameter::Integer(-3)])], "-3"),
        ("SELECT $1 * INTERVAL '1 s' = INTERVAL '-2 s'", minus(), "true"),
        ("SELECT INTERVAL $1 MINUTE = INTERVAL '-2 minutes'", minus(), "true"),
        ("SELECT INTERVAL $1 = INTERVAL '60 minutes'", vec![text("1 hour")], "true"),
        ("SELECT $1", vec![Parameter::Number("99999999999999999999".to_owned())], "99999999999999999999"),
    ] {
        let rows = ask(&shop, sql, params, vec![]).await;
        assert_eq!(rows, Ok(vec![vec![wanted.to_owned()]]), "{sql}");
    }
    let twice = vec![Parameter::Float(1.5), Parameter::Number("1.50".to_owned())];
    let rows = ask(&shop, "SELECT $1, $2, $1", twice, vec![]).await;
    assert_eq!(rows, Ok(vec![vec!["1.5".to_owned(); 3]]));
    match ask(&shop, "SELECT $2", vec![Parameter::Null], vec![]).await {
        Err(QueryError::Invalid(told)) => assert!(told.contains("1 parameter was given"), "{told}"),
        other => panic!("should be invalid: {other:?}"),
    }
}

#[tokio::test]
async fn catalogue_queries_take_values_for_what_can_have_no_rows() {
    let shop = Shop::open().await;
    let sql = "SELECT a.attname, CASE WHEN a.attidentity <> $1 THEN (SELECT json_build_object($2, s.seqstart) AS o FROM pg_catalog.pg_sequence s \
               WHERE s.seqrelid = a.attrelid) ELSE NULL END AS options FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c \
               ON c.oid = a.attrelid WHERE c.relname = $3 AND a.attnum = 1";
    let described = shop.engine.describe(sql, &[]).await.expect("plans");
    assert_eq!(described.params.len(), 3);
    let rows = ask(&shop, sql, vec![text(""), text("start"), text("deploys")], vec![]).await.expect("answers");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let four = vec![text(""), text("start"), text("deploys"), text("more")];
    match ask(&shop, sql, four, vec![]).await {
        Err(QueryError::Invalid(told)) => assert!(told.contains("`$4` is not in the statement"), "{told}"),
        other => panic!("should be invalid: {other:?}"),
    }
    let rows = ask(&shop, "SELECT json_build_object('a', 1, 'b', 'x\"y', 'c', NULL)", vec![], vec![]).await;
    assert_eq!(rows, Ok(vec![vec![r#"{"a" : 1, "b" : "x\"y", "c" : null}"#.to_owned()]]));
}

#[tokio::test]
async fn what_a_value_is_compared_with_in_a_subquery_says_what_it_is() {
    let shop = Shop::open().await;
    let sql = "SELECT count(*) FROM spans WHERE duration_ns IN (SELECT 1) OR $1 NOT IN (SELECT duration_ns FROM spans)";
    let described = shop.engine.describe(sql, &[]).await.expect("plans");
    assert_eq!(described.params, [DataType::Int64]);
    let described = shop.engine.describe("SELECT $1::uuid, quote_nullable($2::\"pg_catalog\".\"int8\")", &[]).await;
    assert_eq!(described.expect("plans").params, [DataType::Utf8, DataType::Int64]);
    match shop.engine.describe("SELECT sum($1)", &[]).await {
        Err(QueryError::Invalid(told)) => assert!(told.contains("`$1::double`"), "{told}"),
        other => panic!("should be invalid: {other:?}"),
    }
}
