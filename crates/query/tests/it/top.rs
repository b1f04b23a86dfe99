//! The first few rows of a table: found without reading the others, and the same that sorting all of them gives.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use plimsoll_otlp::{Signal, Table};
use plimsoll_query::QueryLimits;

use crate::fixture::{STARTED, Shop, limits, traces};

/// Numbers that look random, the same in every run.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Spans whose times and durations have nothing to do with each other: some of the hour from `hour` on.
fn scattered(numbers: std::ops::Range<u64>, hour: u64) -> ExportTraceServiceRequest {
    const HOUR: u64 = 3_600_000_000_000;
    let mut request = traces(numbers);
    for resource in &mut request.resource_spans {
        for (number, span) in resource.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans).enumerate() {
            let luck = mixed(number as u64 + hour * 1_000_000);
            span.start_time_unix_nano = STARTED + hour * HOUR + luck % HOUR;
            // Of a few milliseconds each, so that many are equal.
            span.end_time_unix_nano = span.start_time_unix_nano + (mixed(luck) % 700) * 1_000_000;
        }
    }
    request
}

/// Three segments, the first of several pages, and rows in the tail; their times overlap.
async fn shop() -> Shop {
    shop_of(limits()).await
}

async fn shop_of(limits: QueryLimits) -> Shop {
    let mut shop = Shop::empty(limits).await;
    for (numbers, hour) in [(0..40_000, 0), (40_000..45_000, 0), (45_000..50_000, 1)] {
        shop.publish(Signal::Traces, &scattered(numbers, hour));
        shop.store.flush().await.expect("flushes");
    }
    shop.publish(Signal::Traces, &scattered(50_000..50_100, 1));
    assert_eq!(shop.store.snapshot().segments(Table::Spans).len(), 3);
    shop
}

const SHOWN: &str = "start_time, span_id, duration_ns, status_code, http_route, attributes['retries'] AS retries";
const FILTERS: &[&str] = &[
    "",
    "WHERE status_code = 'error'",
    "WHERE attributes['http.route'] LIKE '%char%' AND duration_ns > 300000000",
    "WHERE service_version = '2.0.0' AND kind = 'server' AND http_route IS NOT NULL",
    "WHERE start_time < '2023-11-14T22:20:00Z'",
    "WHERE attributes['retries'] = 17",
    "WHERE parent_span_id IS NULL",
    "WHERE name = 'nothing is called so'",
];
const ORDERS: &[&str] = &[
    "start_time DESC",
    "start_time",
    "duration_ns DESC",
    "duration_ns NULLS FIRST",
    "end_time DESC NULLS LAST",
    "http_response_status_code DESC",
    "http_response_status_code DESC NULLS LAST",
];

#[tokio::test]
async fn the_first_rows_are_those_that_sorting_all_of_them_gives_first() {
    let shop = shop().await;
    for filter in FILTERS {
        for order in ORDERS {
            let all = shop.csv(&format!("SELECT {SHOWN} FROM spans {filter} ORDER BY {order}, span_id")).await;
            let all = all.expect("answers");
            let all: Vec<&str> = all.lines().collect();
            for (limit, offset) in [(1, 0), (7, 0), (60, 11), (3_000, 0)] {
                let some = format!(
                    "SELECT {SHOWN} FROM spans {filter} ORDER BY {order}, span_id LIMIT {limit} OFFSET {offset}"
                );
                let some = shop.csv(&some).await.expect("answers");
                let wanted: Vec<&str> = all.iter().skip(offset).take(limit).copied().collect();
                assert_eq!(some.lines().collect::<Vec<_>>(), wanted, "{filter} {order} {limit} {offset}");
            }
        }
    }
}

