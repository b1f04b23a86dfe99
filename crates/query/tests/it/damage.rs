//! Segments whose files are damaged while the server runs: said, with the path, and never left out of an answer.

use std::fs;
use std::path::Path;

use futures::TryStreamExt;
use plimsoll_otlp::{Signal, Table};
use plimsoll_query::{QueryError, QueryRequest, SqlEngine};

use crate::fixture::{Shop, limits, traces};

/// Stores two segments of spans, damages the file of the first, and returns its path.
async fn damaged(damage: impl Fn(&Path)) -> (Shop, String) {
    let mut shop = Shop::empty(limits()).await;
    for numbers in [0..1_000, 100_000..100_010] {
        shop.publish(Signal::Traces, &traces(numbers));
        shop.store.flush().await.expect("flushes");
    }
    let segments = shop.store.snapshot().segments(Table::Spans);
    assert_eq!(segments.len(), 2);
    let path = segments[0].path.clone();
    damage(&shop.segment_file(&path));
    (shop, path)
}

async fn is_named(shop: &Shop, path: &str, sql: &str) {
    let error = shop.error(sql).await;
    assert!(matches!(&error, QueryError::Unreadable(text) if text.contains(&format!("`{path}`"))), "{sql}: {error:?}");
}

#[tokio::test]
async fn an_answer_from_the_other_segments_is_given_to_those_who_ask_and_says_what_it_does_without() {
    let overwrite = |file: &Path| {
        let mut content = fs::read(file).expect("is there");
        let middle = 4..content.len() / 2;
        content[middle].fill(0x55);
        fs::write(file, content).expect("can be written");
    };
    let gone = |file: &Path| fs::remove_file(file).expect("is there");
    let cases: [&dyn Fn(&Path); 2] = [&overwrite, &gone];
    for damage in cases {
        let (shop, path) = damaged(damage).await;
        for _ in 0..2 {
            let request = QueryRequest {
                allow_missing_segments: true,
                ..QueryRequest::new("SELECT name, duration_ns FROM spans")
            };
            let result = shop.engine.query(request).await.expect("answers from the other");
            assert_eq!(result.missing_segments, std::slice::from_ref(&path));
            let rows: Vec<_> = result.rows.try_collect().await.expect("nothing fails midway");
            assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
        }
        is_named(&shop, &path, READING[0]).await;
        let whole = QueryRequest {
            allow_missing_segments: true,
            ..QueryRequest::new("SELECT * FROM spans WHERE start_time > '2023-11-15T12:00:00Z'")
        };
        assert!(
            shop.engine.query(whole).await.expect("answers").missing_segments.is_empty(),
            "what is not needed is not missed"
        );
    }
}

#[tokio::test]
async fn a_segment_that_was_missing_at_the_start_fails_the_queries_that_need_it() {
    let (shop, path) = damaged(|file| fs::remove_file(file).expect("is there")).await;
    let shop = shop.reopened().await;
    for sql in READING.iter().chain(&["SELECT count(*) FROM spans"]) {
        is_named(&shop, &path, sql).await;
    }
    assert_eq!(shop.rows("SELECT name FROM spans WHERE start_time > '2023-11-15T12:00:00Z'").await, Ok(10));
    let state = "SELECT path, state, rows FROM plimsoll.segments WHERE state = 'missing'";
    assert_eq!(shop.csv(state).await, Ok(format!("{path},missing,1000\n")));
    let request = QueryRequest { allow_missing_segments: true, ..QueryRequest::new("SELECT count(*) FROM spans") };
    let result = shop.engine.query(request).await.expect("answers from the other");
    assert_eq!(result.missing_segments, [path]);
}

const READING: &[&str] = &[
    "SELECT * FROM spans",
    "SELECT sum(duration_ns), count(DISTINCT trace_id), max(name) FROM spans",
    "SELECT * FROM spans WHERE status_code = 'error' ORDER BY start_time",
];

#[tokio::test]
async fn a_segment_cut_short_is_named() {
    for kept in [0, 3, 5_000] {
        let cut = |file: &Path| {
            let content = fs::read(file).expect("is there");
            fs::write(file, &content[..kept.min(content.len() / 2)]).expect("can be written");
        };
        let (shop, path) = damaged(cut).await;
        for sql in READING {
            is_named(&shop, &path, sql).await;
        }
    }
}

#[tokio::test]
async fn a_segment_that_is_gone_is_named_and_other_times_still_answer() {
    let (shop, path) = damaged(|file| fs::remove_file(file).expect("is there")).await;
    for sql in READING {
        is_named(&shop, &path, sql).await;
    }
    let later = "SELECT name FROM spans WHERE start_time > '2023-11-15T12:00:00Z'";
    assert_eq!(shop.rows(later).await, Ok(10));
}

#[tokio::test]
async fn a_segment_with_other_bytes_in_its_middle_is_named() {
    for filler in [0x00, 0x55, 0xff] {
        let overwrite = |file: &Path| {
            let mut content = fs::read(file).expect("is there");
            let middle = 4..content.len() / 2;
            content[middle].fill(filler);
            fs::write(file, content).expect("can be written");
        };
        let (shop, path) = damaged(overwrite).await;
        is_named(&shop, &path, READING[0]).await;
    }
}
