//! What a query may take, and what happens to the others meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use futures::StreamExt;
use futures::future::join_all;
use plimsoll_otlp::{Signal, Table};
use plimsoll_query::{GiveWay, QueryError, QueryLimits, QueryRequest, SpillLimits, SqlEngine};

use crate::fixture::{Shop, limits, logs, traces};

/// Pairs every row with every other, four times over: far more than any time limit allows.
const ENDLESS: &str = "SELECT count(*) FROM spans a, spans b, spans c, spans d, spans e, spans f \
    WHERE a.duration_ns + b.duration_ns + c.duration_ns + d.duration_ns + e.duration_ns + f.duration_ns < 0";

async fn many(limits: QueryLimits, requests: u64) -> Shop {
    let mut shop = Shop::empty(limits).await;
    for batch in 0..requests / 1_000 {
        shop.publish(Signal::Traces, &traces(batch * 1_000..(batch + 1) * 1_000));
    }
    shop
}

#[tokio::test]
async fn a_query_without_end_stops_at_its_time_limit() {
    let shop = many(limits(), 2_000).await;
    let began = Instant::now();
    let request = QueryRequest { timeout: Some(Duration::from_millis(300)), ..QueryRequest::new(ENDLESS) };
    let error = shop.engine.query(request).await.expect_err("never ends");
    assert!(matches!(&error, QueryError::Exceeded(text) if text.contains("`query.timeout`")), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(shop.rows("SELECT 1").await, Ok(1), "the next query runs");
    wait_until_idle(&shop).await;
}

#[tokio::test]
async fn joins_over_stored_rows_stop_at_their_time_limit_too() {
    let shop = many(limits(), 20_000).await;
    shop.store.flush().await.expect("flushes");
    let one_key = "SELECT count(*) FROM spans a JOIN spans b ON a.name = b.name AND a.duration_ns + b.duration_ns < 0";
    for sql in [ENDLESS, one_key] {
        let request = QueryRequest { timeout: Some(Duration::from_millis(300)), ..QueryRequest::new(sql) };
        let error = shop.engine.query(request).await.expect_err("takes far longer");
        assert!(matches!(&error, QueryError::Exceeded(text) if text.contains("`query.timeout`")), "{sql}: {error:?}");
        wait_until_idle(&shop).await;
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(Instant::now() < give_up, "{what}: not so");
        tokio::task::yield_now().await;
    }
}

/// Waits for the tasks of ended queries to give back what they held.
async fn wait_until_idle(shop: &Shop) {
    until("ended queries give back what they held", || shop.engine.load().0 == 0 && shop.engine.reserved_bytes() == 0)
        .await;
}

#[tokio::test]
async fn a_dropped_stream_cancels_its_query() {
    let shop = many(limits(), 2_000).await;
    let mut result =
        shop.engine.query(QueryRequest::new("SELECT a.trace_id FROM spans a, spans b, spans c")).await.expect("starts");
    result.rows.next().await.expect("has rows").expect("of which one comes");
    assert_eq!(shop.engine.load().0, 1, "it runs");
    drop(result);
    wait_until_idle(&shop).await;
    let unanswered = shop.engine.query(QueryRequest::new(ENDLESS));
    assert!(tokio::time::timeout(Duration::from_millis(100), unanswered).await.is_err());
    wait_until_idle(&shop).await;
}

/// Returns how many hold the columns of a batch of the tail, the caller's own copy left out.
fn holders(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| holders_of(batch, column)).max().expect("has columns")
}

/// How many hold a column besides its batch, in which columns without a value are one array.
fn holders_of(batch: &RecordBatch, column: &ArrayRef) -> usize {
    Arc::strong_count(column) - batch.columns().iter().filter(|other| Arc::ptr_eq(other, column)).count()
}

