//! Every format gives the same rows back.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use futures::StreamExt;
use plimsoll_query::{Format, QueryError, QueryLimits, QueryRequest};
use serde_json::{Value, json};

use crate::fixture::{Shop, limits};

const WIDE: &str = "SELECT * FROM spans ORDER BY start_time";

async fn batch(shop: &Shop, sql: &str) -> RecordBatch {
    use plimsoll_query::SqlEngine;
    let result = shop.engine.query(QueryRequest::new(sql)).await.expect("runs");
    let schema = result.schema.clone();
    let batches: Vec<RecordBatch> = result.rows.map(|batch| batch.expect("rows")).collect().await;
    concat_batches(&schema, &batches).expect("of one schema")
}

#[tokio::test]
async fn arrow_and_parquet_give_every_table_back_as_it_was() {
    let shop = Shop::open().await;
    for table in [
        "spans",
        "span_events",
        "span_links",
        "logs",
        "metrics",
        "operations",
        "exceptions",
        "deploys",
        "verdicts",
        "findings",
        "decisions",
    ] {
        let sql = format!("SELECT * FROM {table} ORDER BY 1, 2, 3");
        let expected = batch(&shop, &sql).await;
        assert!(expected.num_rows() > 0, "{table}");
        let bytes = shop.encoded(QueryRequest::new(sql.clone()), Format::ArrowStream).await.expect("encodes");
        let reader = arrow::ipc::reader::StreamReader::try_new(Cursor::new(bytes), None).expect("an Arrow stream");
        let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("readable")).collect();
        assert_eq!(concat_batches(&expected.schema(), &batches).expect("of one schema"), expected, "{table} as Arrow");
        let bytes = shop.encoded(QueryRequest::new(sql), Format::Parquet).await.expect("encodes");
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(Bytes::from(bytes), 1024)
            .expect("a Parquet file");
        let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("readable")).collect();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, expected.num_rows(), "{table} as Parquet");
        assert_eq!(
            concat_batches(&batches[0].schema(), &batches).expect("of one schema").columns(),
            expected.columns(),
            "{table} as Parquet"
        );
    }
}

#[tokio::test]
async fn json_names_columns_and_types_and_keeps_the_types_of_attributes() {
    let shop = Shop::open().await;
    let bytes = shop.encoded(QueryRequest::new(WIDE), Format::Json).await.expect("encodes");
    let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
    let columns = answer["columns"].as_array().expect("columns");
    let at = |name: &str| columns.iter().position(|column| column["name"] == name).expect("the column is there");
    assert_eq!(columns[at("trace_id")], json!({"name": "trace_id", "type": "text"}));
    assert_eq!(columns[at("start_time")]["type"], "timestamp");
    assert_eq!(columns[at("resource_attributes")]["type"], "json");
    let rows = answer["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 20);
    let row = &rows[4];
    assert_eq!(row[at("start_time")], "2023-11-14T22:13:14Z");
    assert_eq!(row[at("attributes")]["retries"], 4);
    assert_eq!(row[at("attributes")]["ratio"], 0.5);
    assert_eq!(row[at("attributes")]["cached"], false);
    assert_eq!(row[at("attributes")]["http.route"], "/charge");
    assert_eq!(row[at("resource_attributes")]["k8s.restarts"], 3);
    assert_eq!(row[at("events")][0]["attributes"]["exception.type"], "CardError");
    let bytes = shop.encoded(QueryRequest::new(WIDE), Format::JsonLines).await.expect("encodes");
    let lines: Vec<Value> = bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 20);
    for (line, row) in lines.iter().zip(rows) {
        for (column, value) in columns.iter().zip(row.as_array().expect("a row")) {
            assert_eq!(&line[column["name"].as_str().expect("a name")], value);
        }
    }
}

