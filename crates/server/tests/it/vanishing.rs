//! Clients that go away in the middle of an answer: their query ends, is told as cancelled, and what it held is free.

use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::StreamExt;
use reqwest::Method;
use serde_json::json;
use tonic::transport::Channel;

use crate::server::Running;

/// Many more rows than anything between the two ends holds.
const LONG: &str = "SELECT a.column_name, b.column_name, c.column_name FROM information_schema.columns a, \
    information_schema.columns b, information_schema.columns c";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs one query at a time: what the last one held, the next cannot have.
async fn server() -> Running {
    let directory = tempfile::tempdir().expect("a temporary directory");
    Running::start_with(directory, |config| config.query.concurrency = 1).await
}

/// Waits until the last query of `source` is no longer running and holds no memory, and gives its state and its rows.
async fn end_of_the_last(server: &Running, source: &str) -> (String, u64) {
    let query = format!(
        "SELECT state, rows, memory_bytes FROM plimsoll.queries WHERE source = '{source}' AND query LIKE '%b.column_name%' \
         AND query NOT LIKE '%plimsoll.queries%' ORDER BY id DESC LIMIT 1"
    );
    let ended = async {
        loop {
            // It waits for the slot that the other query had.
            let (status, answer) = server.post("/api/v1/sql", &json!({ "query": query })).await;
            assert!(status.is_success(), "{answer}");
            let row = &answer["rows"][0];
            // What works for it elsewhere may take a moment more to let go.
            if row[0] != "running" && row[2] == 0 {
                return (row[0].as_str().expect("a state").to_owned(), row[1].as_u64().expect("a number"));
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the slot comes free long before the query would have ended")
}

async fn is_cancelled(server: &Running, source: &str) {
    let (state, rows) = end_of_the_last(server, source).await;
    assert_eq!(state, "cancelled");
    assert!(rows > 0, "it was in the middle of its rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_of_chunks_over_http_cancels_its_query() {
    let server = server().await;
    for accept in ["application/json", "text/csv", "application/vnd.apache.arrow.stream"] {
        let request = server.request(Method::POST, "/api/v1/sql").header("accept", accept);
        let answer = request.json(&json!({ "query": LONG })).send().await.expect("answers");
        assert!(answer.status().is_success());
        let mut chunks = Box::pin(answer.bytes_stream());
        let first = chunks.next().await.expect("a chunk").expect("in good order");
        assert!(!first.is_empty());
        drop(chunks);
        is_cancelled(&server, "http").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_first_chunk_over_http_cancels_its_query() {
    let server = server().await;
    // It finds nothing, and goes on for long.
    let silent = format!(
        "{LONG}, information_schema.columns d WHERE character_length(a.column_name) + character_length(b.column_name) \
         + character_length(c.column_name) + character_length(d.column_name) < 0"
    );
    let request = server.request(Method::POST, "/api/v1/sql").timeout(Duration::from_millis(300));
    let gone = request.json(&json!({ "query": silent })).send().await;
    assert!(gone.is_err_and(|error| error.is_timeout()), "nothing was found to send");
    let (state, rows) = end_of_the_last(&server, "http").await;
    assert_eq!((state.as_str(), rows), ("cancelled", 0));
    server.stop().await;
}

async fn flight(server: &Running) -> FlightSqlServiceClient<Channel> {
    let address = server.server.as_ref().expect("runs").addresses().grpc_api;
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address").connect().await;
    FlightSqlServiceClient::new(channel.expect("connects"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_of_batches_over_flight_cancels_its_query() {
    let server = server().await;
    let mut client = flight(&server).await;
    let mut prepared = client.prepare(LONG.to_owned(), None).await.expect("is prepared");
    let plain = client.execute(LONG.to_owned(), None).await.expect("is planned");
    let bound = prepared.execute().await.expect("is planned");
    for info in [plain, bound] {
        let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
        let mut batches = client.do_get(ticket).await.expect("runs");
        let first = batches.next().await.expect("a batch").expect("in good order");
        assert!(first.num_rows() > 0);
        drop(batches);
        is_cancelled(&server, "flight").await;
    }
    // And with the connection, not only the call.
    let mut other = flight(&server).await;
    let info = other.execute(LONG.to_owned(), None).await.expect("is planned");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let mut batches = other.do_get(ticket).await.expect("runs");
    batches.next().await.expect("a batch").expect("in good order");
    drop((batches, other));
    is_cancelled(&server, "flight").await;
    let metrics = async {
        loop {
            let (_, metrics) = server.get("/metrics").await;
            let metrics = metrics.as_str().expect("text").to_owned();
            let mut lines = metrics.lines().filter(|line| line.contains("face_statements_cancelled"));
            if lines.any(|line| line.contains("\"grpc\"") && line.ends_with(" 3")) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, metrics).await.expect("three are counted as cancelled");
    server.stop().await;
}