#[tokio::test]
async fn a_query_holds_of_the_tail_what_it_reads_and_has_not_read_yet() {
    let mut shop = Shop::empty(limits()).await;
    for batch in 0..40 {
        shop.publish(Signal::Traces, &traces(batch * 1_000..(batch + 1) * 1_000));
    }
    shop.publish(Signal::Logs, &logs());
    let spans = shop.store.snapshot().tail(Table::Spans);
    let logs = shop.store.snapshot().tail(Table::Logs);

    let request = QueryRequest::new("SELECT name FROM spans");
    let mut rows = shop.engine.query(request).await.expect("runs").rows;
    let mut seen = rows.next().await.expect("has rows").expect("reads").num_rows();
    assert_eq!(shop.engine.load().0, 1, "waits for its caller");
    shop.store.flush().await.expect("flushes");
    shop.store.folded().await;
    until("what the query does not read is let go of", || holders(&logs[0]) == 0).await;
    let held = || spans.iter().filter(|batch| holders(batch) > 0).count();
    let held_at_first = held();
    assert!(held_at_first > 0, "the rest of the rows is there for it");
    let names: Vec<_> = spans.iter().map(|batch| batch.column_by_name("name").expect("is there")).collect();
    for batch in &spans {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let read = names.iter().any(|name| Arc::ptr_eq(name, column));
            assert!(read || holders_of(batch, column) == 0, "{field} is held and not read");
        }
    }
    while let Some(batch) = rows.next().await {
        seen += batch.expect("reads").num_rows();
        if seen == 36_000 {
            assert!(held() < held_at_first, "what was read is let go of before the end");
        }
    }
    assert_eq!(seen, 40_000);
}

#[tokio::test]
async fn memory_is_bounded_and_the_message_names_the_setting() {
    let shop = many(QueryLimits { memory_bytes: 1 << 20, ..limits() }, 20_000).await;
    let error = shop.error("SELECT * FROM spans ORDER BY duration_ns + 1, trace_id").await;
    assert!(matches!(&error, QueryError::Exceeded(text) if text.contains("`memory.query`")), "{error:?}");
    let error = shop.error("SELECT trace_id, array_agg(name) FROM spans GROUP BY trace_id").await;
    assert!(matches!(&error, QueryError::Exceeded(text) if text.contains("`memory.query`")), "{error:?}");
    assert_eq!(shop.csv("SELECT count(*) FROM spans").await.as_deref(), Ok("20000\n"));
    wait_until_idle(&shop).await;
}

#[tokio::test]
async fn what_does_not_fit_into_memory_spills_within_its_limit_and_is_gone_afterwards() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path().join("spill");
    std::fs::create_dir_all(place.join("left")).expect("can be made");
    std::fs::write(place.join("left/over"), "from an earlier run").expect("can be written");
    let files = |place: &std::path::Path| -> usize {
        let mut open = vec![place.to_owned()];
        let mut count = 0;
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).expect("is there") {
                let entry = entry.expect("readable");
                if entry.file_type().expect("has a type").is_dir() { open.push(entry.path()) } else { count += 1 }
            }
        }
        count
    };
    let sorted =
        "SELECT trace_id, span_id, name, resource_attributes::text FROM spans ORDER BY duration_ns + 1, trace_id";
    let spilling = |bytes_max| QueryLimits {
        // A quarter is kept for footers; the rest is too little for all rows, and enough to merge what was spilled.
        memory_bytes: 32 << 20,
        spill: Some(SpillLimits { directory: place.clone(), bytes_max }),
        ..limits()
    };
    let shop = many(spilling(256 << 20), 80_000).await;
    assert_eq!(files(&place), 0, "what an earlier run left is removed");
    assert_eq!(shop.rows(sorted).await, Ok(80_000));
    let spilled = "SELECT spilled_bytes > 0, memory_peak_bytes > 0, rows, state FROM plimsoll.queries WHERE query LIKE '%ORDER BY duration_ns + 1%' AND state = 'done'";
    assert_eq!(shop.csv(spilled).await.as_deref(), Ok("true,true,80000,done\n"));
    wait_until_idle(&shop).await;
    assert_eq!(files(&place), 0);
}

#[tokio::test]
async fn queries_give_way_while_rows_come_in_faster_than_they_are_written_and_answer_all_the_same() {
    let counted = "SELECT name, count(*), count(DISTINCT trace_id) FROM spans GROUP BY name";
    // The tail of this store is beyond any such limit, or below it.
    for (until_bytes, gives_way) in [(1, true), (1 << 40, false)] {
        let give_way = Some(GiveWay { from_bytes: until_bytes - 1, until_bytes });
        let shop = many(QueryLimits { give_way, ..limits() }, 60_000).await;
        assert_eq!(shop.csv(counted).await.as_deref(), Ok("POST /charge,60000,60000\n"));
        assert_eq!(shop.engine.gave_way() > Duration::ZERO, gives_way, "{:?}", shop.engine.gave_way());
        shop.store.flush().await.expect("flushes");
        let before = shop.engine.gave_way();
        assert_eq!(shop.csv(counted).await.as_deref(), Ok("POST /charge,60000,60000\n"));
        assert_eq!(shop.engine.gave_way(), before, "nothing waits to be written");
    }
}