#[tokio::test]
async fn where_one_column_decides_its_values_are_those_that_sorting_gives_first() {
    let shop = shop().await;
    for filter in FILTERS {
        for order in ORDERS {
            let key = order.split(' ').next().expect("a column");
            let all = shop.csv(&format!("SELECT {key} FROM spans {filter} ORDER BY {order}")).await.expect("answers");
            let some = format!("SELECT {key}, span_id FROM spans {filter} ORDER BY {order} LIMIT 50");
            let some = shop.csv(&some).await.expect("answers");
            let keys: Vec<&str> = some.lines().map(|row| row.split_once(',').expect("two columns").0).collect();
            assert_eq!(
                keys,
                all.lines().take(50).map(|key| key.trim_matches('"')).collect::<Vec<_>>(),
                "{filter} {order}"
            );
            let mut spans: Vec<&str> = some.lines().map(|row| row.split_once(',').expect("two columns").1).collect();
            spans.sort_unstable();
            spans.dedup();
            assert_eq!(spans.len(), keys.len(), "no row twice");
        }
    }
}

fn figure(plan: &str, name: &str) -> u64 {
    let found = plan.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("{name} is told: {plan}"));
    let digits: String = found.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[tokio::test]
async fn only_the_pages_that_can_hold_a_row_of_the_answer_are_read() {
    // A second thread would begin with the second best page before the first one has found anything.
    let shop = shop_of(QueryLimits { threads: 1, ..limits() }).await;
    let sql = "SELECT start_time, http_route, attributes FROM spans ORDER BY start_time DESC LIMIT 5";
    let plan = shop.csv(&format!("EXPLAIN {sql}")).await.expect("explains");
    assert!(plan.contains("TopScanExec: fetch=5, order=[start_time@"), "{plan}");
    assert!(plan.contains("DESC], over DataSourceExec"), "{plan}");
    let analyzed = shop.csv(&format!("EXPLAIN ANALYZE {sql}")).await.expect("explains");
    assert_eq!(figure(&analyzed, "pages_read"), 1, "the newest segment has one page: {analyzed}");
    assert_eq!(figure(&analyzed, "pages_considered"), 1, "the others are not opened: {analyzed}");
    let first = "EXPLAIN ANALYZE SELECT start_time, http_route FROM spans ORDER BY start_time LIMIT 5";
    let analyzed = shop.csv(first).await.expect("explains");
    assert!(figure(&analyzed, "pages_read") < figure(&analyzed, "pages_considered"), "{analyzed}");
}

#[tokio::test]
async fn sorts_of_what_is_not_stored_or_not_a_number_read_everything() {
    let shop = shop().await;
    for sql in [
        "SELECT span_id FROM spans ORDER BY duration_ns % 7, span_id LIMIT 3",
        "SELECT span_id FROM spans ORDER BY name, span_id LIMIT 3",
        "SELECT span_id FROM spans ORDER BY start_time LIMIT 20000",
        "SELECT start_time FROM (SELECT start_time FROM spans LIMIT 3) ORDER BY start_time LIMIT 2",
    ] {
        let plan = shop.csv(&format!("EXPLAIN {sql}")).await.expect("explains");
        assert!(!plan.contains("TopScanExec"), "{plan}");
    }
    let nested =
        "SELECT count(*), min(start_time) FROM (SELECT start_time FROM spans ORDER BY start_time DESC LIMIT 9)";
    let newest = "SELECT start_time FROM spans ORDER BY start_time DESC LIMIT 9";
    let ninth = shop.csv(newest).await.expect("answers").lines().last().map(str::to_owned).expect("nine rows");
    assert_eq!(shop.csv(nested).await, Ok(format!("9,{ninth}\n")));
}

#[tokio::test]
async fn a_search_twice_in_one_query_finds_the_same_twice() {
    let shop = shop().await;
    let newest = "SELECT span_id FROM spans WHERE status_code = 'error' ORDER BY start_time DESC LIMIT 20";
    let both = format!("SELECT count(*), count(DISTINCT span_id) FROM (({newest}) UNION ALL ({newest}))");
    assert_eq!(shop.csv(&both).await.as_deref(), Ok("40,20\n"));
    let joined =
        format!("WITH newest AS ({newest}) SELECT count(*) FROM newest a JOIN newest b ON a.span_id = b.span_id");
    assert_eq!(shop.csv(&joined).await.as_deref(), Ok("20\n"));
}
