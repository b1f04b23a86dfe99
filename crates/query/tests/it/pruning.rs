//! Filters reach the files: segments by time, row groups by bloom filters, columns by projection.

use plimsoll_otlp::Signal;

use crate::fixture::{Shop, limits, traces};

/// Two segments: requests 0 to 9 before the deploy, 3600 to 3609 an hour later.
async fn two_segments() -> Shop {
    let mut shop = Shop::empty(limits()).await;
    shop.publish(Signal::Traces, &traces(0..10));
    shop.store.flush().await.expect("flushes");
    shop.publish(Signal::Traces, &traces(3_600..3_610));
    shop.store.flush().await.expect("flushes");
    let snapshot = shop.store.snapshot();
    assert_eq!(snapshot.segments(plimsoll_otlp::Table::Spans).len(), 2, "two flushes, two segments");
    shop
}

fn files(plan: &str) -> usize {
    let mut paths: Vec<&str> =
        plan.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.starts_with("seg_")).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.len()
}

#[tokio::test]
async fn segments_outside_the_time_asked_for_are_not_opened() {
    let shop = two_segments().await;
    let plan = async |sql: &str| shop.csv(&format!("EXPLAIN {sql}")).await.expect("explains");
    assert_eq!(files(&plan("SELECT name FROM spans").await), 2);
    let early = "SELECT name FROM spans WHERE start_time < '2023-11-14T22:30:00Z'";
    assert_eq!(files(&plan(early).await), 1, "{}", plan(early).await);
    assert_eq!(shop.rows(early).await, Ok(10));
    let never = "SELECT name FROM spans WHERE start_time BETWEEN '2023-11-14T22:30:00Z' AND '2023-11-14T22:40:00Z'";
    assert_eq!(files(&plan(never).await), 0, "{}", plan(never).await);
    assert_eq!(shop.rows(never).await, Ok(0));
    let nested = "SELECT * FROM span_events WHERE span_start_time < '2023-11-14T22:30:00Z'";
    assert_eq!(files(&plan(nested).await), 1, "{}", plan(nested).await);
}

#[tokio::test]
async fn a_trace_id_becomes_a_filter_on_the_stored_bytes() {
    let shop = two_segments().await;
    let id = "ABABABABABABABAB0000000000000003";
    let sql = format!("SELECT name, duration_ns FROM spans WHERE trace_id = '{id}'");
    assert_eq!(shop.csv(&sql).await.as_deref(), Ok("POST /charge,3000000\n"));
    let plan = shop.csv(&format!("EXPLAIN {sql}")).await.expect("explains");
    let physical = plan.split("physical_plan").nth(1).expect("has a physical plan");
    assert!(physical.contains("predicate=trace_id@"), "{plan}");
    assert!(!physical.contains("hex_id"), "nothing is computed: {plan}");
    assert!(!physical.contains("attributes"), "only what is asked for is read: {plan}");
    let analyzed = shop.csv(&format!("EXPLAIN ANALYZE {sql}")).await.expect("explains");
    assert!(analyzed.contains("row_groups_pruned"), "{analyzed}");
    assert!(analyzed.contains("output_rows=1,"), "{analyzed}");
    let nested = format!("EXPLAIN SELECT * FROM span_events WHERE trace_id = '{id}'");
    assert!(shop.csv(&nested).await.expect("explains").contains("predicate=trace_id@"));
}

#[tokio::test]
async fn an_unfiltered_count_reads_no_row() {
    let shop = two_segments().await;
    let plan = shop.csv("EXPLAIN SELECT count(*) FROM spans").await.expect("explains");
    assert_eq!(files(&plan), 0, "{plan}");
    assert_eq!(shop.csv("SELECT count(*) FROM spans").await.as_deref(), Ok("20\n"));
}

#[tokio::test]
async fn rows_are_seen_once_in_the_tail_and_once_in_a_segment() {
    let mut shop = two_segments().await;
    shop.publish(Signal::Traces, &traces(20..25));
    let sql = "SELECT count(*), count(DISTINCT trace_id), sum(duration_ns) > 0 FROM spans";
    let before = shop.csv(sql).await;
    assert_eq!(before.as_deref(), Ok("25,25,true\n"));
    shop.store.flush().await.expect("flushes");
    assert_eq!(shop.csv(sql).await, before);
}

#[tokio::test]
async fn the_times_around_a_deploy_prune_segments() {
    let mut shop = Shop::open().await;
    shop.store.flush().await.expect("flushes");
    shop.publish(Signal::Traces, &traces(3_600..3_610));
    shop.store.flush().await.expect("flushes");
    let plan = |range: &str| format!("EXPLAIN SELECT trace_id FROM spans_around('dep_payment2', {range})");
    assert_eq!(files(&shop.csv(&plan("'10m', '10m'")).await.expect("explains")), 1);
    assert_eq!(files(&shop.csv(&plan("'10m', '2h'")).await.expect("explains")), 2);
}

#[tokio::test]
async fn a_trace_is_looked_up_in_the_row_groups_that_may_hold_it() {
    let mut shop = Shop::empty(limits()).await;
    // More than a row group.
    shop.publish(Signal::Traces, &traces(0..140_000));
    shop.store.flush().await.expect("flushes");
    shop.publish(Signal::Traces, &traces(200_000..200_010));
    shop.store.flush().await.expect("flushes");
    let id = |number: u64| {
        let id = crate::fixture::trace_id(number);
        id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for number in [0, 1, 70_000, 131_071, 131_072, 139_999, 200_003] {
        let sql = format!("SELECT duration_ns FROM spans WHERE trace_id = '{}'", id(number));
        assert_eq!(shop.csv(&sql).await, Ok(format!("{}\n", (number + 1) * 1_000_000)));
    }
    let explain =
        async |test: &str| shop.csv(&format!("EXPLAIN SELECT name FROM spans WHERE {test}")).await.expect("explains");
    let one = explain(&format!("trace_id = '{}'", id(70_000))).await;
    assert_eq!(files(&one), 1, "{one}");
    let both = explain(&format!("trace_id IN ('{}', '{}')", id(70_000), id(200_003))).await;
    assert_eq!(files(&both), 2, "{both}");
    let none = explain(&format!("trace_id = '{}'", id(300_000))).await;
    assert_eq!(files(&none), 0, "{none}");
    let either = explain(&format!("trace_id = '{}' OR kind = 'server'", id(300_000))).await;
    assert_eq!(files(&either), 2, "{either}");
    let segments = shop.store.snapshot().segments(plimsoll_otlp::Table::Spans);
    let large = segments.iter().find(|segment| segment.rows == 140_000).expect("was flushed");
    assert_eq!(either.matches(&large.path).count(), 2, "its row groups are shared out among threads: {either}");
    assert_eq!(one.matches(&large.path).count(), 1, "and of one there is nothing to share: {one}");
    let several = format!("SELECT count(*) FROM spans WHERE trace_id IN ('{}', '{}', 'nonsense')", id(5), id(200_003));
    assert_eq!(shop.csv(&several).await.as_deref(), Ok("2\n"));
    let many: Vec<String> = (0..40).map(|number| format!("'{}'", id(number * 5_001))).collect();
    let many = format!("SELECT count(*) FROM spans WHERE trace_id IN ({})", many.join(", "));
    assert_eq!(shop.csv(&many).await.as_deref(), Ok("28\n"), "those below 140000");
}
