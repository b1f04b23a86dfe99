//! Segments whose files are damaged while the server runs: said, with the path, and never left out of an answer.

use std::fs;
use std::path::Path;

use plimsoll_otlp::{Signal, Table};
use plimsoll_query::QueryError;

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