#[tokio::test]
async fn rows_are_bounded_and_a_part_is_never_passed_off_as_the_whole() {
    let shop = many(QueryLimits { rows_max: 1_500, ..limits() }, 20_000).await;
    let error = shop.error("SELECT trace_id FROM spans").await;
    assert!(matches!(&error, QueryError::Exceeded(text) if text.contains("`query.rows_max`")), "{error:?}");
    assert_eq!(shop.rows("SELECT trace_id FROM spans LIMIT 1500").await, Ok(1_500));
}

#[tokio::test]
async fn a_hundred_heavy_queries_at_once_are_each_answered_or_told_to_wait() {
    let shop = many(QueryLimits { concurrency: 3, ..limits() }, 5_000).await;
    let heavy = "SELECT attributes['retries'], count(*) FROM spans GROUP BY 1 ORDER BY 2 DESC, 1";
    let answers = join_all((0..100).map(|_| shop.rows(heavy))).await;
    let (mut answered, mut busy) = (0, 0);
    for answer in answers {
        match answer {
            Ok(rows) => {
                assert_eq!(rows, 5_000);
                answered += 1;
            }
            Err(QueryError::Busy(text)) => {
                assert!(text.contains("`query.concurrency`"), "{text}");
                busy += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(answered + busy, 100);
    assert!(answered >= 96, "three run and ninety-six may wait: {answered}");
    wait_until_idle(&shop).await;
}

#[tokio::test]
async fn rows_that_nobody_fetches_hold_no_slot_beyond_the_time_limit() {
    let mut shop = many(QueryLimits { concurrency: 1, ..limits() }, 40_000).await;
    shop.publish(Signal::Logs, &logs());
    let short = |sql: &str| QueryRequest { timeout: Some(Duration::from_millis(200)), ..QueryRequest::new(sql) };
    let mut idle = shop.engine.query(short("SELECT trace_id FROM spans")).await.expect("starts");
    assert_eq!(shop.rows("SELECT 1").await, Ok(1), "the slot comes back");
    wait_until_idle(&shop).await;
    let error = loop {
        match idle.rows.next().await.expect("the end is told") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, QueryError::Exceeded(text) if text.contains("fetched") && text.contains("`query.timeout`"))
    );
    assert!(idle.rows.next().await.is_none());
}

#[tokio::test]
async fn a_short_answer_gives_its_slot_back_at_once_and_stays_readable() {
    let shop = many(QueryLimits { concurrency: 1, ..limits() }, 1_000).await;
    let short = QueryRequest {
        timeout: Some(Duration::from_millis(200)),
        ..QueryRequest::new("SELECT name FROM spans LIMIT 10")
    };
    let mut idle = shop.engine.query(short).await.expect("starts");
    let began = Instant::now();
    until("the slot comes back", || shop.engine.load().0 == 0).await;
    until("the time limit is over", || began.elapsed() > Duration::from_millis(500)).await;
    let batch = idle.rows.next().await.expect("has rows").expect("which are there");
    assert_eq!(batch.num_rows(), 10);
    assert!(idle.rows.next().await.is_none(), "and no more");
}

#[tokio::test]
async fn a_query_that_cannot_get_a_slot_in_time_is_told_so() {
    let shop = many(QueryLimits { concurrency: 1, ..limits() }, 2_000).await;
    let holder =
        shop.engine.query(QueryRequest::new("SELECT a.trace_id FROM spans a, spans b, spans c")).await.expect("starts");
    let request = QueryRequest { timeout: Some(Duration::from_millis(100)), ..QueryRequest::new("SELECT 1") };
    let error = shop.engine.query(request).await.expect_err("the slot is taken");
    assert!(matches!(error, QueryError::Busy(_)), "{error:?}");
    drop(holder);
    assert_eq!(shop.rows("SELECT 1").await, Ok(1));
}
