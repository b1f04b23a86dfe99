//! What any engine behind the port must do; run here over the embedded one.

use futures::StreamExt;
use plimsoll_query::{QueryError, QueryRequest, SqlEngine};
use serde_json::json;

use crate::fixture::Shop;

/// Checks one engine that answers over the shop's rows.
async fn conforms(engine: &dyn SqlEngine) {
    let run = async |sql: &str, params: Vec<serde_json::Value>| {
        let request = QueryRequest { sql: sql.to_owned(), params, timeout: None };
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
    assert!(matches!(run("SELECT $1", vec![json!([1])]).await, Err(QueryError::Invalid(_))), "a list is no parameter");
    assert!(matches!(run("DROP TABLE spans", vec![]).await, Err(QueryError::Refused(_))), "writes are refused");
    assert!(matches!(run("SELECT nonsense FROM spans", vec![]).await, Err(QueryError::Invalid(_))), "unknown names");
    let hostile = "x' OR 'a' = 'a";
    assert_eq!(run("SELECT * FROM spans WHERE name = $1", vec![json!(hostile)]).await, Ok(0), "values are never SQL");
}

#[tokio::test]
async fn the_embedded_engine_conforms_before_and_after_a_flush() {
    let shop = Shop::open().await;
    conforms(&shop.engine).await;
    shop.store.flush().await.expect("flushes");
    conforms(&shop.engine).await;
}