#[tokio::test]
async fn odd_values_have_a_stated_form_in_text() {
    let shop = Shop::open().await;
    let sql = "SELECT 'a,\"b\"\nc' AS quoted, '' AS empty, NULL AS nothing, 1e0/0.0 AS infinite, 'NaN'::double AS nan, \
        9007199254740993 AS big, [1, NULL] AS list, TIMESTAMP '2024-01-02 03:04:05.000000006' AS time, DATE '2024-01-02' AS day, true AS yes";
    let csv = shop.csv(sql).await.expect("encodes");
    assert_eq!(
        csv,
        "\"a,\"\"b\"\"\nc\",\"\",,Infinity,NaN,9007199254740993,\"[1,null]\",2024-01-02T03:04:05.000000006Z,2024-01-02,true\n"
    );
    let bytes = shop.encoded(QueryRequest::new(sql), Format::Json).await.expect("encodes");
    let text = String::from_utf8(bytes).expect("text");
    assert!(text.contains(r#"["a,\"b\"\nc","",null,null,null,9007199254740993,[1,null],"2024-01-02T03:04:05.000000006Z","2024-01-02",true]"#), "{text}");
}

#[tokio::test]
async fn columns_without_a_name_are_called_as_they_are_written() {
    let shop = Shop::open().await;
    let sql = "SELECT 1, 'x', count(*), max(duration_ns) + 1, max(name) AS last FROM spans WHERE name <> 'none'";
    let csv = shop.csv_with_header(sql).await.expect("encodes");
    assert_eq!(csv, "1,'x',count(*),max(duration_ns) + 1,last\n1,x,20,20000001,POST /charge\n");
    let described = {
        use plimsoll_query::SqlEngine;
        shop.engine.describe(sql, &[]).await.expect("describes")
    };
    let fields = described.schema.fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["1", "'x'", "count(*)", "max(duration_ns) + 1", "last"]);
    let in_postgres = plimsoll_query::postgres::column_names(sql, &described.schema);
    assert_eq!(in_postgres, ["?column?", "?column?", "count", "?column?", "last"]);
}

#[tokio::test]
async fn decimals_and_sums_of_signed_and_unsigned_numbers_are_numbers_in_json() {
    let shop = Shop::open().await;
    let sql = "SELECT sum(1::bigint unsigned) + sum(duration_ns) AS both, 1.50::decimal(10, 2) AS price FROM spans";
    let bytes = shop.encoded(QueryRequest::new(sql), Format::Json).await.expect("encodes");
    let text = String::from_utf8(bytes).expect("text");
    assert!(text.contains("[210000020,1.50]"), "{text}");
    assert!(serde_json::from_str::<Value>(&text).is_ok());
}

#[tokio::test]
async fn views_are_told_from_tables_by_every_list_of_them() {
    use plimsoll_query::SqlEngine;
    let shop = Shop::open().await;
    let listed = shop.engine.tables().await.expect("lists");
    let mut views: Vec<&str> = listed.iter().filter(|entry| entry.is_view).map(|entry| entry.name.as_str()).collect();
    views.sort_unstable();
    assert_eq!(views, ["exceptions", "operations_total", "span_events", "span_links"]);
    let wanted = format!("{}\n", views.join("\n"));
    for sql in [
        "SELECT table_name FROM information_schema.tables WHERE table_type = 'VIEW' AND table_schema = 'public' ORDER BY 1",
        "SELECT table_name FROM information_schema.views WHERE table_schema = 'public' ORDER BY 1",
        "SELECT relname FROM pg_catalog.pg_class WHERE relkind = 'v' ORDER BY 1",
        "SELECT viewname FROM pg_catalog.pg_views ORDER BY 1",
    ] {
        assert_eq!(shop.csv(sql).await.as_deref(), Ok(wanted.as_str()), "{sql}");
    }
    let shown = shop.csv("SHOW TABLES").await.expect("shows");
    assert!(shown.contains("exceptions,VIEW") && shown.contains("spans,BASE TABLE"), "{shown}");
}

#[tokio::test]
async fn an_answer_without_rows_is_whole_in_every_format() {
    let shop = Shop::open().await;
    let none = || QueryRequest::new("SELECT name, attributes FROM spans WHERE false");
    let json: Value =
        serde_json::from_slice(&shop.encoded(none(), Format::Json).await.expect("encodes")).expect("JSON");
    assert_eq!(json["rows"], json!([]));
    assert_eq!(json["columns"][0]["name"], "name");
    assert_eq!(shop.encoded(none(), Format::JsonLines).await.expect("encodes"), b"");
    assert_eq!(shop.encoded(none(), Format::Csv).await.expect("encodes"), b"name,attributes\n");
    for format in [Format::ArrowStream, Format::Parquet] {
        assert!(!shop.encoded(none(), format).await.expect("encodes").is_empty());
    }
}

#[tokio::test]
async fn an_error_midway_breaks_the_answer_off() {
    let shop = Shop::open_with(QueryLimits { rows_max: 9_000, ..limits() }).await;
    for format in Format::ALL {
        use plimsoll_query::SqlEngine;
        let sql = "SELECT a.name FROM spans a, spans b, spans c, spans d";
        let (mut bytes, mut failed) = (Vec::new(), None);
        match shop.engine.query(QueryRequest::new(sql)).await {
            Err(error) => failed = Some(error),
            Ok(result) => {
                let mut chunks = format.encode(result);
                while let Some(chunk) = chunks.next().await {
                    assert!(failed.is_none(), "nothing follows an error");
                    match chunk {
                        Ok(chunk) => bytes.extend_from_slice(&chunk),
                        Err(error) => failed = Some(error),
                    }
                }
            }
        }
        assert!(matches!(failed, Some(QueryError::Exceeded(_))), "{format:?}");
        if format == Format::Json {
            assert!(serde_json::from_slice::<Value>(&bytes).is_err(), "a part is not a document");
        }
    }
}

#[tokio::test]
async fn intervals_are_written_as_postgres_writes_them() {
    let shop = Shop::open().await;
    let sql = "SELECT INTERVAL '1 day 2 hours' AS i, INTERVAL '14 months' AS m, max(end_time) - min(start_time) AS d, array_agg(end_time - start_time) AS l \
        FROM spans WHERE duration_ns < 3000000";
    let bytes = shop.encoded(QueryRequest::new(sql), Format::JsonLines).await.expect("encodes");
    let mut row: Value = serde_json::from_slice(&bytes).expect("JSON");
    let mut list: Vec<String> = serde_json::from_value(row["l"].take()).expect("texts");
    list.sort();
    assert_eq!(row, json!({"i": "1 day 02:00:00", "m": "1 year 2 mons", "d": "00:00:01.002", "l": null}));
    assert_eq!(list, ["00:00:00.001", "00:00:00.002"]);
}
