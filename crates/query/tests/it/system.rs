//! The schema `plimsoll`: what the server tells of itself.

use futures::StreamExt;
use plimsoll_query::{QueryError, QueryRequest, SqlEngine};

use crate::fixture::Shop;

const QUERIES: &str =
    "SELECT state, source, rows, error IS NOT NULL FROM plimsoll.queries WHERE query LIKE '%/* it */' ORDER BY id";

#[tokio::test]
async fn queries_are_listed_with_how_they_went() {
    let shop = Shop::open().await;
    let listed = async || shop.csv(QUERIES).await.expect("lists");
    let run = async |sql: &str| {
        let request = QueryRequest { source: "test", ..QueryRequest::new(format!("{sql} /* it */")) };
        shop.engine.query(request).await
    };
    let mut result = run("SELECT * FROM spans").await.expect("starts");
    while let Some(batch) = result.rows.next().await {
        batch.expect("is read");
    }
    assert!(matches!(run("SELECT nonsense FROM spans").await, Err(QueryError::Invalid(_))));
    let open = run("SELECT a.name FROM spans a, spans b, spans c, spans d").await.expect("starts");
    let now = listed().await;
    assert_eq!(running(&now).lines().count(), 1, "{now}");
    assert_eq!(now, "done,test,20,false\nfailed,test,0,true\n".to_owned() + &running(&now));
    drop(open);
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !listed().await.contains("cancelled,test") {
        assert!(std::time::Instant::now() < give_up, "{}", listed().await);
        tokio::task::yield_now().await;
    }
}

/// Returns the line of the query that is still running: how many rows it has sent depends on how far it got.
fn running(listed: &str) -> String {
    listed.lines().filter(|line| line.starts_with("running,test,")).map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn segments_and_tail_are_listed_as_they_are() {
    let shop = Shop::open().await;
    let segments = "SELECT table_name, state, rows, bytes > 0, time_from < time_to FROM plimsoll.segments ORDER BY 1";
    assert_eq!(shop.csv(segments).await.as_deref(), Ok(""));
    shop.store.flush().await.expect("flushes");
    let expected =
        "logs,live,6,true,true\nmetrics,live,3,true,true\noperations,live,3,true,true\nspans,live,20,true,true\n";
    assert_eq!(shop.csv(segments).await.as_deref(), Ok(expected));
    assert_eq!(shop.csv("SELECT count(*) FROM plimsoll.journal").await.as_deref(), Ok("0\n"), "no journal here");
}
