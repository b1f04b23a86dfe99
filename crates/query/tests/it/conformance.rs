//! What any engine behind the port must do; run here over the embedded one.

use arrow::datatypes::DataType;
use futures::StreamExt;
use plimsoll_query::{Parameter, QueryError, QueryRequest, SqlEngine};
use serde_json::json;

use crate::fixture::Shop;

/// Checks one engine that answers over the shop's rows.
async fn conforms(engine: &dyn SqlEngine) {
    let run = async |sql: &str, params: Vec<serde_json::Value>| {
        let params = Parameter::all_from_json(&params)?;
        let request = QueryRequest { params, ..QueryRequest::new(sql) };
        let mut result = engine.query(request).await?;
        let mut rows = 0;
        while let Some(batch) = result.rows.next().await {
            let batch = batch?;
            assert_eq!(batch.schema(), result.schema, "batches have the schema that was announced");
            rows += batch.num_rows();
        }
        Ok::<_, QueryError>(rows)
    };
    assert_eq!(run("SELECT * FROM spans", vec![]).await, Ok(20));
    assert_eq!(run("SELECT * FROM spans WHERE false", vec![]).await, Ok(0));
    assert_eq!(run("SELECT * FROM spans WHERE duration_ns > $1", vec![json!(15_000_000)]).await, Ok(5));
    assert_eq!(run("SELECT * FROM spans WHERE start_time >= $1", vec![json!("2023-11-14T22:13:20Z")]).await, Ok(10));
    assert_eq!(
        run("SELECT * FROM spans WHERE name = $2 AND $1", vec![json!(true), json!("POST /charge")]).await,
        Ok(20)
    );
    assert_eq!(run("SELECT $1 AS nothing", vec![json!(null)]).await, Ok(1));
    assert!(matches!(run("SELECT $1", vec![]).await, Err(QueryError::Invalid(_))), "a parameter without a value");
    assert!(
        matches!(run("SELECT 1", vec![json!(1)]).await, Err(QueryError::Invalid(_))),
        "a value without a parameter"
    );
    let (any, both) = ("SELECT * FROM spans WHERE duration_ns = ANY($1)", json!([1_000_000, null, 2_000_000]));
    assert_eq!(run(any, vec![both]).await, Ok(2));
    assert_eq!(run(any, vec![json!([])]).await, Ok(0));
    assert_eq!(
        run("SELECT * FROM spans WHERE NOT name <> ALL($1)", vec![json!(["POST /charge", "it's"])]).await,
        Ok(20)
    );
    for nested in [json!([[1]]), json!({"a": 1}), json!([{"a": 1}])] {
        assert!(matches!(run("SELECT $1", vec![nested]).await, Err(QueryError::Invalid(_))), "only lists of values");
    }
    assert!(matches!(run("DROP TABLE spans", vec![]).await, Err(QueryError::Refused(_))), "writes are refused");
    assert!(matches!(run("SELECT nonsense FROM spans", vec![]).await, Err(QueryError::Invalid(_))), "unknown names");
    let hostile = "x' OR 'a' = 'a";
    assert_eq!(run("SELECT * FROM spans WHERE name = $1", vec![json!(hostile)]).await, Ok(0), "values are never SQL");
}

/// Checks that what is described is what comes, whatever the client says of its parameters.
async fn describes(engine: &dyn SqlEngine) {
    /// Text, the types that a client gives its parameters, and their values.
    type Statement = (&'static str, Vec<Option<DataType>>, Vec<Parameter>);
    let statements: [Statement; 13] = [
        ("SELECT 1 AS one, 'x' AS x, NULL AS nothing", vec![], vec![]),
        ("SELECT * FROM spans WHERE trace_id = $1", vec![], vec![Parameter::Text("ab".to_owned())]),
        (
            "SELECT name, duration_ns / 2 FROM spans WHERE duration_ns > $1 LIMIT $2",
            vec![],
            vec![Parameter::Integer(7), Parameter::Integer(3)],
        ),
        ("SELECT $1 AS given", vec![], vec![Parameter::Null]),
        ("SELECT $1 AS given", vec![Some(DataType::Int32)], vec![Parameter::Integer(7)]),
        ("SELECT $1 + 1 AS given", vec![Some(DataType::Float64)], vec![Parameter::Null]),
        ("SELECT $1 AS given", vec![Some(DataType::Utf8)], vec![Parameter::Text("x".to_owned())]),
        (
            "SELECT max(start_time) FROM spans WHERE start_time < $1",
            vec![],
            vec![Parameter::Time { nanos: i64::MAX / 2, zoned: true }],
        ),
        (
            "SELECT * FROM spans_around($1, $2, $3)",
            vec![],
            ["dep_payment2", "10m", "10m"].map(|text| Parameter::Text(text.to_owned())).to_vec(),
        ),
        ("SELECT depth, path, attributes FROM trace_tree($1)", vec![], vec![Parameter::Text("ab".repeat(16))]),
        (
            "SELECT service_version, quantile(histogram_merge(latency_buckets, latency_counts), $1) AS p FROM operations GROUP BY 1",
            vec![Some(DataType::Float64)],
            vec![Parameter::Float(0.5)],
        ),
        (
            "SELECT name FROM spans WHERE name = ANY($1)",
            vec![],
            vec![Parameter::List(vec![Parameter::Text("POST /charge".to_owned()), Parameter::Null])],
        ),
        (
            "SELECT name FROM spans WHERE duration_ns = ANY($1::bigint[])",
            vec![],
            vec![Parameter::List(vec![Parameter::Integer(1_000_000)])],
        ),
    ];
    for (sql, types, params) in statements {
        let described = engine.describe(sql, &types).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(described.params.len(), params.len(), "{sql}");
        for (said, told) in types.iter().flatten().zip(&described.params) {
            assert_eq!(said, told, "{sql}");
        }
        let request = QueryRequest {
            params,
            types: described.params.iter().cloned().map(Some).collect(),
            ..QueryRequest::new(sql)
        };
        let result = engine.query(request).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let shape = |schema: &arrow::datatypes::Schema| {
            schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>()
        };
        assert_eq!(shape(&described.schema), shape(&result.schema), "{sql}");
    }
    let params =
        engine.describe("SELECT 1 FROM spans WHERE duration_ns > $2 AND name = $1", &[]).await.expect("plans").params;
    assert_eq!(params, [DataType::Utf8, DataType::Int64], "what the statement implies");
    assert!(matches!(engine.describe("DROP TABLE spans", &[]).await, Err(QueryError::Refused(_))));
    assert!(matches!(engine.describe("SELECT nonsense FROM spans", &[]).await, Err(QueryError::Invalid(_))));
}

async fn lists(engine: &dyn SqlEngine) {
    let tables = engine.tables().await.expect("lists");
    let spans = tables.iter().find(|table| table.name == "spans").expect("is there");
    assert_eq!((spans.schema, spans.is_view), ("public", false));
    assert_eq!(spans.columns, engine.query(QueryRequest::new("SELECT * FROM spans")).await.expect("answers").schema);
    assert!(tables.iter().any(|table| table.schema == "plimsoll" && table.name == "queries"));
}

#[tokio::test]
async fn the_embedded_engine_conforms_before_and_after_a_flush() {
    let shop = Shop::open().await;
    conforms(&shop.engine).await;
    describes(&shop.engine).await;
    lists(&shop.engine).await;
    shop.store.flush().await.expect("flushes");
    conforms(&shop.engine).await;
    describes(&shop.engine).await;
}
